"""What a file says is stored: all of it or nothing, in whatever order, and nothing else changes."""

import copy
import io
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from gateway.audit import change_set, current_revision
from gateway.models import API, ChangeSet, Endpoint, Port, Registration, Service
from identity.models import ACL, Certificate, Group, Keystore, MappingRule, Truststore, User
from tests import minting
from tests.topology.conftest import File, exported, small_topology

pytestmark = pytest.mark.django_db


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


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("version: 1\ngroups: [{name: Partners}]\n"))
    call_command("apply", "-", stdout=io.StringIO())
    assert Group.objects.filter(name="Partners").exists()


def test_the_message_tells_which_file(small: File) -> None:
    small.say("--prune")
    made = ChangeSet.objects.get()
    assert (made.actor, made.message) == ("apply", "topology.yaml applied, what it lacks deleted")


def test_inline_pem_stands_in_place_of_a_path(small: File) -> None:
    small.say()
    pem, key = small.pki["edge-server"].chain_pem, small.pki["edge-server"].key_pem
    small.entry("keystores", "server").update(certificate=pem, private_key=key)
    small.entry("certificates", "alice")["certificate"] = small.pki["alice"].pem
    small.entry("truststores", "partners")["certificates"] = [small.pki["partner-ca"].pem]
    assert "Nothing to change" in small.say("--prune")


def test_a_der_file_is_read_too(small: File) -> None:
    (small.folder / "pki" / "alice.pem").write_bytes(small.pki["alice"].der)
    small.say()
    assert bytes(Certificate.objects.get(name="alice").der) == small.pki["alice"].der


def test_of_a_chain_the_leaf_counts_and_a_keystore_keeps_it_all(small: File) -> None:
    small.entry("certificates", "alice")["certificate"] = "pki/below.pem"
    small.entry("keystores", "server").update(certificate="pki/below.pem", private_key="pki/below.key")
    small.say()
    assert Certificate.objects.get(name="alice").sha256 == small.pki["below"].certificate.sha256
    assert len(Keystore.objects.get(name="server").certificates) == 2


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("2m", 120.0), ("1.5s", 1.5), (7, 7.0), (0.25, 0.25), ("1h", 3600.0)],
)
def test_durations(small: File, written: object, seconds: float) -> None:
    small.entry("services", "orders")["timeout"] = written
    small.say()
    assert Service.objects.get(name="orders").timeout == seconds
    assert "Nothing to change" in small.say("--prune", text=exported())


def test_a_registration_port_requires_certificates_unless_it_says_otherwise(small: File) -> None:
    small.say()
    assert Port.objects.get(name="reg").client_auth == "require"


def test_predefined_objects_may_stand_in_the_file_unchanged(small: File) -> None:
    small.topology["users"].append({"name": "Default"})
    small.topology["groups"].append({"name": "Everybody"})
    small.topology["acls"].append({"name": "Default", "allowed": ["Everybody"], "denied": ["Anonymous"]})
    small.say("--prune")
    assert "Nothing to change" in small.say("--prune")


# --- dry run, prune ---


def test_a_dry_run_tells_and_changes_nothing(file: File) -> None:
    file.say()
    file.topology["users"].append({"name": "erin", "groups": ["Partners"]})
    file.entry("ports", "ext")["explain"] = True
    file.topology["apis"] = [a for a in file.topology["apis"] if a["name"] != "caller"]
    out, err = file.run("--prune", "--dry-run")
    assert out.splitlines() == [
        "- apis caller",
        "+ users erin",
        "~ ports ext",
        "    explain: (none) → true",
        "3 would change; nothing was changed.",
    ]
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert not User.objects.filter(name="erin").exists()
    assert API.objects.filter(name="caller").exists()


def test_a_dry_run_makes_no_revision(small: File) -> None:
    small.say("--dry-run")
    assert current_revision() == 0
    assert not Port.objects.exists()
    assert not ChangeSet.objects.exists()


def test_a_dry_run_finds_the_same_errors(small: File) -> None:
    small.entry("ports", "ext")["wait"] = "soon"
    assert "ports[ext].wait: must be a duration" in small.errors("--dry-run")


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


def test_prune_deletes_what_was_made_elsewhere(small: File) -> None:
    small.say()
    with change_set("olivia", "a group by hand"):
        Group(name="ByHand").save()
    assert "- groups ByHand" in small.say("--prune")


def test_what_is_still_used_is_not_deleted(small: File) -> None:
    small.say()
    small.topology["groups"] = [{"name": "Staff"}]
    small.topology["users"][0].pop("groups")
    small.topology["registrations"][0].pop("may_assert")
    assert small.errors("--prune") == ("groups[Partners]: cannot be deleted: still used by acls[PartnerApi]\n")


def test_a_service_that_a_port_lists_is_not_deleted(small: File) -> None:
    small.say()
    small.topology["services"] = small.topology["services"][1:]
    assert small.errors("--prune") == "services[orders]: cannot be deleted: still used by ports[dial]\n"


# --- whatever the order ---


