"""What is drawn of the topology: facts from rows and from what the nodes told. Places and shapes are `topology`'s."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from django.utils.translation import gettext, gettext_lazy

from console.attention import NodeState, PortState, Tunnel
from console.nouns import url_of
from console.topology import BackendFact, NodeFact, PortFact, TunnelFact
from gateway.core.addresses import parse_url
from gateway.models import API, ClientAuth, PortType, Service

ASKS = {
    ClientAuth.REQUIRE: gettext_lazy("certificate required"),
    ClientAuth.REQUEST: gettext_lazy("certificate or none"),
    ClientAuth.PASSWORD: gettext_lazy("no certificate asked"),
}


def nodes_of(states: Sequence[NodeState], ports: Iterable[PortState], revision: int) -> list[NodeFact]:
    """Every node with its ports, what it runs and what stands behind that."""
    called: defaultdict[str, list[PortFact]] = defaultdict(list)
    for state in ports:
        if state.port.type != PortType.INTERNAL:
            called[state.port.node.name].append(_port(state))
    routes, backends = _routes()
    return [
        NodeFact(
            state.node.name,
            state.node.role,
            *_state(state, revision),
            url_of(state.node) or "",
            tuple(called[state.node.name]),
            tuple(routes[state.node.name]),
            tuple(backends[state.node.name].values()),
        )
        for state in states
    ]


def tunnels_of(tunnels: Iterable[Tunnel]) -> list[TunnelFact]:
    return [
        TunnelFact(
            each.registration.name,
            each.registration.port.name,
            each.registration.node.name,
            each.kind,
            each.status,
            gettext("{idle} idle, {busy} busy").format(idle=each.idle, busy=each.busy)
            if each.idle or each.busy
            else "",
            url_of(each.registration) or "",
        )
        for each in tunnels
    ]


def _port(state: PortState) -> PortFact:
    row = state.port
    registration = row.type == PortType.REGISTRATION
    return PortFact(
        row.name,
        row.type,
        f":{row.bind.rpartition(':')[2]}",
        "" if registration else ASKS[ClientAuth(row.client_auth)],
        "" if row.registration_port is None else row.registration_port.name,
        state.kind,
        state.status,
        url_of(row) or "",
    )


def _state(state: NodeState, revision: int) -> tuple[str, str]:
    """Kind and words."""
    if state.told is None:
        return "bad", gettext("no answer")
    if state.told["revision"] != revision:
        return "warn", gettext("catching up")
    return "ok", gettext("{in_flight} in flight").format(in_flight=state.told["in_flight"])


def _routes() -> tuple[defaultdict[str, list[str]], defaultdict[str, dict[str, BackendFact]]]:
    """Node → names of what it runs; node → the backends of that, by address."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    backends: defaultdict[str, dict[str, BackendFact]] = defaultdict(dict)
    services = Service.objects.order_by().values_list("node__name", "name", "backend")
    apis = API.objects.order_by().values_list("node__name", "name", "endpoint__url")
    for node, name, url in sorted(services.union(apis, all=True)):
        names[node].append(name)
        if url and not url.startswith("reverse://"):
            address = parse_url(url, ("http", "https")).authority
            backends[node].setdefault(address, BackendFact(address))
    return names, backends
