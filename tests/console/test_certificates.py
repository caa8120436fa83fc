"""Uploading, previewing and mapping certificates, as an operator does it."""

import html
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.certificate_preview import Preview, examine, preview, proposed_name
from gateway.models import Change
from identity.core import certificates
from identity.core.certificates import pem_of
from identity.core.files import certificates_from
from identity.models import Certificate
from tests.factories import (
    CertificateFactory,
    ExternalPortFactory,
    InternalPortFactory,
    KeystoreFactory,
    OperatorFactory,
    TruststoreFactory,
    UserFactory,
    partner_ca,
)
from tests.identity.forging import with_sha1
from tests.minting import Minted, authority, crl, mint

pytestmark = pytest.mark.django_db


@pytest.fixture
def security(client: Client) -> Client:
    """A client that is logged in as somebody who may change identity."""
    client.force_login(OperatorFactory(role="security"))
    return client


def upload(client: Client, data: bytes | str) -> Any:
    """As a file where it is bytes, as pasted text where it is text."""
    name, value = (
        ("certificate_file", SimpleUploadedFile("partner.cer", data))
        if isinstance(data, bytes)
        else ("certificate", data)
    )
    return client.post(reverse("certificates-add"), {name: value})


def save(client: Client, minted: Minted, **more: Any) -> Any:
    given = {"pem": minted.chain_pem, "name": "orders", "user": "", "usage": "ssl_authentication", "description": ""}
    return client.post(reverse("certificates-add"), given | more)


def words(found: Preview, mark: str) -> str:
    return " ".join(finding.text for finding in found.findings if finding.mark == mark)


def test_a_certificates_page_leads_to_the_upload_of_its_renewal(security: Client) -> None:
    row = CertificateFactory(name="carol")
    link = f"{reverse('certificates-add')}?renews=carol"
    assert link in security.get(reverse("certificates-edit", args=[row.pk])).content.decode()
    page = security.get(link).content.decode()
    assert "Upload the renewal of carol" in page
    assert row.subject in page


class TestTheTwoSteps:
    def test_a_preview_shows_the_certificate_and_stores_nothing(self, security: Client) -> None:
        minted = mint("CN=orders,O=Example Logistics", partner_ca(), san=["dns:orders.partner.example"])
        page = upload(security, minted.pem)
        shown = html.unescape(page.content.decode())
        assert page.status_code == 200
        for expected in ("CN=orders, O=Example Logistics", "dns:orders.partner.example", "CN=Partner CA, O=Acme",
                         "client authentication", "EC P-256", "29 days left"):  # fmt: skip
            assert expected in shown, expected
        sha256 = minted.certificate.sha256.upper()
        assert ":".join(sha256[i : i + 2] for i in range(0, 64, 2)) in shown
        assert page.context["form"]["name"].value() == "orders"
        assert not Certificate.objects.exists()

    @pytest.mark.parametrize("as_file", [True, False], ids=["as-a-file", "pasted"])
    def test_pem_and_der_and_text_lead_to_the_same_preview(self, security: Client, as_file: bool) -> None:
        minted = mint("CN=orders", partner_ca())
        page = upload(security, minted.der if as_file else minted.pem)
        assert page.context["preview"].certificate == minted.certificate

    def test_what_was_previewed_is_stored_and_mapped_when_it_is_saved(self, security: Client) -> None:
        user, minted = UserFactory(name="partner_two"), mint("CN=orders", partner_ca())
        page = upload(security, minted.pem)
        pem = page.context["form"]["pem"].value()
        saved = save(security, minted, pem=pem, user=str(user.pk))
        row = Certificate.objects.get()
        assert saved.status_code == 302
        assert saved.url == reverse("certificates-edit", args=[row.pk])
        assert (row.name, row.user, row.sha256) == ("orders", user, minted.certificate.sha256)
        change = Change.objects.filter(kind="certificates").get()
        assert change.after["user"] == "partner_two"

    def test_saving_may_lead_on_to_a_test_invoke_with_it(self, security: Client) -> None:
        saved = save(security, mint("CN=orders", partner_ca()), then_test="1")
        assert saved.url == f"{reverse('invoke')}?certificate={Certificate.objects.get().pk}"

    def test_of_a_chain_the_leaf_is_stored_and_its_issuers_help_to_judge_it(self, security: Client) -> None:
        between = authority("CN=Issuing CA,O=Acme", partner_ca())
        leaf = mint("CN=orders", between)
        ExternalPortFactory()
        page = upload(security, leaf.chain_pem)
        assert "by way of 1 intermediate" in words(page.context["preview"], "good")
        pem = page.context["form"]["pem"].value()
        assert pem == pem_of(certificates_from(leaf.chain_pem.encode())), "the issuers are carried to the second step"
        save(security, leaf, pem=pem)
        assert Certificate.objects.get().sha256 == leaf.certificate.sha256

    def test_what_the_browser_sends_back_is_read_again_before_it_is_believed(self, security: Client) -> None:
        minted = mint("CN=orders", partner_ca())
        damaged = save(security, minted, pem=minted.pem.replace("MII", "XII", 1))
        assert damaged.status_code == 302
        assert damaged.url == reverse("certificates-add")
        with_key = save(security, minted, pem=minted.pem + minted.key_pem)
        assert with_key.url == reverse("certificates-add")
        assert not Certificate.objects.exists()

    def test_a_name_that_is_taken_is_said_at_the_field_and_the_preview_stays(self, security: Client) -> None:
        CertificateFactory(name="orders")
        page = save(security, mint("CN=orders", partner_ca()))
        assert page.status_code == 422
        assert "name" in page.context["form"].errors
        assert page.context["preview"].certificate.title == "CN=orders"
        assert Certificate.objects.count() == 1

    def test_a_certificate_that_is_on_file_cannot_be_stored_twice(self, security: Client) -> None:
        minted = mint("CN=orders", partner_ca())
        row = CertificateFactory(name="first", minted=minted, user=UserFactory(name="alice"))
        page = upload(security, minted.pem)
        assert page.context["preview"].on_file == row
        assert "on file already as first, mapped to alice" in words(page.context["preview"], "note")
        forced = save(security, minted, name="second")
        assert forced.status_code == 422
        assert "on file already, as first, mapped to alice" in forced.content.decode()

    def test_nobody_can_be_mapped_to_default(self, security: Client) -> None:
        page = upload(security, mint("CN=orders", partner_ca()).pem)
        offered = [str(label) for _, label in page.context["form"].fields["user"].choices]
        assert offered == ["nobody yet"]


