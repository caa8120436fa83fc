"""The drawing of the topology: laws of its layout, for three nodes and for sixty."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.topology import (
    BACKENDS_OF_A_NODE,
    LETTER,
    BackendFact,
    Box,
    Drawing,
    Lit,
    NodeFact,
    PortFact,
    TunnelFact,
    draw,
    node_key,
    port_key,
    tunnel_key,
)

names = st.text("abcdefghijk-", min_size=1, max_size=80)
KINDS = ("ok", "warn", "bad", "soft")


@st.composite
def topologies(make: st.DrawFn, most: int = 12) -> tuple[list[NodeFact], list[TunnelFact]]:
    """Any nodes, each name once; tunnels of which some lead nowhere."""
    roles = make(st.lists(st.sampled_from(["edge", "internal", "internal", "standalone"]), max_size=most))
    nodes: list[NodeFact] = []
    ports: list[str] = ["nowhere"]
    for number, role in enumerate(roles):
        own = [f"p{number}-{index}-{make(names)}" for index in range(make(st.integers(0, 4)))]
        types = ["regular"] if role != "edge" else ["registration", "external", "regular"]
        facts = tuple(PortFact(name, make(st.sampled_from(types)), ":8443", inward=own[0]) for name in own)
        ports += [fact.name for fact in facts if fact.type == "registration"]
        backends = tuple(BackendFact(f"b{index}:80") for index in make(st.sets(st.integers(0, 30), max_size=7)))
        routes = tuple(make(st.lists(names, max_size=5)))
        state = make(st.sampled_from(KINDS))
        nodes.append(NodeFact(f"n{number}-{make(names)}", role, state, "3 in flight", "/", facts, routes, backends))
    ends = [node.name for node in nodes] + ["nobody"]
    tunnels = [
        TunnelFact(f"r{number}", make(st.sampled_from(ports)), make(st.sampled_from(ends)), "ok", "healthy", "1 idle")
        for number in range(make(st.integers(0, 10)))
    ]
    return nodes, tunnels


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.right and other.x < one.right and one.y < other.y + other.height and other.y < one.y + one.height
    )


def check(drawing: Drawing) -> None:
    by_key = {box.key: box for box in drawing.boxes}
    assert len(by_key) == len(drawing.boxes)
    for one, other in combinations(drawing.boxes, 2):
        if one.within != other.key and other.within != one.key:
            assert not overlap(one, other), (one, other)
    for box in drawing.boxes:
        outer = by_key[box.within] if box.within else None
        left, top, right, bottom = (
            (outer.x, outer.y, outer.right, outer.y + outer.height) if outer else (0, 0, drawing.width, drawing.height)
        )
        assert left <= box.x and box.right <= right and top <= box.y and box.y + box.height <= bottom, box
        for label in box.labels:
            width = len(label.text) * LETTER
            begin, end = (label.x - width, label.x) if label.end else (label.x, label.x + width)
            assert box.x <= begin + LETTER and end <= box.right + LETTER, (box.width, label)


@given(topologies())
@settings(max_examples=150, deadline=None)
def test_no_box_lies_upon_another_and_each_within_its_own(given: tuple[list[NodeFact], list[TunnelFact]]) -> None:
    check(draw(*given))


@given(topologies(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_makes_no_difference(
    given: tuple[list[NodeFact], list[TunnelFact]], random: "st.DataObject"
) -> None:
    nodes, tunnels = given
    shuffled = list(nodes), list(tunnels)
    for each in shuffled:
        random.shuffle(each)  # type: ignore[attr-defined]
    assert draw(*shuffled) == draw(nodes, tunnels)


@given(topologies())
@settings(max_examples=50, deadline=None)
def test_lighting_moves_nothing(given: tuple[list[NodeFact], list[TunnelFact]]) -> None:
    plain = draw(*given)
    keys = frozenset(box.key for box in plain.boxes)
    lit = draw(*given, Lit(keys, dict.fromkeys(keys, "acl_denied"), "CN=alice"))
    assert [(box.x, box.y, box.width, box.height) for box in lit.boxes] == [
        (box.x, box.y, box.width, box.height) for box in plain.boxes
    ]
    assert all(box.lit for box in lit.boxes)


def three() -> tuple[list[NodeFact], list[TunnelFact]]:
    edge = NodeFact(
        "edge", "edge", "ok", "0 in flight", "/nodes/1/",
        (PortFact("ext", "external", ":8443", "certificate required", "reg", "ok", "listening", "/ports/1/"),
         PortFact("reg", "registration", ":8444", "", "", "ok", "listening", "/ports/2/")),
    )  # fmt: skip
    erp = (BackendFact("erp:80"),)
    inside = [NodeFact(f"inside-{n}", "internal", "ok", "0 in flight", "/", (), ("orders",), erp) for n in (1, 2)]
    tunnels = [
        TunnelFact("one", "reg", "inside-1", "ok", "healthy", "2 idle, 0 busy", "/r/1/"),
        TunnelFact("two", "reg", "inside-2", "bad", "never connected", "", "/r/2/"),
    ]
    return [edge, *inside], tunnels


def test_three_nodes_are_drawn_with_their_states() -> None:
    drawing = draw(*three())
    check(drawing)
    by_key = {box.key: box for box in drawing.boxes}
    assert "never connected" in by_key[tunnel_key("two")].title
    assert by_key[tunnel_key("two")].labels[1].text == "never connected"
    assert "2 idle, 0 busy" in by_key[tunnel_key("one")].title
    assert [wire.kind for wire in drawing.wires if wire.down] == ["bad"]
    assert sum(box.what == "backend" for box in drawing.boxes) == 1, "what two nodes share is drawn once"
    assert "tunnels: 2, healthy: 1" in drawing.words


def test_a_way_lights_its_boxes_and_the_wires_between_them() -> None:
    keys = frozenset([port_key("ext"), port_key("reg"), tunnel_key("one"), node_key("edge"), node_key("inside-1")])
    drawing = draw(*three(), Lit(keys, {tunnel_key("one"): "not_registered"}, "CN=alice"))
    assert {box.key for box in drawing.boxes if box.lit} == keys | {"caller ext"}
    assert sum(wire.lit for wire in drawing.wires) == 3
    (stopped,) = [box for box in drawing.boxes if box.stops]
    assert stopped.title.endswith("The way stops here: not_registered")


@pytest.mark.parametrize("inside", [20, 56])
def test_sixty_nodes_fit_and_keep_their_tunnels_beside_their_edge(inside: int) -> None:
    edges = [
        NodeFact(f"edge-{n}", "edge", "ok", "running", "/", (PortFact(f"reg-{n}", "registration", ":1"),))
        for n in range(4)
    ]
    backends = tuple(BackendFact(f"b{n}:80") for n in range(BACKENDS_OF_A_NODE + 1))
    inner = [
        NodeFact(f"inside-{n:02}", "internal", "ok", "running", "/", (), ("a", "b"), backends) for n in range(inside)
    ]
    tunnels = [TunnelFact(f"r-{n:02}", f"reg-{n % 4}", f"inside-{n:02}", "ok", "healthy") for n in range(inside)]
    drawing = draw([*edges, *inner], tunnels)
    check(drawing)
    by_key = {box.key: box for box in drawing.boxes}
    first = {n: by_key[node_key(f"edge-{n}")].y for n in range(4)}
    for n in range(inside):
        own = n % 4
        assert first[own] <= by_key[node_key(f"inside-{n:02}")].y
        assert own == 3 or by_key[node_key(f"inside-{n:02}")].y < first[own + 1]
    assert sum(box.what == "backend" for box in drawing.boxes) == inside, "many backends of a node are one box"
