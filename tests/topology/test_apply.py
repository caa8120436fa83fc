"""Configuration as code: all of a file or nothing, each error in its place, an export that changes nothing."""

import copy
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from gateway.audit import WriteOutsideChangeSet, change_set, current_revision
from gateway.models import API, Change, ChangeSet, Endpoint, Port, Registration
from identity.models import ACL, Certificate, Group, Keystore, Truststore, User
from tests import minting
from tests.relay.conftest import forum_pki, forum_topology

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="session")
def pki() -> dict[str, minting.Minted]:
    return forum_pki() | {"locked": minting.mint("CN=locked")}


class File:
    """A configuration file in a folder with its certificates; `say` runs apply and gives what was printed."""

    def __init__(self, folder: Path, pki: dict[str, minting.Minted]) -> None:
        self.folder, self.pki = folder, pki
        (folder / "pki").mkdir()
        for name, minted in pki.items():
            (folder / "pki" / f"{name}.pem").write_text(minted.chain_pem)
            (folder / "pki" / f"{name}.key").write_text(minted.key_pem)
        self.topology = forum_topology(9)

    def entry(self, section: str, name: str) -> dict[str, Any]:
        return next(entry for entry in self.topology[section] if entry["name"] == name)

    def say(self, *options: str, text: str | None = None) -> str:
        path = self.folder / "topology.yaml"
        path.write_text(yaml.safe_dump(self.topology, sort_keys=False) if text is None else text)
        out = StringIO()
        call_command("apply", *options, str(path), stdout=out, stderr=out)
        return out.getvalue()

    def errors(self, *options: str, text: str | None = None) -> str:
        """What apply complains of; nothing was changed."""
        before, out = current_revision(), StringIO()
        path = self.folder / "topology.yaml"
        path.write_text(yaml.safe_dump(self.topology, sort_keys=False) if text is None else text)
        with pytest.raises(CommandError, match="Nothing was changed"):
            call_command("apply", *options, str(path), stdout=out, stderr=out)
        assert current_revision() == before
        return out.getvalue()


@pytest.fixture
def file(tmp_path: Path, pki: dict[str, minting.Minted]) -> File:
    return File(tmp_path, pki)


def test_a_whole_file_is_stored(file: File) -> None:
    file.say()
    assert Certificate.objects.get(name="alice").user == User.objects.get(name="alice")
    assert Port.objects.get(name="ext").registration_port == Port.objects.get(name="reg")
    assert Endpoint.objects.get(name="basic").open_password() == "correct horse battery"
    assert Keystore.objects.get(name="edge-client").open_private_key().decode() == file.pki["edge-client"].key_pem
    assert Port.objects.get(name="dial").connect.get().registration == Registration.objects.get()


def test_the_same_file_again_changes_nothing(file: File) -> None:
    file.say("--prune")
    before = ChangeSet.objects.count()
    assert "Nothing to change" in file.say("--prune")
    assert ChangeSet.objects.count() == before


def test_an_export_applied_again_changes_nothing_and_holds_no_secret(file: File) -> None:
    file.say()
    out = StringIO()
    call_command("export", stdout=out)
    text = out.getvalue()
    for secret in ("PRIVATE KEY", "correct horse", "scrypt$"):
        assert secret not in text
    assert "Nothing to change" in file.say("--prune", text=text)


def test_an_export_is_refused_where_another_secret_is_stored(file: File) -> None:
    file.say()
    out = StringIO()
    call_command("export", stdout=out)
    file.entry("endpoints", "basic")["password"] = "another horse battery"
    file.say()
    assert "endpoints[basic].password: another password is stored" in file.errors(text=out.getvalue())


def test_a_dry_run_tells_and_changes_nothing(file: File) -> None:
    file.say()
    file.topology["users"].append({"name": "erin", "groups": ["Partners"]})
    file.entry("ports", "ext")["explain"] = True
    file.topology["apis"] = [a for a in file.topology["apis"] if a["name"] != "caller"]
    said = [line for line in file.say("--prune", "--dry-run").splitlines() if not line.startswith("warning")]
    assert said[0] == "- apis caller", "removals first"
    assert "+ users erin" in said
    assert "~ ports ext" in said
    assert "    explain: (none) → True" in said
    assert not User.objects.filter(name="erin").exists()
    assert API.objects.filter(name="caller").exists()


def test_prune_deletes_what_the_file_lacks_but_what_is_predefined(file: File) -> None:
    file.say()
    file.topology = {"version": 1}
    file.say()
    assert User.objects.filter(name="alice").exists(), "without --prune nothing goes"
    file.say("--prune")
    assert set(User.objects.values_list("name", flat=True)) == {"Default"}
    assert set(Group.objects.values_list("name", flat=True)) == {"Everybody", "Anonymous", "Administrators"}
    assert set(ACL.objects.values_list("name", flat=True)) == {"Anonymous", "Default", "Administrators"}
    assert not Port.objects.exists()


