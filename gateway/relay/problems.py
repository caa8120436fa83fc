"""A refusal as its caller reads it: a problem document (RFC 9457) and the fields that go with it."""

import json
from collections.abc import Iterable
from typing import Any

from gateway.core.headers import Fields
from gateway.core.reasons import REASONS, Reason
from gateway.core.snapshot import Port, PortType
from identity.core.trace import Words, words

RETRY_AFTER = b"1"  # seconds


def problem(port: Port, reason: Reason, detail: Words, trace_id: str, allow: Iterable[str]) -> tuple[Fields, bytes]:
    """Fields and body. `detail` is told where the port explains; `allow`: the methods, where another one was used."""
    info = REASONS[reason]
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": info.title,
        "status": info.status,
        "reason": reason.value,
        "trace_id": trace_id,
    }
    if port.explain and detail:
        document["detail"] = words(detail)
    fields: Fields = [(b"Content-Type", b"application/problem+json"), (b"Cache-Control", b"no-store")]
    if info.status == 401:
        basic = b'Basic realm="gateway", charset="UTF-8"'
        fields.append((b"WWW-Authenticate", basic if port.accept_basic else b'Certificate realm="gateway"'))
    elif info.status == 503:
        fields.append((b"Retry-After", RETRY_AFTER))
    elif info.status == 405:
        fields.append((b"Allow", ", ".join(sorted(allow)).encode()))
    if port.type is PortType.INTERNAL:
        fields.append((b"Postern-Reason", reason.value.encode()))
    return fields, json.dumps(document).encode()
