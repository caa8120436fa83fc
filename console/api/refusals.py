"""What nodes refused: requests, each with its trace and what could be changed; certificates that came to nothing."""

from datetime import datetime
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from console.api.operations import Answer, Call, Operation
from console.api.paging import PAGING, TEXT, USUAL, matching, offset_of, page, sealed
from console.api.problems import malformed, not_found
from console.api.reading import Query
from console.api.schemas import COUNT, MAYBE, MOMENT, REFUSAL, TEXTS, component, page_of, several, shape
from console.api.schemas import TEXT as STRING
from console.kept import Refusal, RefusalKind, ShownCertificate
from console.refusals import strangers
from console.traces import Traced, traced
from gateway.core.reasons import BY_CODE
from identity.models import Certificate, Usage

_MOMENT = {"type": "string", "format": "date-time", "maxLength": 40}
FILTERS = (
    Query("kind", {"enum": [kind.value for kind in RefusalKind]}, "Only what is of this kind."),
    Query("reason", {"enum": sorted(BY_CODE)}, "Only for this reason, of the first node or of the last."),
    Query("port", {"type": "string", "maxLength": 255}, "Only at this port."),
    Query("user", {"type": "string", "maxLength": 255}, "Only what ran as this user."),
    Query("certificate", {"type": "string", "maxLength": 64}, "Only of this certificate, by SHA-256."),
    Query("since", _MOMENT, "Only from this time on."),
    Query("until", _MOMENT, "Only up to this time."),
)


def listed(call: Call) -> Answer:
    """As the nodes told them; of a request that two nodes refused, one."""
    query = call.query
    rows = Refusal.objects.filter(head=True).defer("lanes")
    for name in ("kind", "port", "user", "certificate"):
        if name in query:
            rows = rows.filter(**{name: query[name]})
    if "reason" in query:
        rows = rows.filter(Q(reason=query["reason"]) | Q(cause=query["reason"]))
    for name, condition in (("since", "at__gte"), ("until", "at__lte")):
        if name in query:
            rows = rows.filter(**{condition: _moment(name, query[name])})
    if text := query.get("q", "").strip():
        rows = matching(rows, text, ("trace_id", "path", "subject", "user", "peer"))
    return Answer(page(rows, query, "-id", _told))


def _moment(name: str, text: str) -> datetime:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or timezone.is_naive(found):
        raise malformed(f"{name} is no time with its zone; write it like 2027-01-31T08:00:00Z.", name)
    return found


def _told(row: Refusal) -> dict[str, Any]:
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


def one(call: Call) -> Answer:
    found = traced(call.args["trace_id"])
    if not found:
        raise not_found("No refused request of this trace is kept.")
    return Answer({"trace_id": call.args["trace_id"], "requests": [_request(each) for each in found]})


def _request(each: Traced) -> dict[str, Any]:
    refusal = each.report.refusal
    return _told(each.row) | {
        "nodes": each.nodes,
        "identity": " ".join(word.text for word in each.report.identity),
        "headline": refusal.headline if refusal else "",
        "found": refusal.found if refusal else "",
        "against": refusal.against if refusal else "",
        "remedy": refusal.info.remedy if refusal and refusal.info else "",
        "to_change": [label for label, _ in refusal.changes] if refusal else [],
        "lanes": each.lanes,
    }


# --- certificates ---


def certificates(call: Call) -> Answer:
    """Those that were shown and not let in, the last first, each once."""
    begin, limit = offset_of(call.query), call.query.get("limit", USUAL)
    found = list(strangers()[begin : begin + limit + 1])
    shown = found[:limit]
    last = Refusal.objects.defer("lanes").in_bulk([each["last"] for each in shown])
    fingerprints = [each["certificate"] for each in shown]
    pems = ShownCertificate.objects.in_bulk(fingerprints)
    stored = Certificate.objects.filter(sha256__in=fingerprints)
    # Of one that is there for several usages, the entry that logs in.
    on_file = {row.sha256: row.name for row in sorted(stored, key=lambda row: row.usage == Usage.SSL_AUTHENTICATION)}
    items = [
        {
            "sha256": each["certificate"],
            "subject": last[each["last"]].subject,
            "issuer": last[each["last"]].issuer,
            "count": each["count"],
            "at": last[each["last"]].at.isoformat(),
            "port": last[each["last"]].port,
            "address": last[each["last"]].peer,
            "reason": last[each["last"]].reason,
            "words": last[each["last"]].words,
            "on_file": on_file.get(each["certificate"]),
            "certificate": pems[each["certificate"]].pem if each["certificate"] in pems else None,
        }
        for each in shown
    ]
    return Answer({"items": items, "next": sealed(begin + limit) if len(found) > limit else None})


_REQUEST = REFUSAL | {
    "properties": REFUSAL["properties"]
    | {
        "nodes": TEXTS,
        "identity": STRING,
        "headline": STRING,
        "found": STRING,
        "against": STRING,
        "remedy": STRING,
        "to_change": TEXTS,
        "lanes": several(component("lane")),
    }
}
_STRANGER = shape(
    sha256=STRING, subject=STRING, issuer=STRING, count=COUNT, at=MOMENT, port=STRING, address=STRING, reason=STRING,
    words=STRING, on_file=MAYBE, certificate=MAYBE,
)  # fmt: skip
OPERATIONS = [
    Operation("refusals_list", "GET", "/refusals/", "Requests and handshakes that nodes refused, the last ones first",
              listed, ("view",), {200: page_of(REFUSAL)}, "state", (TEXT, *FILTERS, *PAGING)),
    Operation("refusals_get", "GET", "/refusals/{trace_id}",
              "A refused request: what each node checked, found and compared, and what could be changed",
              one, ("view",), {200: shape(trace_id=STRING, requests=several(_REQUEST))}, "state", refusals=(404,)),
    Operation("refused_certificates", "GET", "/refused-certificates/",
              "Certificates that were shown and not let in, each as it was shown",
              certificates, ("view",), {200: page_of(_STRANGER)}, "state", PAGING),
]  # fmt: skip
