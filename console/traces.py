"""What nodes told of the requests of one trace, put together: each with its report, like a test invoke's answer."""

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext

from console.kept import Refusal, RefusalKind
from console.refusals import paired
from console.report import Caller, Report, report_of

ROWS = 100  # that are read of one trace
REQUESTS = 10  # that are told of it


@dataclass(frozen=True, slots=True)
class Traced:
    """One request: the first node's word on it, what came of it, and the nodes that told."""

    row: Refusal
    report: Report
    nodes: list[str]
    lanes: list[dict[str, Any]]


def traced(trace_id: str) -> list[Traced]:
    """Every request of a trace, with what each node decided of it; empty where none was refused."""
    rows = Refusal.objects.filter(trace_id=trace_id, kind=RefusalKind.REQUEST).order_by("at", "id")[:ROWS]
    return [_traced(head, told) for head, told in paired(list(rows))[:REQUESTS]]


def _traced(head: Refusal, told: list[Refusal]) -> Traced:
    lanes = [lane for row in told for lane in row.lanes]
    if len(head.lanes) > 1:  # of a test: its first node was told by the last what that tells itself, too
        lanes = head.lanes
    answer = {"status": head.status, "reason": head.reason, "lanes": lanes}
    return Traced(head, report_of(_caller(head), answer), [row.node for row in told], lanes)


def _caller(row: Refusal) -> Caller:
    if row.subject or row.certificate:
        words = row.subject or gettext("certificate …{fingerprint}").format(fingerprint=row.certificate[-8:])
    else:
        known = row.user and row.user != "Default"
        words = gettext("user {user}").format(user=row.user) if known else gettext("no credential")
    return Caller(words, row.certificate, row.user, row.path, row.method, row.peer)
