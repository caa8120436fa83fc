"""Counts of the last hour and of the hour before, from counts that only grow."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.control import merged
from gateway.relay.lately import EVERY, HOUR, Lately
from gateway.relay.metrics import Metrics


@given(st.lists(st.tuples(st.floats(1, 2 * EVERY), st.integers(0, 5)), max_size=60))
def test_an_hour_is_exact_to_one_sample(steps: list[tuple[float, int]]) -> None:
    lately, now, counts = Lately(), 0.0, Counter[str]()
    noted: list[float] = []
    lately.sample(now, counts)
    for wait, more in steps:
        now += wait
        counts["acl_denied"] += more
        noted += [now] * more
        if lately.is_due(now):
            lately.sample(now, counts)
    hour, before = lately.told(now, counts).get("acl_denied", [0, 0])
    slack = 3 * EVERY  # a sample is up to two steps late here
    assert sum(at > now - HOUR for at in noted) <= hour <= sum(at > now - HOUR - slack for at in noted)
    both = hour + before
    assert sum(at > now - 2 * HOUR for at in noted) <= both <= sum(at > now - 2 * HOUR - slack for at in noted)


def test_what_refused_long_ago_is_not_told() -> None:
    lately, counts = Lately(), Counter({"acl_denied": 3})
    for hour in range(4):
        lately.sample(hour * HOUR, counts)
    assert lately.told(3 * HOUR, counts) == {}


def test_of_a_node_that_is_young_all_is_of_this_hour() -> None:
    lately = Lately()
    lately.sample(100.0, Counter())
    assert lately.told(160.0, Counter(acl_denied=2)) == {"acl_denied": [2, 0]}


def test_only_refusals_are_counted_of_all_requests() -> None:
    metrics = Metrics()
    metrics.requests["ext", "orders", 200, ""] += 5
    metrics.requests["ext", "orders", 403, "acl_denied"] += 2
    metrics.requests["ext", "other", 403, "acl_denied"] += 1
    assert metrics.refused() == Counter(acl_denied=3)


def test_workers_are_one_node() -> None:
    state = {"revision": 1, "requests": 0, "in_flight": 0, "ports": [], "tunnels": []}
    one = state | {"left": [{"registration": "a"}], "refused": {"acl_denied": [1, 2]}}
    other = state | {"left": [], "refused": {"acl_denied": [3, 0], "not_found": [1, 0]}}
    found = merged([one, other])
    assert found["refused"] == {"acl_denied": [4, 2], "not_found": [1, 0]}
    assert found["left"] == [{"registration": "a"}]
