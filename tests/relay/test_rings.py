"""What a node keeps of its refusals: each is told once to whoever goes on from where he was, and bounded all over."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.refusals import MAX_ANSWER, MAX_CHAIN, Refusals, Ring


@given(kept=st.integers(1, 8), batches=st.lists(st.integers(0, 12), max_size=8), count=st.integers(1, 5))
def test_whoever_goes_on_gets_each_once_or_is_told_how_many_he_missed(
    kept: int, batches: list[int], count: int
) -> None:
    ring, seen, missed, cursor, made = Ring(kept), [], 0, 0, 0
    for batch in batches:
        for _ in range(batch):
            made += 1
            ring.note({"n": made})
        more = True
        while more:
            told = ring.since(cursor, count)
            seen += [each["n"] for each in told["entries"]]
            missed += told["missed"]
            cursor = told["entries"][-1]["number"] if told["entries"] else cursor
            more = told["more"]
            if told["missed"]:
                assert told["entries"], "what is gone is told together with what came after it"
    assert seen == sorted(set(seen)) and len(seen) + missed == made
    assert len(list(ring)) <= kept


def test_an_answer_is_bounded_in_bytes_and_goes_on_where_it_ended() -> None:
    ring = Ring()
    for number in range(40):
        ring.note({"n": number}, [bytes(MAX_CHAIN)])
    cursor, seen = 0, []
    while True:
        told = ring.since(cursor)
        assert len(json.dumps(told)) < MAX_ANSWER + 1000
        seen += [each["n"] for each in told["entries"]]
        cursor = told["entries"][-1]["number"]
        if not told["more"]:
            break
    assert seen == list(range(40))


def test_of_a_long_chain_the_leaf_is_kept_and_of_a_long_leaf_nothing() -> None:
    ring = Ring()
    for chain in ([b"leaf", bytes(MAX_CHAIN)], [bytes(MAX_CHAIN + 1)], [b"leaf", b"issuer"]):
        ring.note({}, chain)
    assert [len(each.chain) for each in ring] == [1, 0, 2]


def test_a_cursor_that_makes_no_sense_is_the_beginning() -> None:
    refusals = Refusals()
    ring = refusals.requests
    ring.note({"n": 1})
    for cursor in (None, [], {ring.source: -1}, {ring.source: "x"}, {"another": 7}):
        source, _ = refusals.since({"op": "refused_since", "cursor": cursor})
        assert [each["n"] for each in source["entries"]] == [1]
    source, _ = refusals.since({"cursor": {ring.source: 10**12}})
    assert (source["entries"], source["missed"], source["more"]) == ([], 0, False)


def test_whoever_asks_by_trace_is_told_what_he_who_asks_by_number_is() -> None:
    refusals = Refusals(kept=3)
    for trace_id, node in (("a", "gone"), ("b", "one"), ("b", "two"), ("c", "three")):
        refusals.requests.note({"trace_id": trace_id, "lanes": [{"node": node}]})
    refusals.handshakes.note({"words": "of no trace"})
    assert [refusals.lanes(trace_id) for trace_id in "abc"] == [None, [{"node": "two"}], [{"node": "three"}]]
    requests, handshakes = refusals.since({"op": "refused_since"})
    assert [each["lanes"] for each in requests["entries"]][1:] == [refusals.lanes("b"), refusals.lanes("c")]
    assert (requests["kind"], requests["missed"]) == ("request", 1)
    assert (handshakes["kind"], len(handshakes["entries"])) == ("handshake", 1)