BAD = {
    "nothing": (b"", "Choose a file"),
    "not-a-certificate": (b"<html>moved</html>", "This is not a certificate"),
    "trailing-rubbish": (lambda m: m.pem.encode() + b"rubbish", "Something follows the last certificate"),
    "trailing-bytes": (lambda m: m.der + b"\x00\x00", "2 bytes follow the certificate"),
    "cut-short": (lambda m: m.der[:-9], "ends in the middle"),
    "ten-megabytes": (b"\x30" * 10_000_000, "The file has 10,000,000 bytes; at most 1,048,576"),
    "a-private-key": (lambda m: m.key_pem.encode(), "holds a private key"),
    "both-in-one": (lambda m: (m.pem + m.key_pem).encode(), "holds a private key"),
    "several-unrelated": (lambda m: (m.pem + mint("CN=other").pem).encode(), "2 certificates that are no chain"),
}


class TestBadInput:
    @pytest.mark.parametrize(("data", "expected"), BAD.values(), ids=BAD.keys())
    def test_is_refused_with_a_reason_and_nothing_is_stored_or_logged(
        self, security: Client, caplog: pytest.LogCaptureFixture, data: Any, expected: str
    ) -> None:
        minted = mint("CN=orders", partner_ca())
        content = data(minted) if callable(data) else data
        with caplog.at_level(logging.DEBUG):
            page = upload(security, content)
        assert page.status_code == 422
        assert expected in html.unescape(page.content.decode())
        assert not Certificate.objects.exists()
        secret = minted.key_pem.splitlines()[1]
        assert secret not in caplog.text

    def test_a_private_key_that_was_pasted_is_not_shown_again(self, security: Client) -> None:
        minted = mint("CN=orders", partner_ca())
        page = upload(security, minted.key_pem)
        assert "holds a private key" in page.content.decode()
        assert minted.key_pem.splitlines()[1] not in page.content.decode()

    def test_a_text_with_a_slip_in_it_is_shown_again(self, security: Client) -> None:
        page = upload(security, "-----BEGIN CERTIFICATE-----\nhalf of it")
        assert "half of it" in page.content.decode()


