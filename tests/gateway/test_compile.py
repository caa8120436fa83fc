"""A document that was followed from change to change is the one that reading everything gives; and who knows what."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway.audit import change_set
from gateway.compile import Compiler, document_of
from gateway.core.difference import difference
from gateway.core.document import amended, from_document
from gateway.drafts import Drafts, documents
from gateway.models import Node, Port, Registration
from identity.core.mapping import resolve
from identity.models import Certificate, Group, MappingRule, User
from tests.factories import (
    ACLFactory,
    APIFactory,
    CertificateFactory,
    EndpointFactory,
    ExternalPortFactory,
    GroupFactory,
    InternalPortFactory,
    KeystoreFactory,
    MappingRuleFactory,
    NodeFactory,
    RegistrationFactory,
    RegistrationPortFactory,
    RegularPortFactory,
    ServiceFactory,
    TruststoreFactory,
    UserFactory,
    partner_ca,
)
from tests.minting import mint

pytestmark = pytest.mark.django_db


@pytest.fixture
def pair() -> dict[str, Any]:
    """An edge that only passes on, an internal node behind it that decides, and one beside it."""
    group = GroupFactory(name="Partners")
    users = [UserFactory(groups=[group], password="correct horse"), UserFactory(groups=[group]), UserFactory()]
    reg = RegistrationPortFactory()
    ext = ExternalPortFactory(registration_port=reg)
    registration = RegistrationFactory(port=reg)
    dial = InternalPortFactory(registration=registration)
    acl = ACLFactory(allowed=[group])
    ServiceFactory(node=dial.node, execute_acl=acl)
    beside = RegularPortFactory(client_auth="password")
    for user in users:
        CertificateFactory(user=user)
    MappingRuleFactory(user=users[0])
    return {"edge": ext.node, "inside": dial.node, "beside": beside.node, "ext": ext, "reg": reg, "group": group,
            "users": users, "dial": dial, "registration": registration}  # fmt: skip


def changed(row: Any, **fields: Any) -> None:
    with change_set("test", "a change"):
        for name, value in fields.items():
            setattr(row, name, value)
        row.save()


def replace_certificate(chance: random.Random) -> None:
    row = chance.choice(list(Certificate.objects.all()))
    row.set_certificate(mint(f"CN=renewed {chance.random()}", partner_ca()).certificate)
    changed(row)


def swap_names(chance: random.Random) -> None:
    one, other = chance.sample(list(User.objects.filter(predefined=False)), 2)
    first, second = one.name, other.name
    with change_set("test", "two users swap names"):
        for row, name in ((one, "between"), (other, first), (one, second)):
            row.name = name
            row.save()


def swap_members(chance: random.Random) -> None:
    with change_set("test", "members"):
        chance.choice(list(User.objects.filter(predefined=False))).groups.set(
            chance.sample(list(Group.objects.exclude(name__in=["Everybody", "Anonymous"])), 1)
        )


def renew_on_file(chance: random.Random) -> None:
    """One certificate goes, and another comes in one change set."""
    with change_set("test", "out with the old"):
        chance.choice(list(Certificate.objects.all())).delete()
        CertificateFactory()


def limit_to_ports(chance: random.Random, rows: Any) -> None:
    known = list(Port.objects.values_list("name", flat=True))
    changed(chance.choice(list(rows)), ports=sorted(chance.sample(known, chance.randint(0, 2))))


MOVES: list[Callable[[random.Random], Any]] = [
    lambda chance: CertificateFactory(user=chance.choice(list(User.objects.filter(predefined=False)))),
    renew_on_file,
    lambda chance: changed(chance.choice(list(Certificate.objects.all())), blocked=chance.random() < 0.5),
    replace_certificate,
    swap_names,
    lambda chance: changed(chance.choice(list(User.objects.filter(predefined=False))), name=f"u{chance.random()}"),
    swap_members,
    lambda chance: changed(chance.choice(list(User.objects.filter(predefined=False))), enabled=chance.random() < 0.5),
    lambda chance: changed(chance.choice(list(Group.objects.filter(name__startswith="P"))), name=f"P{chance.random()}"),
    lambda chance: UserFactory(groups=[chance.choice(list(Group.objects.filter(name__startswith="P")))]),
    lambda chance: MappingRuleFactory(user=chance.choice(list(User.objects.filter(predefined=False)))),
    lambda chance: changed(chance.choice(list(MappingRule.objects.all())), priority=chance.randrange(100)),
    lambda chance: ServiceFactory(node=chance.choice(list(Node.objects.filter(role="internal")))),
    lambda chance: TruststoreFactory(),
    lambda chance: limit_to_ports(chance, User.objects.filter(predefined=False)),
    lambda chance: limit_to_ports(chance, Certificate.objects.all()),
    lambda chance: limit_to_ports(chance, MappingRule.objects.all()),
]


@pytest.mark.parametrize("seed", range(6))
def test_followed_documents_are_those_that_reading_everything_gives(pair: dict[str, Any], seed: int) -> None:
    chance, compiler = random.Random(seed), Compiler()
    nodes = [pair[name].name for name in ("edge", "inside", "beside")]
    snapshot = from_document(compiler.document_of(nodes[1]))
    for _ in range(12):
        for _ in range(chance.randint(1, 3)):
            chance.choice(MOVES)(chance)
        before, kept = compiler.document_of(nodes[1]), document_of(nodes[1])
        for node in nodes:
            assert compiler.document_of(node) == document_of(node)
        snapshot = amended(snapshot, difference(snapshot.document, before))
        assert snapshot.document == before == kept, "what was given stays as it was"


def test_of_one_certificate_for_several_usages_that_which_logs_in_speaks(pair: dict[str, Any]) -> None:
    compiler, node = Compiler(), pair["inside"].name
    minted, alice = mint("CN=both", partner_ca()), pair["users"][0]
    sha256 = minted.certificate.sha256

    def compiled() -> dict[str, Any] | None:
        followed = compiler.document_of(node)["certificates"].get(sha256)
        assert followed == document_of(node)["certificates"].get(sha256), "followed from change to change, or read anew"
        return followed

    signing = CertificateFactory(name="a-signing", minted=minted, usage="verify")
    assert compiled() == {"name": "a-signing", "user": None, "logs_in": False, "blocked": False}
    login = CertificateFactory(name="login", minted=minted, user=alice)
    logs_in = {"name": "login", "user": alice.name, "logs_in": True, "blocked": False}
    assert compiled() == logs_in
    changed(signing, blocked=True)
    assert compiled() == logs_in | {"blocked": True}, "what blocks one blocks the certificate"
    changed(signing, blocked=False)
    with change_set("tests", "the other usage is gone"):
        signing.delete()
    assert compiled() == logs_in
    with change_set("tests", "and so is this"):
        login.delete()
    assert compiled() is None


def test_one_change_reads_what_it_touches(pair: dict[str, Any]) -> None:
    compiler = Compiler()
    nodes = [pair[name].name for name in ("edge", "inside")]
    before = {node: compiler.document_of(node) for node in nodes}
    row = Certificate.objects.first()
    assert row is not None
    changed(row, usage="verify")
    with CaptureQueriesContext(connection) as queries:
        after = {node: compiler.document_of(node) for node in nodes}
    assert len(queries) <= 9, [query["sql"] for query in queries]
    edge, inside = (difference(before[node], after[node]) for node in nodes)
    assert edge["put"] == edge["removed"] == edge["values"] == {}, "the edge has no business with it"
    assert inside["put"].keys() == {"certificates"} and inside["put"]["certificates"].keys() == {row.sha256}
    assert after[nodes[1]]["users"] is before[nodes[1]]["users"]


def test_nodes_share_what_is_the_same_for_all(pair: dict[str, Any]) -> None:
    other = InternalPortFactory()
    compiler = Compiler()
    one, two = compiler.document_of(pair["inside"].name), compiler.document_of(other.node.name)
    assert one["certificates"] is two["certificates"] and one["users"] is two["users"]


def test_a_database_that_went_back_is_read_anew(pair: dict[str, Any]) -> None:
    compiler = Compiler()
    compiler.document_of(pair["inside"].name)
    compiler.revision += 1000
    assert compiler.document_of(pair["inside"].name) == document_of(pair["inside"].name)


# --- least knowledge ---


def test_an_edge_that_passes_on_knows_nobody(pair: dict[str, Any]) -> None:
    document = document_of(pair["edge"].name)
    assert document["users"] == document["certificates"] == document["mapping_rules"] == document["services"] == {}
    assert document["keystores"].keys() == {pair["ext"].tls_keystore.name, pair["reg"].tls_keystore.name}


def test_an_edge_that_asks_for_certificates_alone_has_no_password(pair: dict[str, Any]) -> None:
    changed(pair["ext"], authenticate=True, accept_basic=False)
    document = document_of(pair["edge"].name)
    assert document["certificates"] and document["users"]
    assert not any("password_hash" in entry for entry in document["users"].values())


def test_an_edge_that_takes_passwords_has_the_hashes_that_it_checks(pair: dict[str, Any]) -> None:
    changed(pair["ext"], authenticate=True)
    assert any("password_hash" in entry for entry in document_of(pair["edge"].name)["users"].values())


def test_a_node_that_asks_for_no_certificate_has_none_on_file(pair: dict[str, Any]) -> None:
    document = document_of(pair["beside"].name)
    assert document["users"] and not document["certificates"] and not document["mapping_rules"]


def test_what_a_channel_may_assert_is_known_at_its_far_end_alone(pair: dict[str, Any]) -> None:
    store = TruststoreFactory(name="of-the-channel")
    with change_set("test", "limits"):
        pair["registration"].limits_assertions = True
        pair["registration"].save()
        pair["registration"].may_assert_truststores.set([store])
        pair["registration"].may_assert_groups.set([pair["group"]])
    edge, inside = document_of(pair["edge"].name), document_of(pair["inside"].name)
    name = pair["registration"].name
    assert edge["registrations"][name]["may_assert"] == {"truststores": None, "groups": None}
    assert "of-the-channel" not in edge["truststores"]
    assert inside["registrations"][name]["may_assert"] == {"truststores": [store.name], "groups": ["Partners"]}
    assert "of-the-channel" in inside["truststores"]


def test_a_truststore_of_a_port_that_asks_nobody_stays_behind(pair: dict[str, Any]) -> None:
    changed(pair["ext"], client_auth="password")
    assert pair["ext"].tls_truststore.name not in document_of(pair["edge"].name)["truststores"]


def test_an_edge_has_the_key_of_its_endpoint_and_no_other(pair: dict[str, Any]) -> None:
    KeystoreFactory(name="of-nobody")
    keystore = KeystoreFactory(name="of-the-endpoint")
    APIFactory(node=pair["edge"], endpoint=EndpointFactory(keystore=keystore))
    APIFactory(node=NodeFactory(), endpoint=EndpointFactory(keystore=KeystoreFactory(name="of-another-node")))
    keys = document_of(pair["edge"].name)["keystores"].keys()
    assert keys == {pair["ext"].tls_keystore.name, pair["reg"].tls_keystore.name, "of-the-endpoint"}


def test_a_certificate_that_is_blocked_is_so_on_every_node_at_once(pair: dict[str, Any]) -> None:
    """On nodes that map nobody, too; and a node that is known by it registers nowhere."""
    compiler = Compiler()
    nodes = [pair[name].name for name in ("edge", "inside")]
    registration = Registration.objects.get(node=pair["inside"])
    assert all(compiler.document_of(node)["registrations"][registration.name]["enabled"] for node in nodes)
    row = Certificate(name="the-node-itself", der=registration.der)
    with change_set("tests", "the node's certificate is put on file"):
        row.save()
    assert all(not compiler.document_of(node)["blocked"]["certificates"] for node in nodes)
    changed(row, blocked=True)
    for node in nodes:
        document = compiler.document_of(node)
        assert document["blocked"]["certificates"] == [row.sha256]
        assert not document["registrations"][registration.name]["enabled"]
        assert document == document_of(node)


def test_all_nodes_at_once_are_each_by_itself(pair: dict[str, Any]) -> None:
    TruststoreFactory(name="elsewhere")
    RegularPortFactory(node=pair["beside"], tls_keystore=KeystoreFactory(name="another"))
    APIFactory(
        node=pair["edge"],
        endpoint=EndpointFactory(url=f"reverse://{pair['reg'].name}/orders"),
        execute_acl=ACLFactory(),
    )
    for node, document in Drafts().documents().items():
        # Of certificates, drafts have those alone that are asked for.
        assert document | {"certificates": {}} == document_of(node) | {"certificates": {}}


def test_more_nodes_take_no_more_queries(pair: dict[str, Any]) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert Drafts().documents()
        return len(queries)

    few = asked()
    for number in range(3):
        node = NodeFactory(name=f"more{number}", role="internal")
        dial = InternalPortFactory(registration=RegistrationFactory(port=pair["reg"], node=node))
        ServiceFactory(node=dial.node, execute_acl=ACLFactory(allowed=[pair["group"]]))
    assert asked() == few


def test_what_counts_at_other_ports_alone_is_not_told(pair: dict[str, Any]) -> None:
    """But for whom to refuse: neither the user that is meant, nor his groups and password, nor a rule's conditions."""
    changed(pair["ext"], authenticate=True)
    alice, bob, carol = pair["users"]
    node, dial = pair["edge"].name, pair["dial"].name
    changed(alice, ports=[dial])
    limited, open_to_all = (Certificate.objects.get(user=user) for user in (bob, carol))
    changed(limited, ports=[dial])
    rule = MappingRule.objects.get()
    changed(rule, ports=[dial])
    edge, inside = document_of(node), document_of(pair["inside"].name)
    assert edge["users"][alice.name] == {"groups": [], "enabled": True, "ports": [dial]}
    assert inside["users"][alice.name]["groups"] == ["Everybody", "Partners"]
    assert edge["certificates"][limited.sha256] == inside["certificates"][limited.sha256] | {"user": None}
    assert edge["certificates"][open_to_all.sha256]["user"] == carol.name
    assert edge["mapping_rules"] == {} and rule.name in inside["mapping_rules"]
    changed(rule, ports=[pair["ext"].name, dial])
    assert rule.name in document_of(node)["mapping_rules"]


@pytest.mark.parametrize("seed", range(6))
def test_a_node_decides_by_what_it_is_told_as_it_would_by_everything(pair: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    changed(pair["ext"], authenticate=True)
    MappingRuleFactory(user=None, user_from="cn", subject={}, priority=chance.randrange(100))
    for user in pair["users"]:  # found by their names, too
        CertificateFactory(user=None, minted=mint(f"CN={user.name}", partner_ca()))
    for _ in range(12):
        chance.choice(MOVES[-3:])(chance)
    whole = documents(certificates=list(Certificate.objects.values_list("sha256", flat=True)))
    shown = [row.certificate for row in Certificate.objects.all()]
    for node, port in ((pair["edge"].name, pair["ext"].name), (pair["inside"].name, pair["dial"].name)):
        told, all_of_it = from_document(document_of(node)), from_document(whole[node])
        for certificate in shown:
            one, other = (
                resolve(certificate, (), each.mappings, each.users, port, 1_800_000_000.0) for each in (told, all_of_it)
            )
            assert (one.user, one.reason) == (other.user, other.reason)
            if one.user is not None:
                assert told.users[one.user] == all_of_it.users[one.user]