def test_a_renamed_port_keeps_its_address(file: File) -> None:
    file.say("--prune")
    file.entry("ports", "https")["name"] = "inside-https"
    file.say("--prune")
    assert Port.objects.get(name="inside-https").bind == file.entry("ports", "inside-https")["bind"]


def test_what_is_still_used_is_not_deleted(file: File) -> None:
    file.say()
    file.topology["truststores"] = file.topology["truststores"][1:]
    file.entry("ports", "ext")["tls"] = {"keystore": "edge-server"}
    file.entry("ports", "ext")["client_auth"] = "password"
    said = file.errors("--prune")
    assert "there is no truststore" in said or "still used by" in said


Change_ = Callable[[File], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda f: f.entry("ports", "ext").update(registration_port="regg"),
                     'ports[ext].registration_port: there is no port "regg"; did you mean "reg"?', id="dangling"),
        pytest.param(lambda f: f.entry("ports", "ext").update(clientauth="require"),
                     "ports[ext].clientauth: there is no such field; did you mean", id="unknown-field"),
        pytest.param(lambda f: f.topology.update(portz=[]), "portz: there is no such section", id="unknown-section"),
        pytest.param(lambda f: f.entry("ports", "ext").pop("registration_port"),
                     "ports[ext].registration_port: An external port needs its registration port.", id="no-pair"),
        pytest.param(lambda f: f.entry("ports", "reg").update(bind=f.entry("ports", "ext")["bind"]),
                     "two ports cannot share an address", id="two-ports-on-one-address"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(allowed=["Partner"]),
                     'acls[PartnerApi].allowed: there is no group "Partner"; did you mean "Partners"?', id="no-group"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(denied=["Partners"]), "allowed and denied at once",
                     id="allowed-and-denied"),
        pytest.param(lambda f: f.entry("users", "alice").update(groups=["Everybody"]), "membership follows",
                     id="fixed-membership"),
        pytest.param(lambda f: f.entry("users", "batch").update(password="short"), "users[batch].password:",
                     id="a-short-password"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(user="Default"),
                     "certificates[alice].user: A certificate cannot be mapped to Default", id="mapped-to-Default"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate="pki/none.pem"),
                     "certificates[alice].certificate: pki/none.pem cannot be read", id="no-file"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate="pki/alice.key"), "private key",
                     id="a-key-for-a-certificate"),
        pytest.param(lambda f: f.entry("keystores", "edge-server").update(private_key="pki/alice.key"),
                     "does not belong to", id="a-key-that-does-not-match"),
        pytest.param(lambda f: f.entry("endpoints", "certificate").pop("keystore"), "needs a keystore",
                     id="no-keystore"),
        pytest.param(lambda f: f.entry("endpoints", "anonymous").update(keystore="edge-client"), "would have no effect",
                     id="a-keystore-without-effect"),
        pytest.param(lambda f: f.entry("endpoints", "direct").update(identity="caller"), "Use reverse://",
                     id="caller-over-https"),
        pytest.param(lambda f: f.entry("endpoints", "caller").update(url="reverse://ext/orders"),
                     "is a port of type external", id="reverse-to-no-registration-port"),
        pytest.param(lambda f: f.entry("services", "orders:whoami").update(backend="http://x"),
                     "exactly one of the two", id="backend-and-builtin"),
        pytest.param(lambda f: f.entry("services", "orders:whoami").update(path="/a/../b"), "not in normal form",
                     id="a-path-that-is-not-normal"),
        pytest.param(lambda f: f.entry("ports", "ext").update(wait="soon"), "must be a duration", id="no-duration"),
        pytest.param(lambda f: f.entry("ports", "ext").update(ip_access={"deny": ["10.0.0.1/8"]}), "is no network",
                     id="host-bits-set"),
        pytest.param(lambda f: f.entry("ports", "ext").update(limits={"requests": 0}), "must be at least 1",
                     id="a-limit-out-of-range"),
        pytest.param(lambda f: f.topology["users"].append({"name": "a b"}), "Use letters, digits", id="an-unsafe-name"),
        pytest.param(lambda f: f.topology["users"].append({"name": "alice"}), "users[alice].name: is given twice",
                     id="a-name-given-twice"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(node="edge"),
                     "only an internal node dials in", id="an-edge-that-dials"),
        pytest.param(lambda f: f.entry("ports", "ext").update(bind="gateway"), "'gateway' needs a port",
                     id="no-address"),
        pytest.param(lambda f: f.topology.update(version=2), "version: 1 is understood", id="another-version"),
        pytest.param(lambda f: f.topology["acls"].append({"name": "Default", "allowed": ["Partners"]}),
                     "predefined and keeps its groups", id="a-predefined-ACL-changed"),
    ],
)  # fmt: skip
def test_an_error_names_entry_field_and_cause(file: File, change: Change_, said: str) -> None:
    change(file)
    assert said in file.errors()


