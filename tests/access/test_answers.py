"""Answers about access: what a caller reaches, who reaches a service, and what an edit would change for whom."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db.models import Model

from gateway.access import records
from gateway.access.answers import Shown, identify, reach, who
from gateway.access.changes import Outlook, outlook, outlook_of
from gateway.audit import change_set
from gateway.core.reasons import GatewayReason
from gateway.models import Registration
from identity.core.reasons import IdentityReason
from identity.models import Certificate, User
from tests import factories
from tests.gateway.test_sketch import switch, unmap
from tests.minting import Minted, authority, mint

pytestmark = pytest.mark.django_db


@pytest.fixture
def installation() -> dict[str, Any]:
    """An edge and an internal node; alice has a certificate, bob a password, carol both and no group."""
    partners, gateways = factories.GroupFactory(name="Partners"), factories.GroupFactory(name="Gateways")
    alice = factories.UserFactory(name="alice", groups=[partners])
    bob = factories.UserFactory(name="bob", groups=[partners], password="a long password")
    carol = factories.UserFactory(name="carol", password="another password")
    gateway = factories.UserFactory(name="gateway", groups=[gateways])
    minted = {name: mint(f"CN={name}", factories.partner_ca()) for name in ("alice", "carol", "edge")}
    for user in (alice, carol):
        factories.CertificateFactory(name=user.name, minted=minted[user.name], user=user)
    factories.CertificateFactory(name="edge", minted=minted["edge"], user=gateway)
    external = factories.ExternalPortFactory(
        name="ext", registration_port__name="reg", service_access={"default": "allow"}
    )
    registration = factories.RegistrationFactory(name="inside-at-reg", port=external.registration_port)
    factories.InternalPortFactory(name="dial", registration=registration, service_access={"default": "allow"})
    acl = factories.ACLFactory(name="PartnerApi", allowed=[partners])
    inner = factories.ACLFactory(name="GatewayOnly", allowed=[gateways])
    node = registration.node
    orders = factories.ServiceFactory(name="orders", node=node, path="/orders", execute_acl=acl)
    factories.ServiceFactory(name="stock", node=node, path="/stock", execute_acl=inner)
    keystore = factories.KeystoreFactory(name="edge-client", minted=minted["edge"])
    endpoint = factories.EndpointFactory(
        name="stock", url="reverse://reg/stock", identity="certificate", keystore=keystore
    )
    api = factories.APIFactory(name="stock-api", node=external.node, path="/api/stock", endpoint=endpoint,
                               execute_acl=acl)  # fmt: skip
    return {"alice": alice, "bob": bob, "carol": carol, "minted": minted, "external": external, "partners": partners,
            "registration": registration, "acl": acl, "orders": orders, "api": api, "gateways": gateways}  # fmt: skip


def reached(shown: Shown, *certificates: Minted) -> dict[str, set[str]]:
    world = records.world({minted.certificate.sha256 for minted in certificates})
    return {at.port: {each.place.path for each in at.reached} for at in reach(world, shown, time.time())}


def test_a_certificate_reaches_what_its_user_may(installation: dict[str, Any]) -> None:
    alice = installation["minted"]["alice"]
    assert reached(Shown(alice.certificate), alice) == {"ext": {"/orders", "/api/stock"}}
    carol = installation["minted"]["carol"]
    assert reached(Shown(carol.certificate), carol) == {"ext": set()}


def test_a_password_reaches_as_far(installation: dict[str, Any]) -> None:
    assert reached(Shown(user="bob")) == {"ext": {"/orders", "/api/stock"}}


def test_what_is_refused_is_counted_with_its_reason(installation: dict[str, Any]) -> None:
    carol = installation["minted"]["carol"].certificate
    (at,) = reach(records.world({carol.sha256}), Shown(carol), time.time())
    assert at.refused == {IdentityReason.ACL_DENIED: 3}
    (strangers,) = reach(records.world(), Shown(), time.time())
    assert strangers.refused == {IdentityReason.AUTHENTICATION_REQUIRED: 3}


def test_who_reaches_a_service_is_told_with_what_they_log_in_by(installation: dict[str, Any]) -> None:
    world = records.world()
    service = world.snapshots[installation["orders"].node.name].services["orders"]
    (answer,) = who(world, records.holdings(datetime.now(UTC)), service, time.time())
    found = {callers.names: [credential.kind for credential in callers.credentials] for callers in answer.callers}
    assert found == {("alice",): ["certificate"], ("bob",): ["password"]}
    assert (answer.place.port, answer.place.path, answer.strangers) == ("ext", "/orders", False)
    assert answer.refused == ((IdentityReason.ACL_DENIED, 2),)


def test_a_service_behind_an_api_is_reached_by_whom_the_edge_admits(installation: dict[str, Any]) -> None:
    world = records.world()
    service = world.snapshots[installation["orders"].node.name].services["stock"]
    by_path = {
        answer.place.path: answer for answer in who(world, records.holdings(datetime.now(UTC)), service, time.time())
    }
    assert {name for callers in by_path["/api/stock"].callers for name in callers.names} == {"alice", "bob"}
    assert {name for callers in by_path["/stock"].callers for name in callers.names} == {"gateway"}


def test_whom_a_certificate_means_is_told_with_the_rules_that_are_near(installation: dict[str, Any]) -> None:
    minted = mint("CN=new,O=Partner,OU=Sales", factories.partner_ca(), san=["dns:a.partner.example"])
    factories.MappingRuleFactory(
        name="east", subject={"O": ["Partner"], "OU": ["East"]}, san="", user=installation["bob"]
    )
    factories.MappingRuleFactory(name="other", subject={"O": ["Other"]}, san="", user=installation["bob"])
    found = identify(records.world({minted.certificate.sha256}), Shown(minted.certificate), time.time())
    answer = next(each for each in found if each.port == "dial")
    assert answer.reason is IdentityReason.CERTIFICATE_UNMAPPED
    (trial,) = answer.rules
    assert [(each.name, each.wanted, each.found, each.holds) for each in trial.conditions] == [
        ("subject O", "partner", "Partner", True), ("subject OU", "east", "Sales", False),
    ]  # fmt: skip


# --- what changes for whom ---


def told(found: Outlook) -> set[tuple[str, str, tuple[str, ...], str]]:
    return {
        ("gains" if effect.gained else "loses", effect.callers.kind, effect.callers.names, label)
        for effect in found.effects
        for label in effect.labels
    }


def test_an_acl_that_lets_another_group_in(installation: dict[str, Any]) -> None:
    found = outlook(lambda: installation["acl"].allowed.add(installation["gateways"]), "olivia")
    assert told(found) == {
        ("gains", "user", ("gateway",), "service orders"), ("gains", "user", ("gateway",), "API stock-api"),
    }  # fmt: skip
    assert {effect.reason for effect in found.effects} == {IdentityReason.ACL_DENIED}
    assert not installation["acl"].allowed.filter(name="Gateways").exists(), "it was taken back"


def test_a_user_who_leaves_a_group(installation: dict[str, Any]) -> None:
    found = outlook(lambda: installation["alice"].groups.clear(), "olivia")
    assert told(found) == {
        ("loses", "user", ("alice",), "service orders"), ("loses", "user", ("alice",), "API stock-api"),
    }  # fmt: skip


def test_a_user_under_another_name_is_the_same(installation: dict[str, Any]) -> None:
    def rename() -> None:
        installation["alice"].name = "alicia"
        installation["alice"].save()

    assert outlook(rename, "olivia").nothing


def test_a_group_under_another_name_changes_nothing(installation: dict[str, Any]) -> None:
    def rename() -> None:
        installation["partners"].name = "Suppliers"
        installation["partners"].save()

    assert outlook(rename, "olivia").nothing


def test_a_mapping_to_another_user(installation: dict[str, Any]) -> None:
    row = Certificate.objects.get(name="alice")

    def remap() -> None:
        row.user = installation["carol"]
        row.save()

    found = outlook(remap, "olivia")
    assert ("loses", "certificate", ("alice",), "service orders") in told(found)
    assert {(each.before, each.after) for each in found.identities} == {("alice", "carol")}


@pytest.mark.parametrize(
    ("port", "loses"),
    [
        pytest.param("ext", {"service orders", "API orders-api"}, id="not-any-more-inside"),
        pytest.param("dial", {"API stock-api", "API orders-api"}, id="not-any-more-at-the-edge"),
    ],
)
def test_each_node_that_maps_a_certificate_is_asked(installation: dict[str, Any], port: str, loses: set[str]) -> None:
    """At the same ports the edge maps who calls an API, and hands on unmapped what passes through."""
    endpoint = factories.EndpointFactory(name="orders", url="reverse://reg/orders", identity="caller")
    factories.APIFactory(name="orders-api", node=installation["external"].node, path="/api/orders", endpoint=endpoint,
                         execute_acl=installation["acl"])  # fmt: skip
    row = Certificate.objects.get(name="alice")

    def limit() -> None:
        row.ports = [port]
        row.save()

    assert told(outlook(limit, "olivia")) == {("loses", "certificate", ("alice",), each) for each in loses}


def test_a_certificate_that_an_endpoint_shows(installation: dict[str, Any]) -> None:
    """Every caller of the API is concerned, though none of them changes."""
    row = Certificate.objects.get(name="edge")

    def block() -> None:
        row.blocked = True
        row.save()

    found = outlook(block, "olivia")
    lost = {effect.callers.names for effect in found.effects if effect.callers.kind == "user"}
    assert {name for names in lost for name in names} == {"alice", "bob"}
    assert {e.reason for e in found.effects if e.callers.kind == "user"} == {GatewayReason.ENDPOINT_REFUSED}


def test_a_rule_that_means_a_certificate_on_file(installation: dict[str, Any]) -> None:
    factories.CertificateFactory(name="loose", minted=mint("CN=loose,O=Rules", factories.partner_ca()))
    found = outlook(
        lambda: factories.MappingRuleFactory(name="r", subject={"O": ["Rules"]}, san="", user=installation["bob"]),
        "olivia",
    )
    assert ("gains", "certificate", ("loose",), "service orders") in told(found)
    assert {(each.before, each.after) for each in found.identities} == {(IdentityReason.CERTIFICATE_UNMAPPED, "bob")}


def test_a_service_that_moves(installation: dict[str, Any]) -> None:
    def move() -> None:
        installation["orders"].path = "/purchases"
        installation["orders"].save()

    found = outlook(move, "olivia")
    assert ("gains", "user", ("alice",), "service orders") in told(found) and any(not e.gained for e in found.effects)


def test_a_channel_that_is_closed(installation: dict[str, Any]) -> None:
    def close() -> None:
        installation["registration"].enabled = False
        installation["registration"].save()

    found = outlook(close, "olivia")
    assert {effect.reason for effect in found.effects} == {GatewayReason.NO_INTERNAL_CONNECTION}
    assert all(not effect.gained for effect in found.effects)


def test_words_in_a_description_change_nothing(installation: dict[str, Any]) -> None:
    def describe() -> None:
        installation["acl"].description = "for partners"
        installation["acl"].save()

    assert outlook(describe, "olivia").nothing


def test_a_user_whom_only_a_rule_means_is_asked_as_one_whom_it_matched(installation: dict[str, Any]) -> None:
    """No certificate is on file for dora; whoever holds one that the rule matches is what the answers are about."""
    dora = factories.UserFactory(name="dora")
    factories.MappingRuleFactory(name="dora", user=dora)
    found = outlook(lambda: dora.groups.add(installation["partners"]), "olivia")
    assert told(found) == {
        ("gains", "user", ("dora",), "service orders"), ("gains", "user", ("dora",), "API stock-api"),
    }  # fmt: skip


def test_a_rule_whose_issuer_the_port_does_not_believe_leads_nowhere(installation: dict[str, Any]) -> None:
    other = authority("CN=Elsewhere,O=Other")
    factories.TruststoreFactory(anchors=[other])
    dora = factories.UserFactory(name="dora")
    factories.MappingRuleFactory(name="dora", user=dora, issuer="CN=Elsewhere,O=Other")
    assert outlook(lambda: dora.groups.add(installation["partners"]), "olivia").nothing


def test_many_that_differ_are_told_as_one(installation: dict[str, Any]) -> None:
    """Ten users, each of whom loses a service of his own."""
    node, port = installation["orders"].node, installation["external"]
    for number in range(10):
        group = factories.GroupFactory(name=f"g{number}")
        factories.UserFactory(name=f"u{number}", groups=[group], password="a long password")
        acl = factories.ACLFactory(name=f"a{number}", allowed=[group])
        factories.ServiceFactory(name=f"s{number}", node=node, path=f"/s/{number}", execute_acl=acl)

    def passwords_off() -> None:
        port.accept_basic = False
        port.save()

    (effect,) = [e for e in outlook(passwords_off, "olivia").effects if e.callers.count == 11]
    assert effect.partly and effect.places == 12
    assert (effect.callers.more, effect.more) == (3, 4)


# --- one row that is sketched ---


SKETCHED: list[tuple[type[Model], str, Callable[[Any], None]]] = [
    (Certificate, "alice", switch("blocked")),
    (Certificate, "alice", unmap),
    (Certificate, "edge", switch("blocked")),
    (Certificate, "edge", unmap),
    (Certificate, "loose", switch("blocked")),
    (Certificate, "shut", switch("blocked")),
    (User, "alice", switch("enabled")),
    (User, "bob", switch("enabled")),
    (User, "gateway", switch("enabled")),
    (User, "off", switch("enabled")),
    (Registration, "inside-at-reg", switch("enabled")),
]


def test_a_sketch_tells_what_making_the_change_would(installation: dict[str, Any]) -> None:
    factories.CertificateFactory(name="loose", minted=mint("CN=loose,O=Rules", factories.partner_ca()))
    factories.CertificateFactory(name="shut", user=installation["bob"], blocked=True)
    off = factories.UserFactory(name="off", groups=[installation["partners"]], enabled=False)
    factories.CertificateFactory(user=off)
    factories.MappingRuleFactory(name="rules", subject={"O": ["Rules"]}, san="", user=off)
    with change_set("tests", "whom the edge's certificate means calls too"):
        User.objects.get(name="gateway").groups.add(installation["partners"])
    for model, name, act in SKETCHED:
        row: Any = model._default_manager.get(name=name)

        def made(row: Any = row, act: Callable[[Any], None] = act) -> None:
            act(row)
            row.save()

        found = outlook_of(model, row.pk, act)
        assert not found.nothing, name
        assert found == outlook(made, "olivia"), name


def test_a_sketch_is_drawn_again_where_something_is_changed_meanwhile(installation: dict[str, Any]) -> None:
    """The other change closes the channel that the certificate came by: nobody loses anything any more."""
    drawn = []

    def unmap(row: Certificate) -> None:
        if not drawn:
            with change_set("tests", "meanwhile"):
                installation["registration"].enabled = False
                installation["registration"].save()
        drawn.append(row)
        row.user = None

    found = outlook_of(Certificate, Certificate.objects.get(name="alice").pk, unmap)
    assert len(drawn) == 2
    assert "service orders" not in {label for _, _, _, label in told(found)}