class TestFindings:
    def test_a_truststore_that_ports_use_believes_it(self) -> None:
        store = TruststoreFactory(name="partners")
        ExternalPortFactory(name="ext", tls_truststore=store)
        InternalPortFactory(name="dial", client_truststore=store)
        found = preview(mint("CN=orders", partner_ca(), days=(-1, 90)).certificate)
        assert "Chains to truststore partners. Ports that ask by it: dial, ext." in words(found, "good")
        assert found.worst == "good"

    def test_a_truststore_that_no_port_uses_is_no_help(self) -> None:
        TruststoreFactory(name="spare")
        found = preview(mint("CN=orders", partner_ca()).certificate)
        assert "Chains to truststore spare. No port uses it." in words(found, "note")
        assert "no truststore that a port uses" in words(found, "bad")

    def test_an_authority_of_the_same_name_is_not_the_same(self) -> None:
        ExternalPortFactory(name="ext", tls_truststore=TruststoreFactory(name="partners"))
        found = preview(mint("CN=orders", authority("CN=Partner CA,O=Acme")).certificate)
        assert "It does not chain to truststore partners" in words(found, "bad")

    @pytest.mark.parametrize(
        ("made", "mark", "expected"),
        [
            pytest.param({"days": (-90, -12)}, "bad", "It has ended: it ended 12 days ago", id="expired"),
            pytest.param({"days": (2, 30)}, "bad", "It is not valid yet", id="not-yet-valid"),
            pytest.param({"days": (-1, 6.5)}, "note", "It ends in 6 days", id="ends-soon"),
            pytest.param({"purpose": "server"}, "bad", "for server authentication, not for client", id="for-servers"),
            pytest.param({"purpose": "none"}, "note", "names no purpose", id="names-no-purpose"),
            pytest.param(
                {"key": "rsa1024"},
                "bad",
                "Every port refuses it: its key is RSA 1024; RSA below 2048 is refused",
                id="weak-key",
            ),
            pytest.param({"authority": True}, "bad", "an authority is no client", id="an-authority"),
        ],
    )
    def test_what_is_wrong_with_it_is_said(self, made: dict[str, Any], mark: str, expected: str) -> None:
        ExternalPortFactory()
        assert expected in words(preview(mint("CN=orders", partner_ca(), **made).certificate), mark)

    def test_sha1_is_refused_with_these_words(self) -> None:
        old = certificates.from_der(with_sha1(mint("CN=orders", partner_ca()).der, partner_ca()))
        assert "Ports refuse it: it is signed with SHA-1; SHA-1 is refused." in words(preview(old), "bad")

    def test_one_that_has_ended_is_still_told_whose_it_was(self) -> None:
        issuer = authority("CN=Old CA,O=Acme", days=(-400, 30))
        ExternalPortFactory(tls_truststore=TruststoreFactory(name="partners", anchors=[issuer]))
        found = preview(mint("CN=orders", issuer, days=(-90, -12)).certificate)
        assert "Chains to truststore partners" in words(found, "good")

    def test_a_revoked_one_is_told_from_an_unknown_one(self) -> None:
        from gateway.audit import change_set
        from identity.models import RevocationList

        leaf, store = mint("CN=orders", partner_ca()), TruststoreFactory(name="partners")
        ExternalPortFactory(tls_truststore=store)
        with change_set("tests", "a revocation list"):
            row = RevocationList(truststore=store, der=crl(partner_ca(), [leaf]))
            row.full_clean()
            row.save()
        assert "is refused: CN=Partner CA, O=Acme has revoked CN=orders" in words(preview(leaf.certificate), "bad")

    def test_a_renewal_names_what_it_renews_and_for_whom(self, security: Client) -> None:
        names = {"san": ["dns:orders.partner.example"]}
        old = mint("CN=orders,O=Example", partner_ca(), days=(-300, 6.5), **names)
        user = UserFactory(name="partner_two")
        CertificateFactory(name="orders", minted=old, user=user)
        TruststoreFactory()
        new = mint("CN=orders,O=Example", partner_ca(), days=(-1, 365), **names)
        page = upload(security, new.pem)
        found = page.context["preview"]
        assert "Renews a certificate on file: same subject and names as orders, mapped to partner_two, " in words(
            found, "note"
        )
        assert "which ends in 6 days" in words(found, "note")
        assert page.context["form"]["user"].value() == user.pk, "its user is proposed"
        other_names = mint("CN=orders,O=Example", partner_ca(), san=["dns:else.example"])
        assert preview(other_names.certificate).renews is None

    @pytest.mark.parametrize(
        ("make", "doubt"),
        [
            pytest.param(lambda: mint("CN=Orders,O=EXAMPLE", partner_ca(), san=["dns:a.example"]), "",
                         id="names-are-compared-as-X.500-values"),
            pytest.param(lambda: mint("CN=orders,O=Example", partner_ca()), "its alternative names are none, not dns:a",
                         id="other-names"),
            pytest.param(lambda: mint("CN=orders,O=Example", authority("CN=Other CA"), san=["dns:a.example"]),
                         "its issuer is CN=Other CA, not CN=Partner CA, O=Acme", id="another-authority"),
            pytest.param(lambda: mint("CN=orders,O=Example", authority("CN=Partner CA,O=Acme"), san=["dns:a.example"]),
                         "another of the same name may have signed it", id="a-namesake-of-the-authority"),
        ],
    )  # fmt: skip
    def test_what_speaks_against_a_renewal_is_said_and_nothing_is_proposed_then(self, make: Any, doubt: str) -> None:
        TruststoreFactory()
        row = CertificateFactory(name="old", minted=mint("CN=orders,O=Example", partner_ca(), san=["dns:a.example"]))
        found = preview(make().certificate)
        assert found.candidates == (row,)
        assert found.renews == (None if doubt else row)
        assert doubt in words(found, "note")

    @pytest.mark.parametrize("subject", ["CN=orders,O=Other", "CN=orders,O=Example,OU=x", "O=Example", "CN=orders-2"])
    def test_another_subject_is_no_renewal(self, subject: str) -> None:
        CertificateFactory(name="old", minted=mint("CN=orders,O=Example", partner_ca()))
        assert preview(mint(subject, partner_ca()).certificate).candidates == ()

    def test_a_keystore_that_holds_its_key_is_named(self) -> None:
        pair = mint("CN=api-gateway", partner_ca())
        KeystoreFactory(name="edge-client", minted=pair)
        assert "Keystore edge-client holds it" in words(preview(pair.certificate), "note")

    @pytest.mark.parametrize(
        ("row", "mark", "expected"),
        [
            pytest.param({}, "note", "mapped to nobody", id="unmapped"),
            pytest.param({"mapped": {}}, "good", "It is mapped to user alice.", id="mapped"),
            pytest.param({"mapped": {"enabled": False}}, "bad", "Its user alice is disabled", id="disabled-user"),
            pytest.param({"mapped": {}, "blocked": True}, "bad", "It is blocked", id="blocked"),
            pytest.param({"mapped": {}, "usage": "verify"}, "note", "for another use", id="for-another-use"),
        ],
    )
    def test_of_one_on_file_it_is_told_whom_it_means(self, row: dict[str, Any], mark: str, expected: str) -> None:
        row = dict(row)
        if "mapped" in row:
            row["user"] = UserFactory(name="alice", **row.pop("mapped"))
        found = examine(CertificateFactory(**row))
        assert expected in words(found, mark)
        assert "on file already" not in words(found, "note")


