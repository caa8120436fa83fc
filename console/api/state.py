"""What is: nodes and tunnels, what nodes refused, what ends, who may log in. Looked at, and changed by nothing here."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from console.api.operations import Answer, Call, Operation
from console.api.paging import PAGING, TEXT, USUAL, matching, offset_of, page, sealed
from console.api.reading import Query
from console.api.schemas import ENDING, OPERATOR, REFUSAL, STATE, page_of
from console.attention import ask_nodes, concerns, ports_of, tunnels_of
from console.kept import Refusal, RefusalKind
from console.models import Operator
from console.operators import entry_of
from gateway.audit import in_force
from gateway.core.reasons import BY_CODE
from gateway.expiry import Endings, Kind, Wanted
from gateway.models import Node

KIND = Query("kind", {"enum": [kind.value for kind in Kind]}, "Only what is of this kind.")
REFUSALS = (
    Query("kind", {"enum": [kind.value for kind in RefusalKind]}, "Only what is of this kind."),
    Query("reason", {"enum": sorted(BY_CODE)}, "Only for this reason."),
    Query("port", {"type": "string", "maxLength": 255}, "Only at this port."),
    Query("user", {"type": "string", "maxLength": 255}, "Only what ran as this user."),
    Query("certificate", {"type": "string", "maxLength": 64}, "Only of this certificate, by SHA-256."),
)
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
        }
    )


def refusals(call: Call) -> Answer:
    """As the nodes told them; of a request that two nodes refused, one."""
    rows = Refusal.objects.filter(head=True).defer("lanes")
    for name in ("kind", "reason", "port", "user", "certificate"):
        if name in call.query:
            rows = rows.filter(**{name: call.query[name]})
    if text := call.query.get("q", "").strip():
        rows = matching(rows, text, ("trace_id", "path", "subject", "user", "peer"))
    return Answer(page(rows, call.query, "-id", _refusal))


def _refusal(row: Refusal) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "at": row.at.isoformat(),
        "trace_id": row.trace_id,
        "node": row.node,
        "port": row.port,
        "address": row.peer,
        "method": row.method,
        "path": row.path,
        "status": row.status,
        "reason": row.reason,
        "cause": row.cause,
        "words": row.words,
        "user": row.user,
        "certificate": row.certificate,
        "subject": row.subject,
        "test": row.test,
    }


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


def operators(call: Call) -> Answer:
    """Looked at alone: a program cannot be asked again who it is, as is done before one is made or changed."""
    rows = Operator.objects.select_related("authenticator").prefetch_related("passkeys")
    return Answer(page(rows, call.query, "username", entry_of))


OPERATIONS = [
    Operation("state", "GET", "/state", "Nodes, tunnels and ports as they are, and what needs attention",
              state, ("view",), {200: STATE}, "state"),
    Operation("refusals_list", "GET", "/refusals/", "Requests and handshakes that nodes refused, the last ones first",
              refusals, ("view",), {200: page_of(REFUSAL)}, "state", (TEXT, *REFUSALS, *PAGING)),
    Operation("expiry", "GET", "/expiry/", "Whatever has an end, the nearest first",
              expiry, ("view",), {200: page_of(ENDING)}, "state", (TEXT, KIND, DAYS, *PAGING)),
    Operation("operators_list", "GET", "/operators/", "Who logs in to the console",
              operators, ("change_operators",), {200: page_of(OPERATOR)}, "operators", PAGING),
]  # fmt: skip