def test_a_renamed_port_keeps_its_address(small: File) -> None:
    small.say("--prune")
    small.entry("ports", "plain")["name"] = "renamed"
    small.say("--prune")
    assert Port.objects.get(name="renamed").bind == "127.0.0.1:8080"


def test_two_ports_change_their_addresses(small: File) -> None:
    small.say()
    small.entry("ports", "ext")["bind"], small.entry("ports", "reg")["bind"] = "127.0.0.1:8444", "127.0.0.1:8443"
    small.entry("ports", "dial")["connect"][0]["address"] = "127.0.0.1:8443"
    said = small.say("--prune")
    assert "    bind: 127.0.0.1:8443 → 127.0.0.1:8444" in said
    assert Port.objects.get(name="reg").bind == "127.0.0.1:8443"
    assert "Nothing to change" in small.say("--prune")


def test_two_services_change_their_paths(small: File) -> None:
    small.say()
    small.entry("services", "orders")["path"], small.entry("services", "status")["path"] = "/status", "/orders"
    small.say("--prune")
    assert Service.objects.get(name="orders").path == "/status"
    assert Service.objects.get(name="status").path == "/orders"


def test_two_entries_change_their_certificates(small: File) -> None:
    small.say()
    one, other = small.entry("certificates", "alice"), small.entry("certificates", "bob")
    one["certificate"], other["certificate"] = other["certificate"], one["certificate"]
    small.say("--prune")
    for name, minted in (("alice", "bob"), ("bob", "alice")):
        assert Certificate.objects.get(name=name).sha256 == small.pki[minted].certificate.sha256


def test_a_renamed_service_takes_its_path_and_its_place_on_the_ports_list(small: File) -> None:
    small.say()
    small.entry("services", "orders")["name"] = "renamed"
    small.entry("ports", "dial")["service_access"] = {"allow": ["renamed"]}
    small.say("--prune")
    assert Service.objects.get(name="renamed").path == "/orders"


def test_a_renamed_registration_port_takes_all_that_names_it_along(small: File) -> None:
    small.say()
    small.entry("ports", "reg")["name"] = "renamed"
    small.entry("ports", "ext")["registration_port"] = "renamed"
    small.entry("registrations", "inside-at-reg")["port"] = "renamed"
    small.entry("endpoints", "caller")["url"] = "reverse://renamed/orders"
    small.say("--prune")
    assert Port.objects.get(name="ext").registration_port == Port.objects.get(name="renamed")


def test_what_stands_aside_for_another_comes_back_when_nothing_was_done(small: File) -> None:
    small.say()
    small.entry("services", "orders")["path"] = "/status"
    said = small.errors()
    assert "services[orders]" in said
    assert Service.objects.get(name="orders").path == "/orders"
    assert Service.objects.get(name="status").path == "/status"


def test_a_group_moves_from_allowed_to_denied(small: File) -> None:
    small.say()
    small.entry("acls", "PartnerApi").update(allowed=["Staff"], denied=["Partners"])
    small.say()
    acl = ACL.objects.get(name="PartnerApi")
    assert (acl.allowed.get().name, acl.denied.get().name) == ("Staff", "Partners")


def test_sections_and_entries_stand_in_any_order(small: File) -> None:
    small.topology = dict(reversed(small.topology.items()))
    for entries in small.topology.values():
        if isinstance(entries, list):
            entries.reverse()
    small.say()
    small.topology = small_topology()
    assert "Nothing to change" in small.say("--prune")


def test_a_file_may_be_changed_and_changed_back(small: File) -> None:
    small.say("--prune")
    original, before = copy.deepcopy(small.topology), exported()
    small.topology = {"version": 1, "groups": [{"name": "Partners", "description": "gone soon"}]}
    small.say("--prune")
    small.topology = original
    small.say("--prune")
    assert "Nothing to change" in small.say("--prune")
    assert [line for line in exported().splitlines() if "kept" not in line] == [
        line for line in before.splitlines() if "kept" not in line
    ]


# --- secrets, revocation lists, rules ---


def test_an_encrypted_key_needs_its_pass_phrase(small: File) -> None:
    (small.folder / "pki" / "locked.key").write_text(small.pki["locked"].key_pem_with("open sesame"))
    entry = {"name": "locked", "certificate": "pki/locked.pem", "private_key": "pki/locked.key"}
    small.topology["keystores"].append(entry)
    assert "keystores[locked].private_key: The key is encrypted; give its pass phrase" in small.errors()
    entry["private_key_password"] = "wrong horse"
    said = small.errors()
    assert "does not open this key" in said
    assert "wrong horse" not in said
    entry["private_key_password"] = "open sesame"
    small.say()
    assert "Nothing to change" in small.say()


def test_a_password_is_changed_and_taken_away(small: File) -> None:
    small.entry("users", "bob")["password"] = "a first password"
    small.say()
    before = User.objects.get(name="bob").password_hash
    small.say()
    assert User.objects.get(name="bob").password_hash == before, "the same password is hashed once"
    small.entry("users", "bob")["password"] = "a second password"
    assert "    password: (secret " in small.say()
    assert User.objects.get(name="bob").has_password("a second password")
    del small.entry("users", "bob")["password"]
    small.say()
    assert User.objects.get(name="bob").password_hash == ""