@pytest.mark.parametrize(
    ("subject", "taken", "expected"),
    [
        pytest.param("CN=orders", [], "orders", id="its-common-name"),
        pytest.param("CN=Büro & Söhne", [], "B-ro-S-hne", id="made-safe"),
        pytest.param("CN=orders", ["orders"], "orders-{year}", id="told-apart-by-its-year"),
        pytest.param("CN=orders", ["orders", "orders-{year}"], "orders-{year}-2", id="then-by-a-number"),
        pytest.param("O=Acme", [], "certificate-{sha}", id="no-common-name"),
    ],
)
def test_a_name_is_proposed_that_is_safe_and_free(subject: str, taken: list[str], expected: str) -> None:
    minted = mint(subject, partner_ca())
    place = {"year": minted.x509.not_valid_after_utc.year, "sha": minted.certificate.sha256[:8]}
    for name in taken:
        CertificateFactory(name=name.format(**place))
    assert proposed_name(minted.certificate) == expected.format(**place)


class TestReplacing:
    @pytest.fixture
    def old(self) -> Certificate:
        TruststoreFactory()
        minted = mint("CN=orders,O=Example", partner_ca(), days=(-300, 90))
        return CertificateFactory(name="orders", minted=minted, user=UserFactory(name="alice"))

    @pytest.fixture
    def new(self) -> Minted:
        return mint("CN=orders,O=Example", partner_ca(), days=(-1, 365))

    def test_is_proposed_with_its_user_and_an_overlap(self, security: Client, old: Certificate, new: Minted) -> None:
        form = upload(security, new.pem).context["form"]
        assert form["replaces"].value() == old.pk
        assert form["user"].value() == old.user.pk
        assert form["old_until"].value() == timezone.localdate() + timedelta(days=30)

    def test_both_log_in_until_the_day_is_over(self, security: Client, old: Certificate, new: Minted) -> None:
        day = timezone.localdate() + timedelta(days=7)
        saved = save(security, new, name="orders-new", replaces=str(old.pk), old_until=day.isoformat())
        assert saved.status_code == 302
        old.refresh_from_db()
        assert old.logs_in_until == datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC)
        assert Certificate.objects.get(name="orders-new").user == old.user, "it runs as the same user"
        kinds = list(Change.objects.filter(kind="certificates", change_set__message__contains="orders-new"))
        assert {change.name for change in kinds} == {"orders", "orders-new"}, "one change, or none"
        assert "It logs in until" in words(examine(old), "note")

    @pytest.mark.parametrize(
        ("more", "field", "expected"),
        [
            pytest.param({"old_until": "2020-01-01"}, "old_until", "That day is over", id="a-day-that-is-over"),
            pytest.param({"usage": "verify"}, "usage", "Choose the same", id="another-usage"),
            pytest.param({"user": "bob"}, "user", "orders runs as alice", id="another-user"),
        ],
    )
    def test_what_contradicts_it_is_refused(
        self, security: Client, old: Certificate, new: Minted, more: dict[str, str], field: str, expected: str
    ) -> None:
        if "user" in more:
            more = {"user": str(UserFactory(name="bob").pk)}
        page = save(security, new, name="orders-new", **{"replaces": str(old.pk), **more})
        assert page.status_code == 422
        assert expected in " ".join(page.context["form"].errors[field])
        old.refresh_from_db()
        assert old.logs_in_until is None

    def test_only_what_may_be_renewed_can_be_named(self, security: Client, old: Certificate, new: Minted) -> None:
        other = CertificateFactory(name="other")
        page = save(security, new, name="orders-new", replaces=str(other.pk))
        assert "replaces" in page.context["form"].errors

    def test_nothing_need_be_replaced(self, security: Client, old: Certificate, new: Minted) -> None:
        assert save(security, new, name="orders-new", old_until="2099-01-01").status_code == 302
        old.refresh_from_db()
        assert old.logs_in_until is None

    def test_when_its_time_is_over_that_is_told(self, old: Certificate) -> None:
        old.logs_in_until = datetime.now(UTC) - timedelta(hours=1)
        assert "logs nobody in any more" in words(examine(old), "bad")


