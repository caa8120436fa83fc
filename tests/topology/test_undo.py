"""Undo is the inverse of what was done: same objects, same secrets; or it is refused and says by whom it is barred."""

import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import given, settings

from console.renames import follow
from gateway.audit import change_set, record_test
from gateway.models import ChangeSet, Endpoint, KeptSecret, Port, Service
from gateway.renewals import swap
from gateway.topology.apply import apply
from gateway.topology.document import load
from gateway.topology.entries import SECTIONS, record_of, stored
from gateway.topology.secrets import open_secret, secret_columns
from gateway.topology.undo import CannotUndo, undo
from identity.core import issuing
from identity.core.issuing import KeyKind
from identity.models import Group, Keystore, Truststore, User
from identity.models.sealing import reseal_all
from tests import factories, minting
from tests.minting import mint
from tests.topology.conftest import File, Topology
from tests.topology.test_round_trip import ELSEWHERE, everything, few, taken_back, topologies

pytestmark = pytest.mark.django_db


def everything_stored() -> dict[tuple[str, Any], Any]:
    """Each object with its secrets in the clear: what undo has to bring back."""
    found: dict[tuple[str, Any], Any] = {}
    for section, model in SECTIONS.items():
        for row in stored(model):
            secrets = {column: open_secret(row, column) for column in secret_columns(row)}
            found[section, row.pk] = record_of(row), secrets
    return found


def last() -> ChangeSet:
    return ChangeSet.objects.latest("id")


def refused(made: ChangeSet) -> str:
    before, count = everything_stored(), ChangeSet.objects.count()
    with pytest.raises(CannotUndo) as error:
        undo(made, "tests")
    assert (everything_stored(), ChangeSet.objects.count()) == (before, count), "a refusal leaves nothing behind"
    return str(error.value)


# --- the law ---


@pytest.mark.timeout(240)
@settings(few, max_examples=12)
@given(topologies(), topologies())
def test_undo_is_the_inverse_of_any_change(one: Topology, other: Topology) -> None:
    with taken_back():
        apply(load(yaml.safe_dump(one), ELSEWHERE), prune=True)
        before = everything_stored()
        if apply(load(yaml.safe_dump(other), ELSEWHERE), prune=True).revision is None:
            return
        done, after = last(), everything_stored()
        undo(done, "tests")
        assert everything_stored() == before
        undo(last(), "tests")
        assert everything_stored() == after, "what undid is undone like any other change"


@pytest.fixture
def full(tmp_path: Path, pki: dict[str, minting.Minted]) -> File:
    """Every field of every section is set, secrets too."""
    file = File(tmp_path, pki, everything(pki))
    file.say()
    return file


@pytest.mark.parametrize("section", list(SECTIONS))
def test_every_kind_comes_back_as_the_same_object(full: File, section: str) -> None:
    """Each section is emptied, with what hangs on it, by a file that has nothing of it."""
    before = everything_stored()
    full.say("--prune", text=yaml.safe_dump(without(full.topology, section)))
    assert not {key for key in everything_stored() if key[0] == section} - predefined()
    undo(last(), "tests")
    assert everything_stored() == before


NEEDED_BY = {
    "nodes": {"ports", "services", "registrations", "endpoints", "apis"},
    "groups": {"users", "acls", "registrations", "ports"},
    "users": {"certificates", "mapping_rules"},
    "acls": {"services", "apis", "endpoints", "ports"},
    "truststores": {"ports", "registrations", "endpoints", "apis", "mapping_rules"},
    "keystores": {"ports", "registrations", "endpoints", "apis"},
    "services": {"ports"},
    "ports": {"endpoints", "apis", "registrations"},
    "registrations": {"ports", "endpoints", "apis"},
    "endpoints": {"apis", "ports"},
    "apis": {"ports"},
}  # fmt: skip


def without(topology: Topology, section: str) -> Topology:
    gone = {section} | NEEDED_BY.get(section, set())
    gone |= {each for one in list(gone) for each in NEEDED_BY.get(one, set())}
    left = {name: found for name, found in topology.items() if name not in gone}
    if "ports" in gone:  # what was limited to one of them is so no more
        for name in left.keys() & {"users", "certificates", "mapping_rules"}:
            left[name] = [{field: value for field, value in each.items() if field != "ports"} for each in left[name]]
    return {"version": 1} | left


def predefined() -> set[tuple[str, Any]]:
    return {
        (section, row.pk)
        for section, model in SECTIONS.items()
        for row in model._default_manager.all()
        if getattr(row, "predefined", False)
    }


def test_everything_at_once_comes_back(full: File) -> None:
    before = everything_stored()
    full.say("--prune", text="version: 1\n")
    undo(last(), "olivia", "192.0.2.7")
    assert everything_stored() == before
    assert (last().actor, last().address) == ("olivia", "192.0.2.7")
    assert last().message.startswith("undo of change ")


