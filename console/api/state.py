"""What is: nodes and tunnels, whom nodes refused, what ends, who may log in. Looked at, and changed by nothing here."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from console.api.changing import code
from console.api.operations import Answer, Call, Operation
from console.api.paging import PAGING, TEXT, USUAL, offset_of, page, sealed
from console.api.reading import Query
from console.api.schemas import ENDING, OPERATOR, REFUSED, STATE, page_of
from console.attention import ask_nodes, concerns, ports_of, tunnels_of
from console.models import Operator
from console.operators import entry_of
from console.views.block import Refused, refusals
from gateway.audit import current_revision
from gateway.core.reasons import REASONS
from gateway.expiry import Endings, Kind, Wanted
from gateway.models import Node

KIND = Query("kind", {"enum": [kind.value for kind in Kind]}, "Only what is of this kind.")
_CODES = {info: reason for reason, info in REASONS.items()}
DAYS = Query("days", {"type": "integer", "minimum": 0, "maximum": 36_500}, "Only what ends within so many days.")


def state(call: Call) -> Answer:
    """Asked of the running nodes; one that does not answer costs its timeout."""
    revision = current_revision()
    states = ask_nodes(Node.objects.all())
    tunnels, ports = tunnels_of(states), ports_of(states)
    return Answer(
        {
            "revision": revision,
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
                for each in concerns(states, tunnels, ports, revision, timezone.now())
            ],
        }
    )


def refused(call: Call) -> Answer:
    rows, silent = refusals(list(Node.objects.all()))
    return Answer({"items": [_refused(row) for row in rows], "silent": silent})


def _refused(row: Refused) -> dict[str, Any]:
    return {
        "node": row.node,
        "port": row.port,
        "address": row.peer,
        "reason": code(_CODES[row.reason]) if row.reason else None,
        "words": row.words,
        "at": row.at.isoformat(),
        "count": row.count,
        "subject": row.certificate.subject.text,
        "sha256": row.certificate.sha256,
        "pem": row.pem,
        "on_file": row.on_file.name if row.on_file else None,
        "blocked": row.blocked,
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
    Operation("refused", "GET", "/refused", "Certificates that nodes refused since they started, the last ones first",
              refused, ("view",), {200: REFUSED}, "state"),
    Operation("expiry", "GET", "/expiry/", "Whatever has an end, the nearest first",
              expiry, ("view",), {200: page_of(ENDING)}, "state", (TEXT, KIND, DAYS, *PAGING)),
    Operation("operators_list", "GET", "/operators/", "Who logs in to the console",
              operators, ("change_operators",), {200: page_of(OPERATOR)}, "operators", PAGING),
]  # fmt: skip
