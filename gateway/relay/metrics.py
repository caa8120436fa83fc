"""What a node counts, and the Prometheus text of it.

Counting is a dictionary's increment; all else waits for a scrape.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.core.snapshot import PortType, Snapshot

# Upper bounds in seconds: of what a request takes, and of what it waits for a tunnel.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ENDS_LABELS = ("kind", "name", "subject", "sha256")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Durations:
    """A histogram of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def note(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Metrics:
    """Counts since the node started, by labels.

    Attributes:
        requests: (port, service or API, status, reason or "") → number.
        handshakes: (port, outcome) → number; outcomes are `done`, `failed`, `crowded`, `dropped`.
        received, sent: port → bytes of bodies, from callers and to them.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int, str]] = Counter()
        self.handshakes: Counter[tuple[str, str]] = Counter()
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.durations: defaultdict[str, Durations] = defaultdict(Durations)
        self.waits: defaultdict[str, Durations] = defaultdict(Durations)

    def as_document(self) -> dict[str, Any]:
        """In a form that goes through JSON, from one worker to another."""
        return {
            "requests": [[*labels, count] for labels, count in self.requests.items()],
            "handshakes": [[*labels, count] for labels, count in self.handshakes.items()],
            "received": dict(self.received),
            "sent": dict(self.sent),
            "durations": {port: [each.counts, each.total] for port, each in self.durations.items()},
            "waits": {port: [each.counts, each.total] for port, each in self.waits.items()},
        }

    def add(self, document: dict[str, Any]) -> None:
        """Add what another worker counted."""
        for port, service, status, reason, count in document["requests"]:
            self.requests[port, service, status, reason] += count
        for port, outcome, count in document["handshakes"]:
            self.handshakes[port, outcome] += count
        for name in ("received", "sent"):
            getattr(self, name).update(document[name])
        for name in ("durations", "waits"):
            for port, (counts, total) in document[name].items():
                mine = getattr(self, name)[port]
                mine.counts = [a + b for a, b in zip(mine.counts, counts, strict=True)]
                mine.total += total


def exposition(metrics: Metrics, state: dict[str, Any], snapshot: Snapshot | None) -> bytes:
    """The text that Prometheus scrapes.

    Args:
        state: as `RelayNode.state` tells it.
        snapshot: what is in force; None before anything is.
    """
    registry = CollectorRegistry()
    registry.register(_Exposed(metrics, state, _awaited(snapshot) if snapshot is not None else []))
    if snapshot is not None:
        registry.register(_Ends(snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Exposed(Collector):
    def __init__(self, metrics: Metrics, state: dict[str, Any], awaited: list[tuple[str, str]]) -> None:
        """`awaited`: port and registration of those who are to register here."""
        self._metrics, self._state, self._awaited = metrics, state, awaited

    def collect(self) -> Iterator[Any]:
        metrics, state = self._metrics, self._state
        yield from _configuration(state)
        requests = CounterMetricFamily(
            "postern_requests", "Requests answered or given up.", labels=["port", "service", "status", "reason"]
        )
        for (port, service, status, reason), count in metrics.requests.items():
            requests.add_metric([port, service, str(status), reason], count)
        yield requests
        handshakes = CounterMetricFamily(
            "postern_handshakes", "TLS handshakes at ports, by outcome.", labels=["port", "outcome"]
        )
        for (port, outcome), count in metrics.handshakes.items():
            handshakes.add_metric([port, outcome], count)
        yield handshakes
        yield _bytes("postern_received_bytes", "Bytes of request bodies.", metrics.received)
        yield _bytes("postern_sent_bytes", "Bytes of answer bodies.", metrics.sent)
        yield _histogram("postern_request_duration_seconds", "From a head to its answer's end.", metrics.durations)
        yield _histogram("postern_tunnel_wait_seconds", "Waiting for a free tunnel.", metrics.waits)
        in_flight = GaugeMetricFamily("postern_requests_in_flight", "Requests being answered.")
        in_flight.add_metric([], state["in_flight"])
        yield in_flight
        connections = GaugeMetricFamily("postern_connections", "Open connections.", labels=["port"])
        for port in state["ports"]:
            connections.add_metric([port["name"]], port["connections"])
        yield connections
        tunnels = GaugeMetricFamily(
            "postern_tunnels", "Tunnels, at either end.", labels=["port", "registration", "state"]
        )
        for (port, registration), counts in _by_registration(state["tunnels"], self._awaited).items():
            for kind, count in counts.items():
                tunnels.add_metric([port, registration, kind], count)
        yield tunnels
        revision = GaugeMetricFamily("postern_configuration_revision", "The revision that is in force.")
        revision.add_metric([], state["revision"])
        yield revision


class _Ends(Collector):
    """When what the node holds is over: its own certificates with their issuers, authorities, revocation lists."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        ends = GaugeMetricFamily(
            "postern_not_after_seconds", "When it is over, seconds since 1970-01-01 UTC.", labels=ENDS_LABELS
        )
        for keystore in self._snapshot.keystores.values():
            for link in keystore.chain:
                ends.add_metric(["server", keystore.name, link.title, link.sha256], link.not_after)
        for store in self._snapshot.truststores.values():
            for anchor in store.anchors:
                ends.add_metric(["authority", store.name, anchor.title, anchor.sha256], anchor.not_after)
            titles = {anchor.spki_sha256: anchor.title for anchor in store.anchors}
            for crl in store.crls:
                if crl.next_update is not None:
                    ends.add_metric(["crl", store.name, titles.get(crl.issuer_spki_sha256, ""), ""], crl.next_update)
        yield ends


def _bytes(name: str, help_text: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=["port"])
    for port, count in counts.items():
        family.add_metric([port], count)
    return family


def _histogram(name: str, help_text: str, durations: dict[str, Durations]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=["port"])
    for port, each in durations.items():
        so_far, buckets = 0, []
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], each.counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        family.add_metric([port], buckets, each.total)
    return family


def _awaited(snapshot: Snapshot) -> list[tuple[str, str]]:
    here = {name for name, port in snapshot.ports.items() if port.type is PortType.REGISTRATION}
    return [(each.port, each.name) for each in snapshot.registrations.values() if each.enabled and each.port in here]


def _by_registration(
    tunnels: Iterable[dict[str, Any]], awaited: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Counter[str]]:
    """Who is awaited and has none is told with 0: of what is not told at all no alert can say that it is gone."""
    found = {each: Counter({"idle": 0, "busy": 0}) for each in awaited}
    for row in tunnels:
        counts = found.setdefault((row["port"], row["registration"]), Counter())
        counts["idle"] += row["idle"]
        counts["busy"] += row["busy"]
    return found


def _configuration(state: dict[str, Any]) -> Iterator[Any]:
    """How old what the node works by is; nothing of a node that a feed keeps up."""
    told = state.get("configuration")
    if told is None:
        return
    if told["age"] is not None:
        yield GaugeMetricFamily(
            "postern_configuration_age_seconds",
            "Since the console last said that the configuration in force is the newest.",
            value=told["age"],
        )
    yield GaugeMetricFamily(
        "postern_console_linked", "Whether the console is linked with this node.", value=int(told["linked"])
    )