# --- secrets ---


def test_a_password_that_was_changed_is_the_old_one_again() -> None:
    alice = factories.UserFactory(name="alice", password="the first password")
    with change_set("tests", "another password"):
        alice.set_password("the second password")
        alice.save()
    undo(last(), "tests")
    alice.refresh_from_db()
    assert alice.has_password("the first password")
    assert not alice.has_password("the second password")


def test_a_key_that_was_exchanged_is_the_old_one_again() -> None:
    keystore = factories.KeystoreFactory()
    first = keystore.open_private_key()
    other = mint("CN=other,O=Acme", factories.server_ca(), purpose="server")
    with change_set("tests", "another pair"):
        keystore.set_pair((other.certificate,), other.key)
        keystore.save()
    undo(last(), "tests")
    assert Keystore.objects.get().open_private_key() == first


def test_kept_secrets_are_sealed_and_bound_to_their_change() -> None:
    endpoint = factories.EndpointFactory(identity="basic", username="batch", password="the first password")
    for password in ("the second password", "the third password"):
        with change_set("tests", "another password"):
            endpoint.set_password(password)
            endpoint.save()
    one, two = KeptSecret.objects.order_by("change_id")
    assert b"password" not in bytes(one.value)
    KeptSecret.objects.filter(pk=one.pk).update(value=two.value)
    made = ChangeSet.objects.order_by("-id")[1]
    undo(last(), "tests")
    assert "cannot be opened" in refused(made)


def test_kept_secrets_follow_the_master_key(settings: Any) -> None:
    user = factories.UserFactory(name="alice", password="the first password")
    with change_set("tests", "no password"):
        user.set_password("")
        user.save()
    settings.POSTERN_MASTER_KEY_PREVIOUS = [settings.POSTERN_MASTER_KEY]
    settings.POSTERN_MASTER_KEY = b"n" * 32
    reseal_all()
    settings.POSTERN_MASTER_KEY_PREVIOUS = []
    undo(last(), "tests")
    assert User.objects.get(name="alice").has_password("the first password")


def test_a_secret_that_was_not_kept_is_not_made_up() -> None:
    """As with what was recorded before secrets were kept."""
    factories.KeystoreFactory(name="server")
    with change_set("tests", "gone"):
        Keystore.objects.get().delete()
    KeptSecret.objects.all().delete()
    assert "keystores[server].private_key: another key is stored, or none" in refused(last())


# --- names, and what follows them ---


def test_a_rename_is_undone_with_all_that_followed_it() -> None:
    service = factories.ServiceFactory(name="orders")
    port = factories.RegularPortFactory(service_access={"default": "deny", "allow": ["orders"], "deny": []})
    registration = factories.RegistrationPortFactory(name="reg")
    endpoint = factories.EndpointFactory(name="caller", url="reverse://reg/orders")
    before = everything_stored()
    with change_set("tests", "renamed"):
        for row, old, new in ((service, "orders", "sales"), (registration, "reg", "gate")):
            row.name = new
            row.save()
            follow(row, old)
    assert Endpoint.objects.get(pk=endpoint.pk).url == "reverse://gate/orders"
    undo(last(), "tests")
    assert everything_stored() == before
    assert Port.objects.get(pk=port.pk).service_access["allow"] == ["orders"]


def test_addresses_that_were_exchanged_are_exchanged_back(small: File) -> None:
    small.say()
    before = everything_stored()
    ext, reg = small.entry("ports", "ext"), small.entry("ports", "reg")
    ext["bind"], reg["bind"] = reg["bind"], ext["bind"]
    small.say()
    undo(last(), "tests")
    assert everything_stored() == before


# --- what bars it ---


def test_a_later_change_of_the_same_object_is_named() -> None:
    group = factories.GroupFactory(name="Partners")
    made = last()
    with change_set("olivia", "described"):
        group.description = "Who trades with us"
        group.save()
    assert refused(made) == (f"group Partners was changed again, by change {last().pk} (described): undo that first.")
    undo(last(), "tests")
    undo(made, "tests")
    assert not Group.objects.filter(name="Partners").exists()


def test_what_uses_an_added_object_is_named() -> None:
    group = factories.GroupFactory(name="Partners")
    made = last()
    factories.UserFactory(name="alice")
    with change_set("olivia", "alice joins"):
        User.objects.get(name="alice").groups.add(group)
    assert refused(made) == (f"user alice uses group Partners, by change {last().pk} (alice joins): undo that first.")


