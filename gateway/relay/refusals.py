"""What a node refused lately, requests and handshakes: kept to be looked up, and fetched by who keeps it for longer.

Each worker of a node has a store of its own, with a ring for each kind. What is in one is numbered, so that whoever
comes again gets what came since; how much came in between and is gone again he is told.
"""

import base64
import json
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.core.decision import CredentialKind, Decision
from gateway.core.explain import lane
from gateway.core.snapshot import PortType
from gateway.relay.frames import Message
from identity.core.assertions import Proof
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.core.trace import words

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange

KEPT = 1000  # of each kind
AT_ONCE = 100  # entries in one answer
MAX_ANSWER = 512 * 1024  # bytes of one ring's part of it: all workers' parts go through the console's link as one
MAX_CHAIN = 16 * 1024  # bytes of certificates that are kept of one peer; of more the leaf alone
MAX_PATH = 2048  # characters
MAX_WORDS = 1000  # characters of one text: what callers show may be as long as they like


@dataclass(frozen=True, slots=True)
class Refused:
    """`told`: plain JSON. `chain`: DER of what the peer showed, leaf first; encoded only when somebody asks."""

    number: int
    told: dict[str, Any]
    chain: tuple[bytes, ...]

    def document(self) -> dict[str, Any]:
        return self.told | {"number": self.number, "chain": [base64.b64encode(der).decode() for der in self.chain]}


class Ring:
    """The last entries of one kind. `source` names it, and is another after every start."""

    def __init__(self, kept: int = KEPT) -> None:
        self.source = secrets.token_hex(8)
        self._entries: deque[Refused] = deque(maxlen=kept)
        self._last = 0

    def __iter__(self) -> Iterator[Refused]:
        return iter(self._entries)

    def __reversed__(self) -> Iterator[Refused]:
        return reversed(self._entries)

    def note(self, told: dict[str, Any], chain: Sequence[bytes] = ()) -> None:
        self._last += 1
        self._entries.append(Refused(self._last, told, _kept(chain)))

    def since(self, number: int, count: int = AT_ONCE) -> dict[str, Any]:
        """What came after `number`, the oldest first; `missed`: how many came besides, and are gone."""
        gone = self._last - len(self._entries)
        begin = max(number, gone) - gone
        found: list[dict[str, Any]] = []
        size = 0
        for each in islice(self._entries, begin, begin + count):
            document = each.document()
            size += len(json.dumps(document))
            if found and size > MAX_ANSWER:
                break
            found.append(document)
        return {
            "source": self.source,
            "entries": found,
            "missed": max(0, gone - number),
            "more": bool(found) and found[-1]["number"] < self._last,
        }


class Refusals:
    """All that one worker keeps: whoever asks, by trace or by number, is told of the same entries."""

    def __init__(self, kept: int = KEPT) -> None:
        self.requests, self.handshakes = Ring(kept), Ring(kept)

    def lanes(self, trace_id: str) -> list[dict[str, Any]] | None:
        """Why the last request of that trace was refused, check by check; None where none is kept."""
        found = (each.told["lanes"] for each in reversed(self.requests) if each.told["trace_id"] == trace_id)
        return next(found, None)

    def since(self, message: Message) -> list[dict[str, Any]]:
        """For `{"op": "refused_since", "cursor": {source: number}}`: of each kind what came since.

        What the cursor says of other workers' rings is theirs to read; a source that it does not name is told whole.
        """
        cursor = message.get("cursor")
        known = cursor if isinstance(cursor, dict) else {}

        def number(source: str) -> int:
            found = known.get(source)
            return found if isinstance(found, int) and found >= 0 else 0

        rings = {"request": self.requests, "handshake": self.handshakes}
        return [ring.since(number(ring.source)) | {"kind": kind} for kind, ring in rings.items()]


def _kept(chain: Sequence[bytes]) -> tuple[bytes, ...]:
    """Whoever is refused chooses how much he sends."""
    for kept in (tuple(chain), tuple(chain[:1])):
        if sum(map(len, kept)) <= MAX_CHAIN:
            return kept
    return ()


# --- what is kept ---


def of_request(node: str, exchange: "Exchange", at: float) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """A refused request, and what the caller showed where he proved that it is his. No query, and no header."""
    decision, connection, head = exchange.decision, exchange.connection, exchange.head
    path = decision.path if decision is not None else ""
    certificate = connection.certificate
    own = [_short(lane(node, connection.port.name, decision))] if decision is not None else []
    proven = connection.proof is Proof.TLS and certificate is not None
    chain = (certificate.der, *(each.der for each in connection.intermediates)) if proven and certificate else ()
    if certificate is None and decision is not None and decision.identity is not None:
        certificate = decision.identity.certificate
    return {
        "at": at,
        "node": node,
        "port": connection.port.name,
        "inner": connection.port.type is PortType.INTERNAL,
        "test": connection.tracing,
        "trace_id": exchange.trace_id,
        "peer": decision.caller if decision is not None and decision.caller else connection.peer,
        "method": head.method[:32],
        "path": (path or head.target.partition("?")[0])[:MAX_PATH],
        "status": exchange.status,
        "reason": exchange.reason.value if exchange.reason is not None else "",
        "words": words(decision.detail)[:MAX_WORDS] if decision is not None else "",
        "user": _user_of(decision) if decision is not None else "",
        **_shown(certificate),
        "lanes": own + [_short(each) for each in exchange.lanes],
    }, chain  # fmt: skip


def of_handshake(
    node: str, port: str, peer: str, words: str, reason: str, chain: Sequence[bytes], at: float
) -> dict[str, Any]:
    certificate = None
    if chain:
        try:
            certificate = from_der(chain[0])
        except CertificateError:
            certificate = None  # the words say what is wrong with it
    return {
        "at": at, "node": node, "port": port, "peer": peer, "words": words[:MAX_WORDS], "reason": reason,
        **_shown(certificate),
    }  # fmt: skip


def _shown(certificate: Certificate | None) -> dict[str, str]:
    if certificate is None:
        return {"certificate": "", "subject": "", "issuer": ""}
    return {
        "certificate": certificate.sha256,
        "subject": certificate.subject.text[:MAX_WORDS],
        "issuer": certificate.issuer.text[:MAX_WORDS],
    }


def _short(told: dict[str, Any]) -> dict[str, Any]:
    """A target that was not taken stands in the trace as it came; its query is nobody's business."""
    for step in told.get("steps", ()):
        step["found"], step["against"] = step["found"][:MAX_WORDS], step["against"][:MAX_WORDS]
        if step["check"] == "path" and not step["passed"]:
            step["found"] = step["found"].partition("?")[0]
    return told


def _user_of(decision: Decision) -> str:
    """Whom it ran as, or whose name came with a password."""
    if decision.identity is not None:
        return decision.identity.user
    if decision.credential is CredentialKind.BASIC:
        for step in reversed(decision.steps):
            if step.check == "password" and isinstance(step.found, tuple) and step.found[0] == "user {0}":
                return str(step.found[1])
    return ""
