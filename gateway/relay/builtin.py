"""What a node runs by itself: `whoami` and `echo`; and the small encodings that exchanges need."""

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any

from gateway.core.headers import Fields

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange


class Builtin:
    """Stands where a backend's connection would: is sent the request's body, tells the exchange the answer."""

    __slots__ = ("_exchange", "_name", "_over")

    def __init__(self, name: str, exchange: "Exchange") -> None:
        self._name, self._exchange = name, exchange
        self._over = False

    def begin(self) -> None:
        exchange = self._exchange
        if self._name == "echo":
            exchange.response_head(
                200, [(b"Content-Type", b"application/octet-stream"), _NOSNIFF], exchange.head.length
            )

    def send(self, data: bytes) -> None:
        """A part of the request's body."""
        if self._name == "echo" and not self._over and self._exchange.head.method != "HEAD":
            self._exchange.response_data(data)

    def end(self, trailers: Fields) -> None:
        if self._over:
            return
        self._over = True
        exchange = self._exchange
        if self._name == "whoami":
            body = json.dumps(whoami(exchange)).encode() + b"\n"
            fields: Fields = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"), _NOSNIFF]
            exchange.response_head(200, fields, len(body))
            if exchange.head.method != "HEAD":
                exchange.response_data(body)
        exchange.response_end([])

    def release(self) -> None: ...
    def close(self) -> None: ...

    def abort(self) -> None:
        self._over = True


_NOSNIFF = (b"X-Content-Type-Options", b"nosniff")


def whoami(exchange: "Exchange") -> dict[str, Any]:
    """Whom the request runs as, and by what credential."""
    decision, connection = exchange.decision, exchange.connection
    assert decision is not None and decision.identity is not None
    identity = decision.identity
    credential: dict[str, Any] = {"type": identity.credential.value}
    certificate = identity.certificate
    if certificate is not None:
        credential |= {
            "subject": certificate.subject.text,
            "issuer": certificate.issuer.text,
            "sha256": certificate.sha256,
            "proof": decision.proof.value if decision.proof else "tls",
        }
    return {
        "user": identity.user,
        "groups": sorted(identity.groups),
        "credential": credential,
        "node": connection.node.snapshot.node,
        "port": connection.port.name,
        "trace_id": exchange.trace_id,
    }


def basic(username: str, password: str) -> bytes:
    """The value of an Authorization field (RFC 7617)."""
    return b"Basic " + base64.b64encode(f"{username}:{password}".encode())


def encode_lanes(lanes: list[dict[str, Any]]) -> bytes:
    return base64.b64encode(zlib.compress(json.dumps(lanes).encode()))


def decode_lanes(value: bytes, limit: int = 256 * 1024) -> list[dict[str, Any]]:
    """Raises ValueError: not what `encode_lanes` makes, or more than `limit` bytes of it."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b64decode(value, validate=True), limit)
        if unpacker.unconsumed_tail:
            raise ValueError("too long")
        lanes = json.loads(text)
    except (zlib.error, RecursionError) as error:
        raise ValueError("not compressed JSON") from error
    if not isinstance(lanes, list) or not all(isinstance(lane, dict) for lane in lanes):
        raise ValueError("no lanes")
    return lanes
