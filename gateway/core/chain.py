"""The chain of the audit log: what was recorded → one hash for each change set, over it and the one before.

Knows neither rows nor keys. What it computes is stored for ever, so it never changes; a new field is added by a new
version of the text that is hashed.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

GENESIS = "0" * 64  # what the first change set stands on
_VERSION = "postern audit 1"


def digest(
    previous: str,
    *,
    number: int,
    at: datetime,
    actor: str,
    address: str | None,
    message: str,
    configures: bool,
    changes: Iterable[tuple[str, str, str, str, Any, Any]],
) -> str:
    """SHA-256, hexadecimal, of a change set and of the hash that it stands on.

    Args:
        previous: the hash of the change set before; `GENESIS` for the first.
        changes: in their order: action, kind, id and name of the object, the object before and after.
    """
    head = [
        _VERSION,
        previous,
        number,
        at.astimezone(UTC).isoformat(),
        actor,
        str(ip_address(address)) if address else None,
        message,
        configures,
    ]
    hashed = hashlib.sha256(_line(head))
    for change in changes:
        hashed.update(_line(list(change)))
    return hashed.hexdigest()


def _line(values: list[Any]) -> bytes:
    """One line of JSON: a text cannot hold a line's end, so nothing reads like two changes that was one."""
    return json.dumps(_plain(values), ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _plain(value: Any) -> Any:
    """As every database gives it back: PostgreSQL's jsonb writes 1e16 as a whole number."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value
