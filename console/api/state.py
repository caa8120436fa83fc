"""What is: nodes, tunnels and ports as they run, what needs attention, and what ends."""

from datetime import timedelta

from django.utils import timezone

from console.api.operations import Answer, Call, Operation
from console.api.paging import PAGING, TEXT, USUAL, offset_of, sealed
from console.api.reading import Query
from console.api.schemas import ENDING, STATE, page_of
from console.attention import ask_nodes, concerns, ports_of, tunnels_of
from console.refusals import refusals_by_reason
from gateway.audit import in_force
from gateway.expiry import Endings, Kind, Wanted
from gateway.models import Node

KIND = Query("kind", {"enum": [kind.value for kind in Kind]}, "Only what is of this kind.")
DAYS = Query("days", {"type": "integer", "minimum": 0, "maximum": 36_500}, "Only what ends within so many days.")


def state(call: Call) -> Answer:
    """Asked of the running nodes; one that does not answer costs its timeout."""
    mark = in_force()
    states = ask_nodes(Node.objects.all())
    tunnels, ports = tunnels_of(states), ports_of(states)
    return Answer(
        {
            "revision": mark[0] if mark else 0,
            "nodes": [
                {
                    "name": each.node.name,
                    "role": each.node.role,
                    "answers": each.told is not None,
                    "problem": each.problem,
                    "revision": each.told["revision"] if each.told else None,
                }
                for each in states
            ],
            "tunnels": [
                {
                    "registration": each.registration.name,
                    "port": each.registration.port.name,
                    "node": each.registration.node.name,
                    "status": each.status,
                    "idle": each.idle,
                    "busy": each.busy,
                    "last_seen": each.last_seen.isoformat() if each.last_seen else None,
                    "problem": each.problem,
                }
                for each in tunnels
            ],
            "ports": [
                {
                    "name": each.port.name,
                    "node": each.port.node.name,
                    "status": each.status,
                    "connections": each.connections,
                }
                for each in ports
            ],
            "concerns": [
                {"kind": each.kind, "text": each.text, "hint": each.hint}
                for each in concerns(states, tunnels, ports, mark, timezone.now())
            ],
            "refused": [
                {"reason": each.reason, "count": each.count, "before": each.before, "trend": each.trend}
                for each in refusals_by_reason(timezone.now())
            ],
        }
    )


def expiry(call: Call) -> Answer:
    """The nearest end first, what is over among it."""
    until = timezone.now() + timedelta(days=call.query["days"]) if "days" in call.query else None
    kinds = frozenset({Kind(call.query["kind"])}) if "kind" in call.query else frozenset(Kind)
    begin, limit = offset_of(call.query), call.query.get("limit", USUAL)
    found = Endings(Wanted(kinds, until=until, text=call.query.get("q", "").strip()))[begin : begin + limit + 1]
    items = [
        {
            "kind": each.kind.value,
            "section": each.section,
            "name": each.name,
            "subject": each.subject,
            "ends": each.ends.isoformat(),
            "owner": each.owner,
            "fingerprint": each.fingerprint,
            "logs_in": each.logs_in,
        }
        for each in found[:limit]
    ]
    return Answer({"items": items, "next": sealed(begin + limit) if len(found) > limit else None})


OPERATIONS = [
    Operation("state", "GET", "/state", "Nodes, tunnels and ports as they are, and what needs attention",
              state, ("view",), {200: STATE}, "state"),
    Operation("expiry", "GET", "/expiry/", "Whatever has an end, the nearest first",
              expiry, ("view",), {200: page_of(ENDING)}, "state", (TEXT, KIND, DAYS, *PAGING)),
]  # fmt: skip