def test_a_secret_whose_master_key_is_lost_is_told_and_can_be_deleted(small: File, settings: object) -> None:
    small.say()
    settings.POSTERN_MASTER_KEY = b"another master key of 32 bytes.."  # type: ignore[attr-defined]
    assert "keystores[server]: what is stored cannot be opened" in small.errors()
    assert "kept: cannot be opened" in exported()
    small.say("--prune", text="version: 1\n")
    small.say()
    assert Keystore.objects.get(name="server").open_private_key().decode() == small.pki["edge-server"].key_pem


def test_files_of_every_kind_are_read_wherever_there_is_a_certificate(small: File) -> None:
    """PKCS#12 with its password, PKCS#7, and chains in any order."""
    sealed, pki = serialization.BestAvailableEncryption(b"pw of the file"), small.folder / "pki"
    server, alice, ca = (small.pki[name] for name in ("edge-server", "alice", "partner-ca"))
    (pki / "server.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(b"a", server.key, server.x509, [small.pki["server-ca"].x509], sealed)
    )
    (pki / "alice.p12").write_bytes(pkcs12.serialize_key_and_certificates(b"a", alice.key, alice.x509, None, sealed))
    (pki / "ca.p7b").write_bytes(pkcs7.serialize_certificates([ca.x509], serialization.Encoding.DER))
    (pki / "upside-down.pem").write_text(small.pki["server-ca"].pem + small.pki["inside-client"].pem)
    small.entry("keystores", "server").update(
        certificate="pki/server.p12", private_key=None, private_key_password="pw of the file"
    )
    small.entry("certificates", "alice")["certificate"] = {"file": "pki/alice.p12", "password": "pw of the file"}
    small.entry("registrations", "inside-at-reg")["certificate"] = "pki/upside-down.pem"
    small.entry("truststores", "partners")["certificates"] = "pki/ca.p7b"
    told = small.say()
    assert "pw of the file" not in told
    row = Keystore.objects.get(name="server")
    assert row.open_private_key().decode() == server.key_pem
    assert row.certificates == (server.certificate, small.pki["server-ca"].certificate)
    assert Certificate.objects.get(name="alice").sha256 == alice.certificate.sha256
    assert Registration.objects.get().sha256 == small.pki["inside-client"].certificate.sha256
    assert "Nothing to change" in small.say()
    small.entry("certificates", "alice")["certificate"]["password"] = "wrong one"
    problem = small.errors()
    assert "certificates[alice].certificate: pki/alice.p12: The password does not open this PKCS#12 file" in problem
    assert "wrong one" not in problem


def test_a_renewal_is_put_beside_and_dropped(small: File) -> None:
    small.say()
    small.entry("keystores", "server")["next"] = {"certificate": "pki/bob.pem", "private_key": "pki/bob.key"}
    small.say()
    assert Keystore.objects.get(name="server").renewal == "ready"
    assert "Nothing to change" in small.say()
    small.entry("keystores", "server")["next"] = {}
    small.say()
    assert Keystore.objects.get(name="server").renewal == ""


def test_revocation_lists_are_stored_with_their_truststore(small: File) -> None:
    der = minting.crl(small.pki["partner-ca"], [small.pki["stranger"]])
    (small.folder / "pki" / "partners.crl").write_bytes(der)
    small.entry("truststores", "partners").update(crls="pki/partners.crl", revocation="soft")
    small.say()
    store = Truststore.objects.get(name="partners")
    assert store.revocation == "soft"
    assert bytes(store.crls.get().der) == der
    assert "Nothing to change" in small.say()
    newer = minting.crl(small.pki["partner-ca"], [small.pki["stranger"], small.pki["alice"]])
    (small.folder / "pki" / "partners.crl").write_bytes(newer)
    small.say()
    assert bytes(store.crls.get().der) == newer


def test_a_large_revocation_list_is_taken(small: File) -> None:
    """Lists are larger than certificates: they have a limit of their own."""
    crl = b"# as printed by a tool\n" * 2**16 + minting.crl_pem(small.pki["partner-ca"])
    assert len(crl) > 2**20
    (small.folder / "pki" / "partners.crl").write_bytes(crl)
    small.entry("truststores", "partners")["crls"] = ["pki/partners.crl"]
    small.say()
    assert Truststore.objects.get(name="partners").crls.count() == 1


def test_a_rule_follows_its_issuer_to_a_new_key(small: File) -> None:
    small.topology["mapping_rules"] = [{"name": "all", "issuer": "CN=Partner CA,O=Acme", "user": "alice"}]
    small.say()
    renewed = minting.authority("CN=Partner CA,O=Acme")
    (small.folder / "pki" / "partner-ca.pem").write_text(renewed.pem)
    said = small.say()
    assert "~ mapping_rules all" in said
    assert MappingRule.objects.get().issuer_spki_sha256 == renewed.certificate.spki_sha256


def test_a_database_that_is_not_migrated_is_told(small: File) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE gateway_api RENAME TO gateway_not_yet")
    with pytest.raises(CommandError, match=r"Nothing was changed: .*gateway_api.*manage\.py prepare"):
        small.say()
