"""What is lawful but odd is told, and stored all the same."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from gateway.models import ChangeSet
from tests import minting
from tests.identity.forging import forge
from tests.topology.conftest import Change, File, exported

pytestmark = pytest.mark.django_db


def test_what_is_in_order_is_not_warned_of(small: File) -> None:
    assert small.run()[1] == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").pop("may_assert"),
                     "registrations[inside-at-reg]: without may_assert the edge may speak for every", id="no-limit"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(may_assert={}),
                     "registrations[inside-at-reg].may_assert: names neither", id="a-limit-of-nothing"),
        pytest.param(lambda f: (f.topology.update(registrations=[]), f.topology["ports"].pop(2)),
                     "ports[ext].registration_port: nobody may register at reg yet", id="no-registration"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(enabled=False),
                     "ports[ext].registration_port: nobody may register at reg yet", id="a-disabled-registration"),
        pytest.param(lambda f: f.entry("ports", "dial").pop("connect"),
                     "ports[dial].connect: is missing, and so the port dials nowhere", id="dials-nowhere"),
        pytest.param(lambda f: f.entry("ports", "dial").update(client_auth="password"),
                     "ports[ext].client_auth: is request, and dial behind it has password; callers' certificates",
                     id="certificates-do-not-get-through"),
        pytest.param(lambda f: f.entry("ports", "dial").update(client_auth="require"),
                     "ports[ext].client_auth: is request, and dial behind it has require; callers without",
                     id="others-do-not-get-through"),
        pytest.param(lambda f: f.entry("ports", "plain").update(bind="0.0.0.0:8080"),
                     "ports[plain]: takes passwords without TLS", id="passwords-without-tls"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(allowed=[]), "acls[PartnerApi]: allows nobody",
                     id="allows-nobody"),
        pytest.param(lambda f: f.entry("certificates", "bob").update(certificate="pki/old.pem"),
                     "certificates[bob]: expired on ", id="an-expired-certificate"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(certificate="pki/old.pem"),
                     "registrations[inside-at-reg].certificate: expired on ", id="an-expired-node"),
        pytest.param(lambda f: f.topology["keystores"].append(
                         {"name": "old", "certificate": "pki/old.pem", "private_key": "pki/old.key"}),
                     "keystores[old].certificate: expired on ", id="an-expired-keystore"),
        pytest.param(lambda f: f.topology["truststores"].append({"name": "t", "certificates": "pki/old.pem"}),
                     "truststores[t].certificates: CN=old expired on ", id="an-expired-authority"),
        pytest.param(lambda f: f.topology["truststores"].append({"name": "t", "certificates": "pki/alice.pem"}),
                     "truststores[t].certificates: CN=alice, O=Partner One is no authority", id="no-authority"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(
                         crls=minting.crl_pem(f.pki["partner-ca"], days=(-9, -1)).decode()),
                     "truststores[partners].crls: the list of CN=Partner CA, O=Acme ran out on ", id="an-old-list"),
        pytest.param(lambda f: f.topology["truststores"].append({"name": "t", "certificates": forge(
                         "Old Root", authority=True, basic=(x509.BasicConstraints(True, None), False)).pem}),
                     "truststores[t].certificates: CN=Old Root is of no use here, and nothing that it issues is "
                     "believed: its basic constraints must be marked critical, and are not.", id="an-old-root"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(
                         crls=minting.crl_pem(f.pki["server-ca"]).decode()),
                     "truststores[partners].crls: CN=Server CA, O=Acme is no authority of it",
                     id="a-list-of-an-authority-that-callers-send"),
    ],
)  # fmt: skip
def test_a_warning_tells_what_is_odd(small: File, change: Change, said: str) -> None:
    change(small)
    _, warnings = small.run()
    assert f"warning: {said}" in warnings
    assert ChangeSet.objects.count() == 1, "and it is stored"


@pytest.mark.parametrize(
    ("section", "name", "field"),
    [("certificates", "alice", "certificate"), ("truststores", "partners", "certificates")],
)
def test_a_key_that_came_along_is_told_of_and_kept_nowhere(small: File, section: str, name: str, field: str) -> None:
    minted = small.pki["alice" if section == "certificates" else "partner-ca"]
    data = pkcs12.serialize_key_and_certificates(
        None, minted.key, minted.x509, None, serialization.BestAvailableEncryption(b"pw")
    )
    (small.folder / "pki" / "both.p12").write_bytes(data)
    small.entry(section, name)[field] = {"file": "pki/both.p12", "password": "pw"}
    _, warnings = small.run()
    assert (
        f"warning: {section}[{name}].{field}: pki/both.p12: it holds a private key too, which was not kept" in warnings
    )
    assert "PRIVATE KEY" not in exported()


def test_what_is_disabled_is_not_warned_of(small: File) -> None:
    small.entry("ports", "plain").update(bind="0.0.0.0:8080", enabled=False)
    small.entry("certificates", "bob").update(certificate="pki/old.pem", blocked=True)
    assert small.run()[1] == ""