def test_every_error_is_told_at_once(file: File) -> None:
    file.entry("ports", "ext")["wait"] = "soon"
    file.entry("certificates", "alice")["usage"] = "ssl"
    said = file.errors()
    assert "ports[ext].wait" in said
    assert "certificates[alice].usage" in said


def test_what_is_no_yaml_is_told_by_line(file: File) -> None:
    assert "line 3, column 1" in file.errors(text="version: 1\nports: [\n")
    assert "is given twice" in file.errors(text="version: 1\nusers: []\nusers: []\n")


def test_an_encrypted_key_needs_its_pass_phrase(file: File) -> None:
    (file.folder / "pki" / "locked.key").write_text(file.pki["locked"].key_pem_with("open sesame"))
    entry = {"name": "locked", "certificate": "pki/locked.pem", "private_key": "pki/locked.key"}
    file.topology["keystores"].append(entry)
    assert "The key is encrypted" in file.errors()
    entry["private_key_password"] = "wrong"
    said = file.errors()
    assert "does not open this key" in said
    assert "wrong" not in said.replace("does not open", "")
    entry["private_key_password"] = "open sesame"
    file.say()
    assert Keystore.objects.filter(name="locked").exists()


def test_revocation_lists_are_stored_with_their_truststore(file: File) -> None:
    der = minting.crl(file.pki["partner-ca"], [file.pki["stranger"]])
    (file.folder / "pki" / "partners.crl").write_bytes(der)
    file.entry("truststores", "partners").update(crls="pki/partners.crl", revocation="soft")
    file.say()
    store = Truststore.objects.get(name="partners")
    assert store.revocation == "soft"
    assert bytes(store.crls.get().der) == der
    assert "Nothing to change" in file.say()


def test_warnings_tell_what_is_lawful_but_odd(file: File) -> None:
    assert "warning: registrations[inside-at-reg]: without may_assert" in file.say()


# --- the audit log --------------------------------------------------------------------------------------


def test_every_object_is_recorded_before_and_after(file: File) -> None:
    file.say()
    file.entry("users", "alice")["groups"] = ["Partners", "Gateways"]
    file.say()
    change = Change.objects.get(kind="users", name="alice", action="changed")
    assert (change.before["groups"], change.after["groups"]) == (["Partners"], ["Gateways", "Partners"])
    assert change.change_set.actor == "apply"


def test_no_secret_is_recorded(file: File) -> None:
    file.say()
    for change in Change.objects.all():
        for entry in (change.before, change.after):
            assert "PRIVATE KEY" not in str(entry)
            assert "correct horse" not in str(entry)
            assert "scrypt$" not in str(entry)
    keystore = Change.objects.get(kind="keystores", name="edge-client")
    assert set(keystore.after["private_key"]) == {"kept"}


def test_a_write_outside_a_change_set_is_refused() -> None:
    with pytest.raises(WriteOutsideChangeSet):
        Group(name="Silent").save()
    assert not Group.objects.filter(name="Silent").exists()


def test_a_change_set_that_fails_leaves_nothing() -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop), change_set("tests", "stops halfway"):
        Group(name="Half").save()
        raise Stop
    assert not Group.objects.filter(name="Half").exists()
    assert not ChangeSet.objects.exists()


def test_what_was_recorded_is_never_rewritten(file: File) -> None:
    from django.db import DatabaseError, transaction

    from gateway.models import AppendOnlyError

    file.say()
    row = ChangeSet.objects.first()
    assert row is not None
    row.message = "nothing happened"
    with pytest.raises(AppendOnlyError):
        row.save()
    with pytest.raises(AppendOnlyError):
        row.delete()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        ChangeSet.objects.filter(pk=row.pk).update(message="nothing happened")


def test_a_file_may_be_changed_and_changed_back(file: File) -> None:
    file.say("--prune")
    original = copy.deepcopy(file.topology)
    file.topology = {"version": 1, "groups": [{"name": "Partners", "description": "gone soon"}]}
    file.say("--prune")
    file.topology = original
    file.say("--prune")
    assert "Nothing to change" in file.say("--prune")
