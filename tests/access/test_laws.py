"""Asking one for many is as good as asking each: grouped answers against the decision, caller by caller."""

import time
from dataclasses import replace
from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.answers import STRANGER, Asker, Shown
from gateway.access.crowd import Crowd
from gateway.access.places import Place, course_of, places
from gateway.core.reasons import GatewayReason
from gateway.core.snapshot import Snapshot
from gateway.world import Way, World
from identity.core.mapping import Mappings, Rule
from identity.core.names import folded
from identity.core.nearness import conditions, near
from tests.factories import partner_ca
from tests.gateway.test_decision import document, port, registration
from tests.minting import mint

NOW = time.time()
GROUPS = ["Partners", "Gateways", "Suspended", "Administrators"]
PATHS = ["/orders", "/orders/new", "/stock", "/open"]
some_groups = st.lists(st.sampled_from(GROUPS), unique=True)
acls = st.fixed_dictionaries(
    {"allowed": st.lists(st.sampled_from([*GROUPS, "Everybody"]), unique=True), "denied": some_groups}
)
lists = st.fixed_dictionaries(
    {
        "default": st.sampled_from(["allow", "deny"]),
        "allow": st.lists(st.sampled_from(PATHS), unique=True),
        "deny": st.lists(st.sampled_from(PATHS), unique=True, max_size=1),
    }
)


@st.composite
def worlds(draw: Any) -> World:
    """An edge and an internal node: two channels, four services, an API in front of one, users by the dozen."""
    users = {
        f"user{number}": {"groups": ["Everybody", *draw(some_groups)], "enabled": draw(st.booleans()),
                          "password_hash": "set"}
        for number in range(draw(st.integers(1, 8)))
    } | {"Default": {"groups": ["Everybody", "Anonymous"], "enabled": True}}  # fmt: skip
    found_acls = {name: draw(acls) for name in ("one", "two", "Default")}
    names = st.sampled_from(sorted(found_acls))
    service = document()["services"]["orders"]
    services = {path: service | {"path": path, "acl": draw(names)} for path in PATHS}
    limits = draw(st.sampled_from([None, ["Partners"], ["Partners", "Gateways"]]))
    channels = {
        name: registration(
            port="reg", node="inside", paths=carried,
            may_assert={"truststores": None, "groups": limits},
        )
        for name, carried in (("a", draw(st.sampled_from([[], ["/orders"]]))), ("b", ["/open"]))
    }  # fmt: skip
    shared = {"users": users, "acls": found_acls, "certificates": {}, "mapping_rules": {}}
    dials = [{"host": "edge", "port": 1, "registration": name} for name in channels]
    inside = document(
        services=services, registrations=channels, **shared,
        ports={"dial": port(type="internal", host="", truststore="", client_truststore="partners", connect=dials,
                            service_access=draw(lists)),
               "plain": port(service_access=draw(lists))},
    )  # fmt: skip
    endpoint = {"url": "reverse://reg/orders", "identity": draw(st.sampled_from(["caller", "anonymous"])),
                "keystore": "", "truststore": "", "username": "", "password": "", "forward_authorization": False,
                "timeout": 1.0}  # fmt: skip
    edge = document(
        node={"name": "edge", "role": "edge"}, services={}, registrations={}, endpoints={"e": endpoint},
        apis={"api": {"path": "/api", "methods": [], "endpoint": "e", "acl": draw(names)}}, **shared,
        ports={"ext": port(type="external", registration_port="reg", service_access=draw(lists))},
    )  # fmt: skip
    return World.of({"edge": edge, "inside": inside})


def walked(asker: Asker, place: Any, user: str) -> object:
    return asker.walk(place, Shown(user=user)).reason


@settings(max_examples=150)
@given(worlds())
def test_users_of_one_block_are_decided_alike_at_places_of_one_key(world: World) -> None:
    asker, crowd = Asker(world, NOW), Crowd([world.users], [{}])
    for alike in asker.grouped(places(world)).values():
        for block in crowd.blocks(asker.course(alike[0]).memberships, crowd.everybody):
            of_all = {walked(asker, place, name) for place in alike for name in crowd.some(block, len(crowd.names))}
            assert len(of_all) == 1


@settings(max_examples=100)
@given(worlds(), st.permutations([None, *range(10)]))
def test_who_is_nobody_at_one_place_is_nobody_wherever_that_way_leads(world: World, order: list[int | None]) -> None:
    asker = Asker(world, NOW)
    shown = [Shown(user=user) for user in (*world.users, "unheard-of")] + [Shown(each) for each in CERTIFICATES]
    shown.append(STRANGER)
    among = list(places(world))
    for number in order:
        for place in among if number is None else among[number : number + 1]:
            for each in shown:
                assert asker.reason(place, each) == asker.walk(place, each).reason


