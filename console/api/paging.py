"""Lists in pages: a cursor says where the next one begins, so that nothing is seen twice while things are added."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

from django.db.models import Q, QuerySet

from console.api.problems import FieldError, Refused
from console.api.reading import Query

USUAL = 50
MOST = 200
TEXT = Query("q", {"type": "string", "maxLength": 200}, "Only what has this text in it.")
PAGING = (
    Query("limit", {"type": "integer", "minimum": 1, "maximum": MOST}, f"How many at most; {USUAL} unless told."),
    Query("cursor", {"type": "string", "maxLength": 1000}, "`next` of the page before."),
)


def page(rows: QuerySet[Any], query: dict[str, Any], by: str, told: Callable[[Any], Any]) -> dict[str, Any]:
    """One page. `by`: the column that orders the rows, unique; with a minus before it descending."""
    column, limit = by.removeprefix("-"), query.get("limit", USUAL)
    if "cursor" in query:
        after = _opened(query["cursor"])
        if column in ("pk", "id") and not (after.isascii() and after.isdigit() and len(after) <= 18):
            raise _broken()
        rows = rows.filter(**{f"{column}__{'lt' if by.startswith('-') else 'gt'}": after})
    found = list(rows.order_by(by)[: limit + 1])
    more = found[limit:]
    return {
        "items": [told(row) for row in found[:limit]],
        "next": sealed(getattr(found[limit - 1], column)) if more else None,
    }


def matching(rows: QuerySet[Any], text: str, columns: tuple[str, ...]) -> QuerySet[Any]:
    condition = Q()
    for name in columns:
        condition |= Q(**{f"{name}__icontains": text})
    return rows.filter(condition)


def offset_of(query: dict[str, Any]) -> int:
    """Of a list that is made anew for each page: a number."""
    if "cursor" not in query:
        return 0
    text = _opened(query["cursor"])
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _broken()
    return int(text)


def sealed(place: Any) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def _opened(cursor: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise _broken() from error
    if not text or not text.isprintable():
        raise _broken()
    return text


def _broken() -> Exception:
    told = FieldError("cursor", "is no cursor", "give `next` of the page before")
    return Refused(422, "invalid", "There is no such page.", [told])