class TestUsages:
    def test_one_certificate_may_be_on_file_once_for_each(self, security: Client) -> None:
        minted = mint("CN=orders", partner_ca())
        CertificateFactory(name="login", minted=minted, user=UserFactory(name="alice"))
        page = upload(security, minted.pem)
        assert "For another usage" in page.content.decode()
        assert save(security, minted, name="signing", usage="verify").status_code == 302
        twice = save(security, minted, name="signing-2", usage="verify")
        assert twice.status_code == 422
        assert "once for each usage" in twice.content.decode()
        assert Certificate.objects.speaking_for(minted.certificate.sha256).name == "login"

    def test_a_key_that_came_along_is_not_kept_and_that_is_said(self, security: Client) -> None:
        minted = mint("CN=orders", partner_ca())
        sealed = serialization.BestAvailableEncryption(b"pw")
        data = pkcs12.serialize_key_and_certificates(b"a", minted.key, minted.x509, None, sealed)
        typed = {"certificate_file": SimpleUploadedFile("a.p12", data), "password": "pw"}
        page = security.post(reverse("certificates-add"), typed)
        assert "The private key in the file was not kept" in page.content.decode()
        assert "PRIVATE KEY" not in page.content.decode()
        assert page.context["preview"].certificate == minted.certificate


