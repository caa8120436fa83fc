"""The topology as a drawing: from plain facts to boxes and wires with their places, the same for the same facts.

Knows no rows, no requests and no colours; `console.views.overview` brings the facts, a template draws the shapes.
Columns from left to right: callers, the nodes that they reach, the nodes inside, what stands behind. Each edge has a
band of its own, with the nodes that dial it beside it, so that wires cross only where a node dials several edges.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext

# All lengths are units of the drawing; one is a pixel where it is shown in its own size.
WIDTH = 1200
CALLERS, EDGES, INSIDE, BACKENDS = (0, 176), (236, 340), (672, 284), (1016, 184)  # x, width
TOP = 34  # below the columns' titles
GAP = 14  # between nodes
HEAD, ROW, PAD, SUMMARY = 32, 30, 8, 22  # of a node: its title; a port in it with the gap below; edges; last line
PORT = 24
BACKEND = 28
LETTER = 7.0  # width of one, at most, in the size that boxes are labelled in
BACKENDS_OF_A_NODE = 4  # that are drawn one by one; more are one box
FULL = 12  # nodes inside up to which each tells its services too


@dataclass(frozen=True, slots=True)
class PortFact:
    """A port that somebody calls. `inward`: its registration port. `asks`: for which credential, in words."""

    name: str
    type: str
    address: str = ""
    asks: str = ""
    inward: str = ""
    kind: str = "soft"
    status: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class TunnelFact:
    """`port`: the registration port; `node`: who dials it."""

    registration: str
    port: str
    node: str
    kind: str = "soft"
    status: str = ""
    load: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class BackendFact:
    address: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class NodeFact:
    """`routes`: labels of its services and APIs. `ports`: those that are called, none that dials."""

    name: str
    role: str
    kind: str = "soft"
    status: str = ""
    url: str = ""
    ports: tuple[PortFact, ...] = ()
    routes: tuple[str, ...] = ()
    backends: tuple[BackendFact, ...] = ()


@dataclass(frozen=True, slots=True)
class Lit:
    """What a way takes: keys of boxes; and where it stops, with the words for it."""

    keys: frozenset[str] = frozenset()
    stops: dict[str, str] = field(default_factory=dict)
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    x: float
    y: float
    text: str
    style: str = ""  # strong, soft, or a kind of state
    end: bool = False  # ends at x, and does not begin there


@dataclass(frozen=True, slots=True)
class Box:
    """`title`: all that it stands for, in words. `within`: the key of the box that it is in. `kind`: of its state."""

    key: str
    what: str
    x: float
    y: float
    width: float
    height: float
    title: str
    labels: tuple[Label, ...]
    kind: str = ""
    url: str = ""
    within: str = ""
    lit: bool = False
    stops: str = ""

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Wire:
    """`path`: as SVG writes it. `kind`: of the state of what it stands for. `faint`: one of very many."""

    path: str
    kind: str = ""
    lit: bool = False
    down: bool = False
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    width: float
    height: float
    boxes: list[Box]
    wires: list[Wire]
    headings: list[Label]
    words: str


def draw(nodes: Sequence[NodeFact], tunnels: Sequence[TunnelFact], lit: Lit | None = None) -> Drawing:
    """Total: a tunnel whose ends are not there is left out."""
    return _Drawing(nodes, tunnels, lit or Lit()).drawn()


class _Drawing:
    def __init__(self, nodes: Sequence[NodeFact], tunnels: Sequence[TunnelFact], lit: Lit) -> None:
        self._lit = lit
        self._nodes = sorted(nodes, key=lambda node: (node.role != "edge", node.name))
        self._inner = [node for node in self._nodes if node.role == "internal"]
        self._outer = [node for node in self._nodes if node.role != "internal"]
        at = {port.name: node.name for node in self._outer for port in node.ports}
        names = {node.name for node in self._inner}
        known = [tunnel for tunnel in tunnels if tunnel.node in names and tunnel.port in at]
        self._tunnels = sorted(known, key=lambda each: (each.port, each.registration))
        self._edge_of = {tunnel.node: at[tunnel.port] for tunnel in reversed(self._tunnels)}
        self._boxes: dict[str, Box] = {}
        self._wires: list[Wire] = []

    def drawn(self) -> Drawing:
        bottom = float(TOP)
        for node in self._outer:
            beside = [each for each in self._inner if self._edge_of.get(each.name) == node.name]
            bottom = max(self._outer_node(node, bottom), self._stack(beside, bottom))
        bottom = self._stack([each for each in self._inner if each.name not in self._edge_of], bottom)
        bottom = max(bottom, self._backends())
        self._wire_ports()
        self._wire_tunnels()
        titles = (
            (CALLERS, gettext("Callers")),
            (EDGES, gettext("Edge")),
            (INSIDE, gettext("Inside")),
            (BACKENDS, gettext("Backends")),
        )
        headings = [Label(x, 16, text, "soft") for (x, _), text in titles]
        wires = sorted(self._wires, key=lambda wire: wire.lit)  # what is drawn last lies on top
        return Drawing(WIDTH, bottom, list(self._boxes.values()), wires, headings, self._words())

    def _words(self) -> str:
        up = sum(tunnel.kind == "ok" for tunnel in self._tunnels)
        return gettext(
            "Topology. Nodes that callers reach: {outer}; nodes inside: {inner}; tunnels: {tunnels}, healthy: {up}. "
            "The tables below tell the same."
        ).format(outer=len(self._outer), inner=len(self._inner), tunnels=len(self._tunnels), up=up)

    # --- nodes ---

    def _outer_node(self, node: NodeFact, top: float) -> float:
        """A node that callers reach, with their boxes before it; where the next may begin."""
        x, width = EDGES
        called = [port for port in node.ports if port.type != "registration"]
        dialled = [port for port in node.ports if port.type == "registration"]
        room = width - 2 * PAD
        wide = room if not dialled else room * 0.52
        height = self._node(node, x, width, top, max(len(called), len(dialled)), bool(node.routes))
        for number, port in enumerate(called):
            y = top + HEAD + number * ROW
            self._port(port, node, x + PAD, y, wide)
            self._caller(port, node, y)
        for number, port in enumerate(dialled):
            narrow = room * 0.43
            self._port(port, node, x + width - PAD - narrow, top + HEAD + number * ROW, narrow)
        return top + height + GAP

    def _stack(self, nodes: Iterable[NodeFact], top: float) -> float:
        """Nodes inside, one below the other; where the next may begin."""
        x, width = INSIDE
        for node in nodes:
            tunnels = [tunnel for tunnel in self._tunnels if tunnel.node == node.name]
            rows = len(tunnels) + len(node.ports)
            told = bool(node.routes) and len(self._inner) <= FULL
            height = self._node(node, x, width, top, rows, told)
            for number, tunnel in enumerate(tunnels):
                self._tunnel(tunnel, node, top + HEAD + number * ROW)
            for number, port in enumerate(node.ports, len(tunnels)):
                self._port(port, node, x + PAD, top + HEAD + number * ROW, width - 2 * PAD)
            top += height + GAP
        return top

    def _node(self, node: NodeFact, x: float, width: float, top: float, rows: int, told: bool) -> float:
        height = HEAD + rows * ROW + (SUMMARY if told else 0) + (2 if rows or told else 0)
        status = _fit(node.status, width * 0.5)
        labels = [
            Label(x + 12, top + 21, _fit(node.name, width - 36 - len(status) * LETTER), "strong"),
            Label(x + width - 12, top + 21, status, node.kind, end=True),
        ]
        if told:
            labels.append(Label(x + 12, top + height - 9, _some(node.routes, width - 24), "soft"))
        routes = f"; {', '.join(node.routes[:8])}{', …' if len(node.routes) > 8 else ''}" if node.routes else ""
        self._box(
            node_key(node.name),
            "node",
            x,
            top,
            width,
            height,
            gettext("Node {node} ({role}): {status}").format(node=node.name, role=node.role, status=node.status)
            + routes,
            labels,
            node.kind,
            node.url,
        )
        return height

    def _port(self, port: PortFact, node: NodeFact, x: float, y: float, width: float) -> None:
        state = "" if port.kind == "ok" else gettext(port.status)
        room = width - 18 - len(state) * LETTER - (8 if state else 0)
        labels = [Label(x + 9, y + 16, _fit(f"{port.name} {port.address}".strip(), room))]
        if state:
            labels.append(Label(x + width - 9, y + 16, state, port.kind, end=True))
        title = gettext("Port {port} ({type}) of {node} at {address}: {status}").format(
            port=port.name, type=port.type, node=node.name, address=port.address, status=gettext(port.status)
        )
        self._box(port_key(port.name), "port", x, y, width, PORT, title, labels, port.kind, port.url, node.name)

    def _caller(self, port: PortFact, node: NodeFact, y: float) -> None:
        x, width = CALLERS
        lit = port_key(port.name) in self._lit.keys and self._lit.caller
        text = str(self._lit.caller if lit else port.asks)
        labels = [Label(x + 9, y + 16, _fit(text, width - 18), "" if lit else "soft")]
        key = f"caller {port.name}"
        self._box(
            key,
            "caller",
            x,
            y,
            width,
            PORT,
            gettext("Callers of port {port}: {who}").format(port=port.name, who=text),
            labels,
            lit=bool(lit),
        )

    def _tunnel(self, tunnel: TunnelFact, node: NodeFact, y: float) -> None:
        x, width = INSIDE[0] + PAD, INSIDE[1] - 2 * PAD
        state = tunnel.load if tunnel.kind == "ok" and tunnel.load else gettext(tunnel.status)
        labels = [
            Label(x + 9, y + 16, _fit(tunnel.registration, width - 26 - len(state) * LETTER)),
            Label(x + width - 9, y + 16, state, tunnel.kind, end=True),
        ]
        title = gettext("Tunnel {registration} from {node} to port {port}: {status}").format(
            registration=tunnel.registration,
            node=node.name,
            port=tunnel.port,
            status=", ".join([gettext(tunnel.status), *([tunnel.load] if tunnel.load else [])]),
        )
        key = tunnel_key(tunnel.registration)
        self._box(key, "tunnel", x, y, width, PORT, title, labels, tunnel.kind, tunnel.url, node.name)

    def _box(
        self, key: str, what: str, x: float, y: float, width: float, height: float, title: str,
        labels: Sequence[Label], kind: str = "", url: str = "", node: str = "", lit: bool = False,
    ) -> None:  # fmt: skip
        stops = self._lit.stops.get(key, "")
        if stops:
            title = gettext("{title}. The way stops here: {reason}").format(title=title, reason=stops)
        self._boxes[key] = Box(
            key, what, x, y, width, height, title, tuple(labels), kind, url, node_key(node) if node else "",
            lit or key in self._lit.keys, stops,
        )  # fmt: skip

    # --- what stands behind ---

    def _backends(self) -> float:
        """As near to the nodes that call them as there is room, each once; the lowest end."""
        x, width = BACKENDS
        lowest = float(TOP)
        for node in (each for each in self._nodes if each.backends):
            of_node = self._boxes[node_key(node.name)]
            for key, backend in _grouped(node):
                if key not in self._boxes:
                    y = max(lowest, of_node.y)
                    labels = [Label(x + 9, y + 18, _fit(backend.address, width - 18))]
                    title = gettext("Backend {address}").format(address=backend.address)
                    self._box(key, "backend", x, y, width, BACKEND, title, labels, url=backend.url)
                    lowest = y + BACKEND + 8
                lit = self._both(of_node.key, key)
                self._wire(of_node.right, of_node.y + HEAD / 2, self._boxes[key], lit=lit, above=of_node.x < INSIDE[0])
        return lowest + GAP

    # --- wires ---

    def _wire_ports(self) -> None:
        for node in self._outer:
            for port in node.ports:
                box = self._boxes[port_key(port.name)]
                caller = self._boxes.get(f"caller {port.name}")
                if caller is not None:
                    self._wire(caller.right, caller.middle, box, lit=caller.lit, kind=port.kind)
                inward = self._boxes.get(port_key(port.inward)) if port.type == "external" else None
                if inward is not None and inward.within == box.within:
                    self._wire(box.right, box.middle, inward, lit=self._both(box.key, inward.key))

    def _wire_tunnels(self) -> None:
        for tunnel in self._tunnels:
            port, box = self._boxes[port_key(tunnel.port)], self._boxes[tunnel_key(tunnel.registration)]
            lit = self._both(port.key, box.key)
            self._wire(port.right, port.middle, box, lit=lit, kind=tunnel.kind, down=tunnel.kind != "ok")

    def _both(self, one: str, other: str) -> bool:
        return one in self._lit.keys and other in self._lit.keys

    def _wire(
        self, x: float, y: float, to: Box, *, lit: bool, kind: str = "", down: bool = False, above: bool = False
    ) -> None:
        """`above`: past the nodes inside, through the gap over the band that it begins in."""
        if above:
            gap = y - HEAD / 2 - GAP / 2
            path = f"M{x:g} {y:g}H{x + 18:g}V{gap:g}H{to.x - 18:g}V{to.middle:g}H{to.x:g}"
        else:
            middle = (x + to.x) / 2
            path = f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to.middle:g} {to.x:g} {to.middle:g}"
        faint = to.what == "backend" and not lit and len(self._inner) > FULL
        self._wires.append(Wire(path, kind, lit, down, faint))


def node_key(name: str) -> str:
    return f"node {name}"


def port_key(name: str) -> str:
    return f"port {name}"


def tunnel_key(registration: str) -> str:
    return f"tunnel {registration}"


def backend_key(address: str) -> str:
    return f"backend {address}"


def backends_key(node: str) -> str:
    """Of the one box that stands for many."""
    return f"backends {node}"


def _grouped(node: NodeFact) -> Sequence[tuple[str, BackendFact]]:
    if len(node.backends) <= BACKENDS_OF_A_NODE:
        return [(backend_key(each.address), each) for each in node.backends]
    return [
        (
            backends_key(node.name),
            BackendFact(gettext("{count} of {node}").format(count=len(node.backends), node=node.name), node.url),
        )
    ]


def _fit(text: str, room: float) -> str:
    """As much of the text as there is room for; the rest stands in the title."""
    letters = max(1, int(room / LETTER))
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _some(names: Sequence[str], room: float) -> str:
    """`orders, invoices and 3 more`: as many names as there is room for, and one at least."""
    told = names[0]
    for count, name in enumerate(names[1:], 2):
        longer = f"{told}, {name}"
        more = len(names) - count
        if len(_and_more(longer, more) if more else longer) * LETTER > room:
            return _fit(_and_more(told, more + 1), room)
        told = longer
    return _fit(told, room)


def _and_more(names: str, more: int) -> str:
    return gettext("{names} and {more} more").format(names=names, more=more)