def test_all_that_use_it_are_named_with_their_own_changes() -> None:
    group = factories.GroupFactory(name="Partners")
    made, numbers = last(), {}
    for name in ("alice", "bob"):
        factories.UserFactory(name=name, groups=[group])
        numbers[name] = last().pk
    factories.ACLFactory(name="guard", allowed=[group])
    numbers["guard"] = last().pk
    told = refused(made)
    for kind, name in (("user", "alice"), ("user", "bob"), ("ACL", "guard")):
        assert f"{kind} {name} uses group Partners, by change {numbers[name]} " in told


def test_a_name_that_was_given_away_is_told() -> None:
    group = factories.GroupFactory(name="Partners")
    with change_set("tests", "gone"):
        group.delete()
    made = last()
    factories.GroupFactory(name="Partners")
    assert "groups[Partners].name: Group with this Name already exists" in refused(made)


def test_what_it_refers_to_must_be_there() -> None:
    service = factories.ServiceFactory(name="orders", node__name="inside")
    with change_set("tests", "service gone"):
        service.delete()
    made = last()
    with change_set("tests", "node gone"):
        service.node.delete()
    assert 'services[orders].node: there is no node "inside"' in refused(made)


def test_a_rule_does_not_come_to_mean_another_authority() -> None:
    """Of the same name: the key is what counted, and undo never guesses."""
    store = factories.TruststoreFactory(name="partners")
    rule = factories.MappingRuleFactory(name="partners", issuer="CN=Partner CA,O=Acme")
    with change_set("tests", "rule gone"):
        rule.delete()
    made = last()
    with change_set("tests", "store gone"):
        Truststore.objects.get(pk=store.pk).delete()
    factories.TruststoreFactory(anchors=[minting.authority("CN=Partner CA,O=Acme")])
    assert refused(made) == "mapping rule partners cannot become what it was: issuer_key would differ."


def test_what_is_no_change_of_the_configuration_is_not_undone() -> None:
    record_test("olivia", "test invoke", None, "ext", {})
    assert "nothing to undo" in refused(last())


# --- the command ---


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("undo", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_tells_what_it_does() -> None:
    factories.GroupFactory(name="Partners")
    number = str(last().pk)
    assert run(number, "--dry-run") == "- groups Partners\nWould be undone.\n"
    assert Group.objects.filter(name="Partners").exists()
    assert run(number) == f"- groups Partners\nUndone; this is revision {last().pk}.\n"
    with pytest.raises(CommandError, match=r"group Partners was changed again, by change \d+ \(undo of change"):
        run(number)
    with pytest.raises(CommandError, match="There is no change 4711"):
        run("4711")


def test_an_object_is_found_by_what_it_is() -> None:
    """Its id, and not its name, which may be another's by now."""
    service = factories.ServiceFactory(name="orders")
    with change_set("tests", "renamed"):
        service.name = "sales"
        service.save()
    made = last()
    other = factories.ServiceFactory(name="orders", path="/other")
    assert "already exists" in refused(made)
    with change_set("tests", "out of the way"):
        other.delete()
    undo(made, "tests")
    assert Service.objects.get(name="orders").pk == service.pk == uuid.UUID(str(service.pk))


# --- keystores: the renewal that waits beside ---


def test_each_step_of_a_renewal_is_undone() -> None:
    old, new = (mint("CN=inside,O=Acme", factories.server_ca()) for _ in range(2))
    row = factories.KeystoreFactory(name="k", minted=old)
    factories.RegistrationFactory(minted=old)

    def asked(keystore: Keystore) -> None:
        keystore.ask(new.key, issuing.request(new.key, "CN=inside", []))
        keystore.save()

    def given(keystore: Keystore) -> None:
        keystore.set_next((new.certificate,), new.key)
        keystore.save()

    def dropped(keystore: Keystore) -> None:
        keystore.drop_next()
        keystore.save()

    for steps in ([asked], [asked, given], [asked, given, swap], [asked, dropped], [asked, given, dropped]):
        for step in steps:
            before = everything_stored()
            with change_set("tests", step.__name__):
                step(Keystore.objects.get(pk=row.pk))
        undo(last(), "tests")
        assert everything_stored() == before, steps
        with change_set("tests", "from the beginning"):
            dropped(Keystore.objects.get(pk=row.pk))


def test_the_request_can_be_made_again_for_a_key_that_came_back() -> None:
    row, key = factories.KeystoreFactory(name="k"), issuing.new_key(KeyKind.EC_P256)
    with change_set("tests", "asked"):
        row.ask(key, issuing.request(key, "CN=localhost", []))
        row.save()
    with change_set("tests", "dropped"):
        row.drop_next()
        row.save()
    undo(last(), "tests")
    again = x509.load_pem_x509_csr(Keystore.objects.get().request().encode())
    assert again.public_key() == key.public_key()
