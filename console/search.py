"""One search over all that has a page: names, subjects, SANs, serials, fingerprints, paths, addresses, trace ids.

Knows rows and where their pages are; a hundred thousand certificates are asked by their indexed columns first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Model, Q, QuerySet

from console.nouns import TITLES, url_of
from gateway.topology.entries import SECTIONS
from identity.models import TrustedCertificate

SHOWN = 8  # of one kind; the kind's own list has the rest
SHORTEST = 2  # letters
LONG = 16  # hex digits
_SHA256 = 64
# A trace id is a W3C trace-id.
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
# A fingerprint or serial number as programs print it: pairs of hex digits with colons, blanks or nothing between.
_HEX = re.compile(r"(?:0x)?[0-9A-Fa-f]{2}(?:[: -]?[0-9A-Fa-f]{2}){3,}")

# Kind → fields that are looked into; the first is what the object is known by.
FIELDS: dict[str, tuple[str, ...]] = {
    "users": ("name", "description"),
    "groups": ("name", "description"),
    "acls": ("name", "description"),
    "certificates": ("name", "subject", "alternative_names", "description"),
    "mapping_rules": ("name", "issuer", "san"),
    "nodes": ("name", "description"),
    "ports": ("name", "bind", "description"),
    "services": ("name", "path", "backend", "description"),
    "apis": ("name", "path", "description"),
    "endpoints": ("name", "url", "description"),
    "registrations": ("name", "subject", "alternative_names"),
    "truststores": ("name", "description"),
    "keystores": ("name", "subject", "description"),
}
HEX_FIELDS = ("sha256", "serial")
TELLING = ("subject", "path", "bind", "url", "description")  # what is told of one that was found by its name
MANY = ("users", "certificates")


@dataclass(frozen=True, slots=True)
class Hit:
    """`where`: the field by which it was found, with what stands there; "" for the name, with what tells it apart."""

    name: str
    url: str
    where: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Hits:
    """Of one kind. `more`: there are others, which its list tells."""

    kind: str
    hits: list[Hit]
    more: bool

    @property
    def title(self) -> str:
        return TITLES[self.kind]


def trace_id(text: str) -> str:
    """The trace id that the text is, or of a `traceparent` the part that is one; "" where it is none."""
    lowered = text.strip().lower()
    parts = lowered.split("-")
    if len(parts) == 4 and len(parts[0]) == 2:  # version, trace-id, parent-id, flags
        lowered = parts[1]
    return lowered if _TRACE_ID.fullmatch(lowered) else ""


def search(text: str) -> list[Hits]:
    """All kinds that have something; what has exactly this name comes first within its kind."""
    text = text.strip()
    if len(text) < SHORTEST:
        return []
    digits = re.sub(r"[: -]", "", text).lower().removeprefix("0x") if _HEX.fullmatch(text) else ""
    found = (_of_kind(kind, text, digits) for kind in SECTIONS)
    return [each for each in found if each.hits]


def _of_kind(kind: str, text: str, digits: str) -> Hits:
    rows: QuerySet[Any] = SECTIONS[kind]._default_manager.all()
    columns = {field.name for field in SECTIONS[kind]._meta.concrete_fields}
    by_digits = [name for name in HEX_FIELDS if name in columns] if digits else []
    fields = (*FIELDS[kind], *by_digits)
    if by_digits and len(digits) == _SHA256 and (whole := list(rows.filter(sha256=digits)[: SHOWN + 1])):
        return _told(kind, whole, fields, text, digits)
    # So many digits are hardly a part of a subject: three columns are read in place of six.
    names = ("name",) if by_digits and len(digits) >= LONG else FIELDS[kind]
    condition = _any(names, text)
    for name in by_digits:
        condition |= _any((name,), _as_stored(name, digits))
    if kind == "truststores":
        anchors = _any(("subject",), text) | _any(("sha256",) if digits else (), digits)
        condition |= Q(pk__in=TrustedCertificate.objects.filter(anchors).values("truststore"))
    found = list(rows.filter(condition).order_by("name")[: SHOWN + 1])
    if len(found) > SHOWN and kind in MANY:  # what has exactly this name may be among the others
        found = [*rows.filter(name=text), *found]
    found.sort(key=lambda row: row.name != text)
    return _told(kind, found, fields, text, digits)


def _told(kind: str, rows: Iterable[Model], fields: Iterable[str], text: str, digits: str) -> Hits:
    unique = {row.pk: row for row in rows}
    hits = [_hit(row, fields, text, digits) for row in list(unique.values())[:SHOWN]]
    return Hits(kind, hits, len(unique) > SHOWN)


def _as_stored(field: str, digits: str) -> str:
    """Serial numbers are stored as numbers are written; printed in pairs, one may begin with a zero."""
    return (digits.lstrip("0") or "0") if field == "serial" else digits


def _any(fields: Iterable[str], text: str) -> Q:
    condition = Q()
    for name in fields:
        condition |= Q(**{f"{name}__icontains": text})
    return condition


def _hit(row: Model, fields: Iterable[str], text: str, digits: str) -> Hit:
    name, url = str(row), url_of(row) or ""
    if text.casefold() in name.casefold():
        return Hit(name, url, "", next((told for each in TELLING if (told := str(getattr(row, each, "")))), ""))
    for field in fields:
        value = str(getattr(row, field))
        if text.casefold() in value.casefold() or (
            digits and field in HEX_FIELDS and _as_stored(field, digits) in value
        ):
            label = str(row._meta.get_field(field).verbose_name)  # type: ignore[union-attr]
            # Of several names the one that matches.
            line = next((each for each in value.splitlines() if text.casefold() in each.casefold()), value)
            return Hit(name, url, label, line)
    return Hit(name, url)
