"""Every change of the configuration is recorded whole, or it does not happen."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from gateway.audit import WriteOutsideChangeSet, change_set, current_revision, record_operators, record_test
from gateway.models import API, AppendOnlyError, Change, ChangeSet, Dial, Node, Port, Registration, Service
from gateway.topology.consistency import Inconsistent
from identity.models import (
    ACL,
    Certificate,
    Group,
    Keystore,
    MappingRule,
    RevocationList,
    RevocationSource,
    TrustedCertificate,
    Truststore,
    User,
)
from tests import factories, minting

pytestmark = pytest.mark.django_db


def last() -> ChangeSet:
    return ChangeSet.objects.latest("id")


def only_change() -> Change:
    return last().changes.get()


# --- what is recorded ---


def test_an_object_is_recorded_when_it_is_added_changed_and_removed() -> None:
    with change_set("olivia", "a group for partners", "192.0.2.7") as made:
        group = Group(name="Partners")
        group.save()
    added = only_change()
    assert (last().id, last().actor, last().message, last().address) == (
        made.revision, "olivia", "a group for partners", "192.0.2.7",
    )  # fmt: skip
    assert (added.action, added.kind, added.name, added.object_id) == ("added", "groups", "Partners", str(group.pk))
    assert (added.before, added.after) == (None, {"name": "Partners"})

    with change_set("olivia", "described"):
        group.description = "Who trades with us"
        group.save()
    changed = only_change()
    assert (changed.action, changed.before) == ("changed", {"name": "Partners"})
    assert changed.after == {"name": "Partners", "description": "Who trades with us"}

    with change_set("olivia", "gone"):
        group.delete()
    removed = only_change()
    assert (removed.action, removed.before, removed.after) == ("removed", changed.after, None)


ALL = [
    getattr(factories, name)
    for name in ("NodeFactory", "GroupFactory", "UserFactory", "ACLFactory", "CertificateFactory", "TruststoreFactory",
                 "KeystoreFactory", "MappingRuleFactory", "RegistrationPortFactory", "ExternalPortFactory",
                 "RegularPortFactory", "InternalPortFactory", "RegistrationFactory", "ServiceFactory",
                 "EndpointFactory", "APIFactory")
]  # fmt: skip


@pytest.mark.parametrize("make", ALL, ids=lambda make: make._meta.model.__name__)
def test_every_kind_of_object_is_recorded(make: Any) -> None:
    row = make()
    change = Change.objects.get(object_id=str(row.pk))
    assert change.after["name"] == row.name
    with change_set("tests", "renamed"):
        row.name = "another-name"
        row.save()
    assert (only_change().before["name"], only_change().after["name"]) == (change.name, "another-name")


def add_group(user: User, group: Group) -> None:
    user.groups.add(group)


def add_user(user: User, group: Group) -> None:
    group.users.add(user)


def set_groups(user: User, group: Group) -> None:
    user.groups.set([group])


@pytest.mark.parametrize("add", [add_group, add_user, set_groups])
def test_a_membership_is_a_change_of_the_user(add: Callable[[User, Group], None]) -> None:
    user, group = factories.UserFactory(name="alice"), factories.GroupFactory(name="Partners")
    with change_set("tests", "a member"):
        add(user, group)
    assert (only_change().kind, only_change().name) == ("users", "alice")
    assert (only_change().before.get("groups"), only_change().after["groups"]) == (None, ["Partners"])


@pytest.mark.parametrize(
    "take",
    [
        pytest.param(lambda user, group: user.groups.clear(), id="user-groups-clear"),
        pytest.param(lambda user, group: group.users.clear(), id="group-users-clear"),
        pytest.param(lambda user, group: group.users.remove(user), id="group-users-remove"),
    ],
)
def test_a_membership_that_ends_is_a_change_of_the_user(take: Callable[[User, Group], None]) -> None:
    group = factories.GroupFactory(name="Partners")
    user = factories.UserFactory(name="alice", groups=[group])
    with change_set("tests", "no member"):
        take(user, group)
    assert (only_change().kind, only_change().name) == ("users", "alice")
    assert (only_change().before["groups"], only_change().after.get("groups")) == (["Partners"], None)


def test_what_belongs_to_an_object_is_recorded_with_it() -> None:
    store = factories.TruststoreFactory(anchors=[factories.partner_ca(), factories.server_ca()])
    with change_set("tests", "one authority less"):
        store.certificates.first().delete()
    assert (only_change().kind, only_change().name) == ("truststores", store.name)
    assert len(only_change().before["certificates"]) - len(only_change().after["certificates"]) == 1

    with change_set("tests", "a revocation list"):
        crl = RevocationList(truststore=store, der=minting.crl(factories.server_ca()))
        crl.full_clean()
        crl.save()
    assert "crls" not in only_change().before
    assert only_change().after["crls"][0].startswith("-----BEGIN X509 CRL-----")

    port = factories.InternalPortFactory()
    with change_set("tests", "another address"):
        dial = port.connect.get()
        dial.address = "gateway.example:8444"
        dial.save()
    assert (only_change().kind, only_change().name) == ("ports", port.name)
    assert only_change().after["connect"][0]["address"] == "gateway.example:8444"


def test_an_object_that_goes_with_its_parts_is_one_change() -> None:
    store = factories.TruststoreFactory(anchors=[factories.partner_ca(), factories.server_ca()])
    with change_set("tests", "gone"):
        store.delete()
    assert (only_change().action, len(only_change().before["certificates"])) == ("removed", 2)


def test_secrets_are_recorded_as_fingerprints() -> None:
    keystore = factories.KeystoreFactory()
    user = factories.UserFactory(password="correct horse")
    endpoint = factories.EndpointFactory(identity="basic", username="batch", password="battery staple")
    entries = {change.object_id: change.after for change in Change.objects.all()}
    assert set(entries[str(keystore.pk)]["private_key"]) == {"kept"}
    assert set(entries[str(user.pk)]["password"]) == {"kept"}
    assert set(entries[str(endpoint.pk)]["password"]) == {"kept"}
    for secret in ("PRIVATE KEY", "correct horse", "battery staple", "scrypt$"):
        assert secret not in str(entries)


def test_another_secret_is_a_change() -> None:
    endpoint = factories.EndpointFactory(identity="basic", username="batch", password="the first one")
    with change_set("tests", "the same again"):
        endpoint.set_password("the first one")
        endpoint.save()
    assert last().message != "the same again", "sealed anew, and still the same"
    with change_set("tests", "another"):
        endpoint.set_password("the second one")
        endpoint.save()
    assert only_change().before["password"] != only_change().after["password"]


def test_the_key_that_a_rule_means_is_recorded() -> None:
    """Nodes compare by it, and no field of the file says it."""
    factories.TruststoreFactory()
    rule = factories.MappingRuleFactory(issuer="CN=Partner CA,O=Acme")
    change = Change.objects.get(object_id=str(rule.pk))
    assert change.after["issuer_key"] == factories.partner_ca().certificate.spki_sha256


# --- one change, or none ---


def test_where_nothing_changed_nothing_is_recorded() -> None:
    group = factories.GroupFactory()
    before = ChangeSet.objects.count(), current_revision()
    with change_set("tests", "saved as it was") as made:
        group.save()
    assert made.revision is None
    with change_set("tests", "and back") as made:
        Group(name="Brief").save()
        Group.objects.get(name="Brief").delete()
    assert made.changes == []
    assert (ChangeSet.objects.count(), current_revision()) == before


def test_several_changes_are_one_revision() -> None:
    before = current_revision()
    with change_set("tests", "two at once") as made:
        Group(name="One").save()
        Group(name="Two").save()
    assert [change.name for change in last().changes.all()] == ["One", "Two"]
    assert current_revision() == made.revision == last().id > before


class Stop(Exception):
    pass


def test_a_change_set_that_fails_leaves_nothing() -> None:
    with pytest.raises(Stop), change_set("tests", "stops halfway") as made:
        Group(name="Half").save()
        raise Stop
    assert made.revision is None
    assert not Group.objects.filter(name="Half").exists()
    assert not ChangeSet.objects.exists()
    with pytest.raises(WriteOutsideChangeSet):
        Group(name="Later").save()


def test_one_inside_another_joins_it() -> None:
    with change_set("outer", "the whole"):
        Group(name="One").save()
        with change_set("inner", "a part"):
            Group(name="Two").save()
        assert not ChangeSet.objects.exists()
    assert (ChangeSet.objects.get().actor, ChangeSet.objects.get().changes.count()) == ("outer", 2)


def test_a_part_that_fails_is_taken_back_alone() -> None:
    with change_set("outer", "the whole"):
        Group(name="One").save()
        with pytest.raises(Stop), change_set("inner", "a part"):
            Group(name="Two").save()
            raise Stop
    assert [change.name for change in last().changes.all()] == ["One"]
    assert not Group.objects.filter(name="Two").exists()


def test_a_dry_run_tells_and_takes_all_back() -> None:
    with change_set("tests", "what if", dry_run=True) as made:
        Group(name="Maybe").save()
    assert [(change.action, change.name) for change in made.changes] == [("added", "Maybe")]
    assert made.revision is None
    assert not Group.objects.filter(name="Maybe").exists()
    assert not ChangeSet.objects.exists()


# --- what is refused ---


def anchor(store: Truststore) -> TrustedCertificate:
    row = TrustedCertificate(truststore=store)
    row.set_certificate(factories.server_ca().certificate)
    return row


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda w: Group(name="Silent").save(), id="add"),
        pytest.param(lambda w: w["group"].save(), id="save"),
        pytest.param(lambda w: w["group"].delete(), id="delete"),
        pytest.param(lambda w: Group.objects.filter(pk=w["group"].pk).delete(), id="delete-by-query"),
        pytest.param(lambda w: Group.objects.create(name="Silent"), id="create"),
        pytest.param(lambda w: w["user"].groups.add(w["group"]), id="add-a-group"),
        pytest.param(lambda w: w["group"].users.add(w["user"]), id="add-a-user"),
        pytest.param(lambda w: w["member"].groups.clear(), id="clear"),
        pytest.param(lambda w: w["joined"].users.clear(), id="clear-from-the-far-side"),
        pytest.param(lambda w: anchor(w["store"]).save(), id="add-an-authority"),
        pytest.param(lambda w: w["store"].certificates.get().delete(), id="delete-an-authority"),
    ],
)  # fmt: skip
def test_a_write_outside_a_change_set_is_refused(write: Callable[[dict[str, Any]], object]) -> None:
    group, joined = factories.GroupFactory(), factories.GroupFactory()
    world = {"group": group, "joined": joined, "user": factories.UserFactory(), "store": factories.TruststoreFactory(),
             "member": factories.UserFactory(groups=[joined])}  # fmt: skip
    before = ChangeSet.objects.count()
    with pytest.raises(WriteOutsideChangeSet, match=r"inside gateway\.audit\.change_set alone"), transaction.atomic():
        write(world)
    assert not Group.objects.filter(name="Silent").exists()
    assert Group.objects.filter(pk=group.pk).exists()
    assert world["member"].groups.get() == joined
    assert ChangeSet.objects.count() == before


WATCHED = [Node, Group, User, ACL, Truststore, TrustedCertificate, RevocationList, RevocationSource, Keystore,
           Certificate, MappingRule,
           Service, Port, Dial, Registration, API]  # fmt: skip


@pytest.mark.parametrize("model", WATCHED, ids=lambda model: model.__name__)
def test_no_kind_of_row_is_written_unseen(model: type[Any]) -> None:
    with pytest.raises(WriteOutsideChangeSet):
        model.save_base(model(), raw=True)


def test_a_node_keeps_the_role_that_its_ports_need() -> None:
    port = factories.ExternalPortFactory(name="ext", registration_port__name="reg")
    node = port.node
    with pytest.raises(Inconsistent) as refused, change_set("tests", "another role"):
        node.role = "internal"
        node.save()
    assert [str(row) for row, _ in refused.value.found] == ["ext", "reg"]
    assert refused.value.messages[0].startswith(f"port ext: {node} is internal; a port of type external needs a node")
    assert Node.objects.get(pk=node.pk).role == "edge"


def test_an_endpoint_stays_on_the_side_of_its_apis() -> None:
    api = factories.APIFactory(endpoint=factories.EndpointFactory(name="orders"))
    other = factories.RegistrationPortFactory(name="elsewhere")
    with pytest.raises(Inconsistent, match="orders goes through elsewhere"), change_set("tests", "another way"):
        api.endpoint.url = "reverse://elsewhere/orders"
        api.endpoint.save()
    assert other.endpoints.count() == 0


def test_a_registration_stays_with_the_node_that_dials_by_it() -> None:
    port = factories.InternalPortFactory(name="dial")
    registration, other = port.connect.get().registration, factories.NodeFactory(role="internal", name="other")
    with pytest.raises(Inconsistent, match="port dial"), change_set("tests", "another node"):
        registration.node = other
        registration.save()


def test_an_authority_stays_while_a_rule_means_it() -> None:
    store = factories.TruststoreFactory(name="partners")
    factories.MappingRuleFactory(name="partners", issuer="CN=Partner CA,O=Acme")
    with pytest.raises(Inconsistent, match="mapping rule partners: No truststore would hold"), change_set("t", "gone"):
        store.delete()
    assert Truststore.objects.filter(name="partners").exists()


# --- the log itself ---


def test_a_test_is_recorded_and_makes_no_revision() -> None:
    factories.GroupFactory()
    before = current_revision()
    record_test("olivia", "test invoke: GET /orders at ext", "192.0.2.7", "ext", {"status": 200})
    assert (last().configures, last().address) == (False, "192.0.2.7")
    change = only_change()
    assert (change.action, change.kind, change.name, change.before, change.after) == (
        "tested", "test_invoke", "ext", None, {"status": 200},
    )  # fmt: skip
    assert current_revision() == before < last().id


def test_operators_are_recorded_and_make_no_revision() -> None:
    record_operators("olivia", None, "victor", None, {"role": "viewer"})
    assert (only_change().action, only_change().kind, only_change().name) == ("added", "operators", "victor")
    assert current_revision() == 0


def test_a_revision_after_a_test_is_a_later_one() -> None:
    record_test("olivia", "test", None, "ext", {})
    tested = last().id
    factories.GroupFactory()
    assert current_revision() > tested


def test_what_was_recorded_is_never_rewritten() -> None:
    factories.GroupFactory()
    for row in (last(), only_change()):
        row.name = row.message = "nothing happened"
        with pytest.raises(AppendOnlyError):
            row.save()
        with pytest.raises(AppendOnlyError):
            row.delete()
    for model, column in ((ChangeSet, "message"), (Change, "name")):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            model.objects.update(**{column: "nothing happened"})  # type: ignore[attr-defined]


def test_a_message_of_any_length_is_kept_as_far_as_it_fits() -> None:
    with change_set("tests", "x" * 5000):
        Group(name="Partners").save()
    assert last().message == "x" * 1000


def test_the_revision_is_read_without_reading_the_log() -> None:
    """Nodes ask for it every second, and there may be many tests after the last change."""
    with CaptureQueriesContext(connection) as asked:
        current_revision()
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if postgresql:  # which would rather read an empty table whole
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {'' if postgresql else 'QUERY PLAN'} {asked[0]['sql']}")
        plan = " ".join(str(row) for row in cursor.fetchall())
    assert ("Index Only Scan" if postgresql else "SEARCH gateway_changeset USING COVERING INDEX") in plan
    assert "changeset_by_revision" in plan


def test_what_would_be_recorded_is_always_that_of_the_last_write() -> None:
    """It is kept from one question to the next: a write, and a part that is taken back, are seen all the same."""
    user = factories.UserFactory(name="alice")
    with change_set("tests", "words") as recorder:
        for words in ("one", "two"):
            user.description = words
            user.save()
            assert [each.after["description"] for each in recorder.so_far() if each.after] == [words]
        with pytest.raises(RuntimeError), change_set("tests", "a part"):
            user.description = "three"
            user.save()
            assert recorder.now(User)[user.pk] != recorder.touched(User)[user.pk]
            raise RuntimeError("taken back")
        assert recorder.now(User)[user.pk]["description"] == "two"  # type: ignore[index]
