"""What a file would change, in lines that people can read: `manage.py apply` prints them."""

from collections.abc import Iterator
from typing import Any

from gateway.models import Action, Change
from identity.core import files
from identity.core.certificates import CertificateError

_MARKS = {Action.ADDED: "+", Action.REMOVED: "-", Action.CHANGED: "~"}
_WIDTH = 80  # characters of a value


def describe(change: Change) -> list[str]:
    """A line for the object, and, where it is changed, one for each field: old → new."""
    action = Action(change.action)
    lines = [f"{_MARKS[action]} {change.kind} {change.name}"]
    if action == Action.CHANGED:
        before, after = dict(_flat(change.before or {})), dict(_flat(change.after or {}))
        for name in dict.fromkeys([*after, *before]):
            if before.get(name) != after.get(name):
                lines.append(f"    {name}: {_short(before.get(name))} → {_short(after.get(name))}")
    return lines


def _flat(entry: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields under their full names: `tls.keystore`."""
    for name, value in entry.items():
        if isinstance(value, dict) and set(value) != {"kept"}:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: object) -> str:
    text = _text(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _text(value: object) -> str:
    match value:
        case None | [] | "":
            return "(none)"
        case bool():
            return "true" if value else "false"
        case {"kept": str(fingerprint)}:
            return f"(secret {fingerprint[:12]})"
        case dict():
            return " ".join(_text(item) for item in value.values())
        case list():
            return ", ".join(_text(item) for item in value)
        case str() if value.startswith("-----BEGIN"):
            return _named(value)
    return str(value).replace("\n", " ")


def _named(pem: str) -> str:
    """Certificates by what they are known by."""
    try:
        return ", ".join(f"{each.title} ({each.sha256[:12]})" for each in files.certificates_from(pem.encode()))
    except CertificateError:
        return f"(revocation list of {len(pem):,} characters)"
