"""What Prometheus reads of the console: when things are over."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.audit import current_revision
from gateway.expiry import Ending, Endings, Kind, Wanted, counted, few, horizon
from gateway.relay.metrics import CONTENT_TYPE, ENDS_LABELS

__all__ = ["CONTENT_TYPE", "exposition"]

CLIENTS = 1000  # clients on file whose end is told one by one, the nearest; all are counted


def exposition(now: datetime) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Console(now))
    return generate_latest(registry)


class _Console(Collector):
    def __init__(self, now: datetime) -> None:
        self._now = now

    def collect(self) -> Iterator[Any]:
        ends = GaugeMetricFamily(
            "postern_not_after_seconds", "When it is over, seconds since 1970-01-01 UTC.", labels=ENDS_LABELS
        )
        told: dict[tuple[str, ...], float] = {}
        known = list(few())
        for each in (*known, *self._clients()):
            told[each.kind, each.name, each.subject, each.fingerprint] = each.ends.timestamp()
        for labels, moment in told.items():
            ends.add_metric(labels, moment)
        yield ends
        numbers = GaugeMetricFamily("postern_endings", "How many are over, or end when.", labels=["kind", "state"])
        for kind, states in counted(self._now, known).items():
            for state, count in states.items():
                numbers.add_metric([kind, state], count)
        yield numbers
        revision = GaugeMetricFamily("postern_revision", "Number of the last change to the configuration.")
        revision.add_metric([], current_revision())
        yield revision

    def _clients(self) -> list[Ending]:
        """Those that matter soon; one that was over long ago matters to nobody."""
        wanted = Wanted(frozenset({Kind.CLIENT}), since=self._now - horizon(), until=self._now + horizon())
        return Endings(wanted)[:CLIENTS]
