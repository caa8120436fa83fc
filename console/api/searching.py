"""One search over all kinds, as at the top of every page."""

from typing import Any

from console.api.operations import Answer, Call, Operation
from console.api.reading import Query
from console.api.schemas import FLAG, TEXT, maybe, several, shape
from console.kept import Refusal, RefusalKind
from console.search import SHORTEST, search, trace_id

TEXT_SOUGHT = Query("q", {"type": "string", "maxLength": 300}, f"At least {SHORTEST} characters.", required=True)


def searched(call: Call) -> Answer:
    text = call.query["q"]
    trace = trace_id(text)
    known = bool(trace) and Refusal.objects.filter(trace_id=trace, kind=RefusalKind.REQUEST).exists()
    return Answer({"kinds": [_told(each) for each in search(text)], "trace_id": trace if known else None})


def _told(found: Any) -> dict[str, Any]:
    return {
        "section": found.kind,
        "found": [{"name": each.name, "where": each.where, "text": each.text} for each in found.hits],
        "more": found.more,
    }


_HIT = shape(name=TEXT, where=TEXT, text=TEXT)
_KIND = shape(section=TEXT, found=several(_HIT), more=FLAG)
OPERATIONS = [
    Operation("search", "GET", "/search",
              "Names, subjects, alternative names, serials, fingerprints, paths, addresses; a refused request's trace",
              searched, ("view",), {200: shape(kinds=several(_KIND), trace_id=maybe(TEXT))}, "state", (TEXT_SOUGHT,)),
]  # fmt: skip