def test_what_comes_of_the_call_that_an_api_makes_is_asked_at_each_place() -> None:
    """Both services of one API refuse the endpoint's own identity: one by its ACL, the other is not on the port."""
    acls = {"open": {"allowed": ["Everybody"], "denied": []}, "shut": {"allowed": ["Partners"], "denied": []}}
    default = {"groups": ["Everybody", "Anonymous"], "enabled": True}
    shared = {"users": {"Default": default}, "acls": acls | {"Default": acls["open"]}, "certificates": {},
              "mapping_rules": {}}  # fmt: skip
    service = document()["services"]["orders"] | {"acl": "shut"}
    inside = document(
        services={path: service | {"path": path} for path in ("/orders", "/orders/new")},
        registrations={"a": registration(port="reg", node="inside")}, **shared,
        ports={"dial": port(type="internal", host="", truststore="", client_truststore="partners",
                            connect=[{"host": "edge", "port": 1, "registration": "a"}],
                            service_access={"default": "allow", "allow": [], "deny": ["/orders/new"]})},
    )  # fmt: skip
    endpoint = {"url": "reverse://reg/orders", "identity": "anonymous", "keystore": "", "truststore": "",
                "username": "", "password": "", "forward_authorization": False, "timeout": 1.0}  # fmt: skip
    edge = document(
        node={"name": "edge", "role": "edge"}, services={}, registrations={}, endpoints={"e": endpoint},
        apis={"api": {"path": "/api", "methods": [], "endpoint": "e", "acl": "open"}}, **shared,
        ports={"ext": port(type="external", registration_port="reg",
                           service_access={"default": "allow", "allow": [], "deny": []})},
    )  # fmt: skip
    world = World.of({"edge": edge, "inside": inside})
    asker = Asker(world, NOW)
    reached = [place for place in places(world) if place.path.startswith("/api")]
    assert {place.path for place in reached} == {"/api", "/api/new"}
    found = [asker.reason(place, STRANGER) for place in reached]
    assert found == [asker.walk(place, STRANGER).reason for place in reached]
    assert len(set(found)) == 2


class Counting(Asker):
    walked = 0

    def walk(self, place: Place, shown: Shown) -> Way:
        self.walked += 1
        return super().walk(place, shown)


@settings(max_examples=50)
@given(worlds())
def test_where_the_entry_port_hides_a_place_one_caller_is_asked_for_all(world: World) -> None:
    asker = Counting(world, NOW)
    hidden = GatewayReason.SERVICE_NOT_ON_PORT
    at_plain = [place for place in places(world) if place.port == "plain"]
    among = [place for place in at_plain if asker.walk(place, STRANGER).reason is hidden]
    asker.walked = 0
    for each in (STRANGER, Shown(user="user0"), *map(Shown, CERTIFICATES), Shown(CERTIFICATES[0], (CERTIFICATES[1],))):
        assert {asker.reason(place, each) for place in among} <= {hidden}
    assert asker.walked == len(among)


@settings(max_examples=50)
@given(worlds(), st.lists(st.frozensets(st.sampled_from(GROUPS))))
def test_blocks_lose_nobody_and_have_nobody_twice(world: World, memberships: list[frozenset[str]]) -> None:
    crowd = Crowd([world.users], [{}])
    blocks = crowd.blocks(memberships, crowd.everybody)
    named = list(chain.from_iterable(crowd.some(block, len(crowd.names)) for block in blocks))
    assert sorted(named) == crowd.names


@settings(max_examples=100)
@given(worlds())
def test_a_place_that_is_open_comes_to_the_question_who_calls(world: World) -> None:
    asker = Asker(world, NOW)
    for place in places(world):
        if course_of(world, place, NOW).open:
            lanes = asker.walk(place, Shown(user="user0")).lanes
            checks = {step.check for lane in lanes for step in lane.decision.steps}
            assert checks & {"password", "user", "authentication"}


# --- rules that are near ---

values = st.sampled_from(["Acme", "acme", "Other"])
rules = st.builds(
    Rule,
    name=st.just("r"),
    priority=st.just(1),
    issuer_spki_sha256=st.sampled_from(["", partner_ca().certificate.spki_sha256, "0" * 64]),
    subject=st.dictionaries(st.sampled_from(["O", "OU"]), st.lists(values, min_size=1, max_size=2)).map(
        lambda found: tuple((kind, tuple(sorted(map(folded, each)))) for kind, each in sorted(found.items()))
    ),
    san=st.sampled_from(["", "dns:*.a.example", "dns:b.example"]),
    user=st.just("alice"),
)
CERTIFICATES = [
    mint("CN=x,O=Acme", partner_ca(), san=["dns:x.a.example"]).certificate,
    mint("CN=x,O=Acme,OU=Other", partner_ca(), san=["dns:b.example"]).certificate,
    mint("CN=x", partner_ca()).certificate,
]


@given(rules, st.sampled_from(CERTIFICATES))
def test_the_first_condition_that_fails_is_what_the_rule_misses_by(rule: Rule, certificate: Any) -> None:
    above = (partner_ca().certificate,)
    failing = [each.name for each in conditions(rule, certificate, above) if not each.holds]
    assert rule.misses(certificate, above) == (failing[0] if failing else None)


@given(st.lists(rules, max_size=5), st.sampled_from(CERTIFICATES))
def test_what_matches_comes_first_and_what_shares_nothing_is_left_out(found: list[Rule], certificate: Any) -> None:
    named = [replace(rule, name=f"r{number}") for number, rule in enumerate(found)]
    trials = near(Mappings.of({}, named), certificate, (partner_ca().certificate,), "ext")
    assert [trial.missing for trial in trials] == sorted(trial.missing for trial in trials)
    assert all(any(each.holds for each in trial.conditions) for trial in trials)


def test_a_world_shares_what_is_the_same() -> None:
    first = World.of({"inside": document()})
    second = World.of({"inside": document(revision=2)}, first)
    one: Snapshot = first.snapshots["inside"]
    assert second.snapshots["inside"].ports["https"] is one.ports["https"]
