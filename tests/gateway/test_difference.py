"""The laws of differences: what is sent and applied in part comes to the same as the whole."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.difference import SECTIONS, DifferenceError, difference, patched
from gateway.core.document import SnapshotError, amended, from_document
from gateway.relay.blocking import Blocked, blocked_between
from identity.core import mapping
from tests.gateway.test_decision import ALICE, document, port

names = st.sampled_from(["a", "b", "c", "d"])
entries = st.dictionaries(names, st.dictionaries(names, st.integers(0, 2) | st.none(), max_size=2), max_size=4)
documents = st.fixed_dictionaries(
    dict.fromkeys(SECTIONS, entries)
    | {"format": st.just(1), "revision": st.integers(1, 9), "node": st.just({"name": "n"}),
       "token": st.none() | st.just({"issuer": "i"})}
)  # fmt: skip


@given(documents, documents)
def test_a_patched_document_is_the_one_that_the_difference_was_made_to(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    kept = copy.deepcopy(before)
    assert patched(before, difference(before, after)) == after
    assert before == kept, "the one in force stays as it was"


@given(documents, documents)
def test_a_difference_names_what_differs_and_nothing_else(before: dict[str, Any], after: dict[str, Any]) -> None:
    change = difference(before, after)
    for section in SECTIONS:
        differing = {n for n in {*before[section], *after[section]} if before[section].get(n) != after[section].get(n)}
        named = {*change["put"].get(section, {}), *change["removed"].get(section, ())}
        assert named == differing | {n for n in after[section] if n not in before[section]}


def test_what_is_unchanged_is_shared() -> None:
    before, after = document(), document(revision=2, users={})
    made = patched(before, difference(before, after))
    assert all(made[section] is before[section] for section in SECTIONS if section != "users")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param({"stands_on": 7}, "stands on revision 7, and 1 is in force", id="another-revision"),
        pytest.param({"format": 9}, "format 9", id="another-format"),
        pytest.param({"removed": {"users": ["nobody"]}}, r"users\[nobody\] is to go", id="removes-what-is-not-there"),
        pytest.param({"put": {"secrets": {}}}, "no section secrets", id="unknown-section"),
        pytest.param({"values": {"users": {}}}, "users is no single value", id="a-section-as-a-value"),
    ],
)
def test_a_difference_that_does_not_fit_is_refused(wrong: dict[str, Any], words: str) -> None:
    change = difference(document(), document(revision=2)) | wrong
    with pytest.raises(DifferenceError, match=words):
        patched(document(), change)
    with pytest.raises(SnapshotError, match=words):
        amended(from_document(document()), change)


def test_a_difference_that_lacks_a_part_is_refused() -> None:
    with pytest.raises(DifferenceError, match="lacks put, removed"):
        patched(document(), {"format": 1, "stands_on": 1, "revision": 2, "values": {}})


def test_a_difference_that_contradicts_the_rest_is_refused_by_name() -> None:
    before = from_document(document())
    broken = document(revision=2, services={"s": document()["services"]["orders"] | {"acl": "Gone"}})
    with pytest.raises(SnapshotError, match=r"services\[s\]: 'Gone'"):
        amended(before, difference(document(), broken))


def rule(cn: str, **more: Any) -> dict[str, Any]:
    return {"priority": 5, "issuer_spki_sha256": "", "subject": {"CN": [cn]}, "san": "", "user": "alice",
            "user_from": None} | more  # fmt: skip


changes = st.fixed_dictionaries(
    {},
    optional={
        "certificates": st.dictionaries(
            st.sampled_from([ALICE.certificate.sha256, "0" * 64]),
            st.fixed_dictionaries({"name": st.just("c"), "user": st.sampled_from(["alice", "bob", None]),
                                   "logs_in": st.booleans(), "blocked": st.booleans()}),
        ),
        "mapping_rules": st.dictionaries(
            names, st.builds(rule, st.sampled_from(["alice", "other"]), user=st.sampled_from(["alice", "bob"]),
                             priority=st.sampled_from([1, 2]), san=st.sampled_from(["", "dns:*.partner.example"]))
        ),
        "users": st.dictionaries(
            st.sampled_from(["alice", "bob"]),
            st.fixed_dictionaries({"groups": st.lists(st.sampled_from(["Everybody", "Partners"]), unique=True),
                                   "enabled": st.booleans()}),
        ),
        "truststores": st.just(document()["truststores"] | {"more": document()["truststores"]["partners"]}),
        "acls": st.just(document()["acls"] | {"Partners": {"allowed": ["Gateways"], "denied": []}}),
        "ports": st.just(document()["ports"] | {"https": port(explain=True)}),
    },
)  # fmt: skip


@given(st.lists(changes, min_size=1, max_size=4))
def test_a_snapshot_that_was_amended_decides_as_one_that_came_whole(steps: list[dict[str, Any]]) -> None:
    last = document()
    snapshot = from_document(last)
    for number, step in enumerate(steps):
        new = document(revision=number + 2, **step)
        snapshot = amended(snapshot, difference(last, new))
        last = new
    whole = from_document(last)
    assert snapshot.document == last
    both = [mapping.resolve(ALICE.certificate, (), each.mappings, each.users, "ext", 0.0) for each in (snapshot, whole)]
    one, other = both
    assert (one.user, one.reason, one.steps) == (other.user, other.reason, other.steps)
    for name in ("users", "acls", "services", "mapping_rules"):
        assert getattr(snapshot, name) == getattr(whole, name)


def test_what_does_not_depend_on_a_change_stays_the_very_same() -> None:
    """A registration that is made anew loses its tunnels: another truststore's coming is no reason."""
    before = from_document(document())
    more = document()["truststores"] | {"more": document()["truststores"]["partners"]}
    after = amended(before, difference(document(), document(revision=2, truststores=more)))
    assert after.registrations is before.registrations
    assert after.ports is before.ports
    assert after.mappings is before.mappings
    assert after.all_routes is before.all_routes


def test_certificates_change_without_the_rules_being_looked_at() -> None:
    first = document(mapping_rules={"r": rule("alice")})
    before = from_document(first)
    after = amended(
        before, difference(first, document(revision=2, mapping_rules=first["mapping_rules"], certificates={}))
    )
    assert after.mappings.buckets is before.mappings.buckets
    assert len(after.mappings.exact) == 0


def test_a_certificate_on_file_that_lacks_a_field_is_refused_when_it_comes() -> None:
    with pytest.raises(SnapshotError, match=r"certificates\[00\]: it lacks blocked, logs_in"):
        from_document(document(certificates={"00": {"name": "c", "user": None}}))


def test_who_is_blocked_by_a_difference() -> None:
    before = from_document(document())
    users = document()["users"]
    disabled = users | {"alice": users["alice"] | {"enabled": False}}
    gone = {name: entry for name, entry in users.items() if name != "bob"}
    marked = {"certificates": [ALICE.certificate.sha256], "of_disabled_users": ["ab" * 32]}
    for changed, expected in (
        ({"users": disabled}, Blocked(frozenset(), frozenset({"alice"}), frozenset())),
        ({"users": gone}, Blocked(frozenset(), frozenset({"bob"}), frozenset())),
        ({"users": {}}, Blocked(frozenset(), frozenset(), frozenset())),  # it decides for nobody any more
        ({"blocked": marked}, Blocked(frozenset({ALICE.certificate.sha256}), frozenset(), frozenset({"ab" * 32}))),
    ):
        found = blocked_between(before, from_document(document(revision=2, **changed), before))
        assert found == expected and bool(found) is (expected != Blocked(frozenset(), frozenset(), frozenset()))