class TestItsPage:
    def test_the_mapping_can_be_changed_and_taken_away(self, security: Client) -> None:
        alice, bob = UserFactory(name="alice"), UserFactory(name="bob")
        row = CertificateFactory(name="orders", user=alice)
        page = reverse("certificates-edit", args=[row.pk])
        given = {"name": "orders", "usage": "ssl_authentication", "description": ""}
        assert security.post(page, given | {"user": str(bob.pk)}).status_code == 302
        row.refresh_from_db()
        assert row.user == bob
        assert security.post(reverse("certificates-unmap", args=[row.pk])).status_code == 302
        row.refresh_from_db()
        assert row.user is None
        actions = Change.objects.filter(object_id=str(row.pk)).values_list("before__user", "after__user")
        assert ("alice", "bob") in actions
        assert ("bob", None) in actions

    def test_it_can_be_blocked_and_unblocked(self, security: Client) -> None:
        row = CertificateFactory()
        security.post(reverse("certificates-block", args=[row.pk]))
        row.refresh_from_db()
        assert row.blocked
        assert "blocked" in security.get(reverse("certificates-edit", args=[row.pk])).content.decode()
        security.post(reverse("certificates-unblock", args=[row.pk]))
        row.refresh_from_db()
        assert not row.blocked

    def test_its_pem_can_be_had(self, security: Client) -> None:
        minted = mint("CN=orders", partner_ca())
        row = CertificateFactory(minted=minted)
        answer = security.get(reverse("certificates-pem", args=[row.pk]))
        assert answer.content.decode() == minted.pem
        assert answer["Content-Disposition"].startswith("attachment")

    def test_it_can_be_deleted(self, security: Client) -> None:
        row = CertificateFactory()
        assert security.post(reverse("certificates-delete", args=[row.pk])).status_code == 302
        assert not Certificate.objects.exists()

    @pytest.mark.parametrize("action", ["unmap", "block", "unblock", "delete"])
    def test_a_viewer_looks_and_changes_nothing(self, client: Client, action: str) -> None:
        client.force_login(OperatorFactory(role="viewer"))
        row = CertificateFactory(user=UserFactory())
        assert client.get(reverse("certificates-edit", args=[row.pk])).status_code == 200
        assert client.post(reverse(f"certificates-{action}", args=[row.pk])).status_code == 403
        assert client.get(reverse("certificates-add")).status_code == 403
        row.refresh_from_db()
        assert row.user is not None

    def test_a_link_does_not_change_anything(self, security: Client) -> None:
        row = CertificateFactory(user=UserFactory())
        assert security.get(reverse("certificates-unmap", args=[row.pk])).status_code == 405


class TestTheList:
    @pytest.fixture
    def rows(self) -> dict[str, Certificate]:
        return {
            "orders": CertificateFactory(
                name="orders",
                minted=mint("CN=orders,O=Example Logistics", partner_ca(), san=["dns:orders.partner.example"]),
                user=UserFactory(name="partner_two"),
            ),
            "stranger": CertificateFactory(name="stranger", blocked=True),
            "old": CertificateFactory(
                name="old", minted=mint("CN=old", partner_ca(), days=(-30, -1)), user=UserFactory(name="erin")
            ),
        }

    def names(self, client: Client, **parameters: str) -> set[str]:
        page = client.get(reverse("certificates-list"), parameters)
        return {row.name for row in page.context["page"]}

    @pytest.mark.parametrize("text", ["orders", "Example Logistics", "orders.partner.example", "partner_two"])
    def test_is_searched_by_what_is_known_of_it(
        self, security: Client, rows: dict[str, Certificate], text: str
    ) -> None:
        assert self.names(security, q=text) == {"orders"}

    def test_finds_a_fingerprint_however_it_was_printed(self, security: Client, rows: dict[str, Certificate]) -> None:
        sha256 = rows["orders"].sha256
        colons = ":".join(sha256[i : i + 2] for i in range(0, 64, 2)).upper()
        assert self.names(security, q=sha256) == {"orders"}
        assert self.names(security, q=sha256.upper()[-16:]) == {"orders"}
        assert self.names(security, q=colons) == {"orders"}
        assert self.names(security, q=colons.replace(":", " ")) == {"orders"}
        assert self.names(security, q=rows["orders"].serial) == {"orders"}

    @pytest.mark.parametrize(
        ("show", "expected"),
        [("mapped", {"orders", "old"}), ("unmapped", {"stranger"}), ("blocked", {"stranger"}), ("expired", {"old"})],
    )
    def test_is_filtered(self, security: Client, rows: dict[str, Certificate], show: str, expected: set[str]) -> None:
        assert self.names(security, show=show) == expected

    def test_takes_as_many_queries_for_many_as_for_few(
        self, security: Client, django_assert_max_num_queries: Any
    ) -> None:
        for _ in range(12):
            CertificateFactory(user=UserFactory())
        with django_assert_max_num_queries(10):
            security.get(reverse("certificates-list"))
