"""A head, taken apart (RFC 9112). What two programs could read differently is refused here. No sockets."""

from gateway.core.errors import MessageError
from gateway.core.headers import NOT_FOR_CONNECTION, Action, Fields, action
from gateway.core.limits import Limits
from gateway.core.reasons import GatewayReason
from gateway.relay.memo import Memo

NOTHING: frozenset[bytes] = frozenset()
ON_TUNNEL = frozenset({b"postern-assertion", b"postern-peer", b"postern-trace", b"client-cert", b"client-cert-chain"})
AT_REGISTRATION = frozenset({b"postern-registration", b"postern-nonce", b"postern-time"})
END = b"\r\n\r\n"  # of a head
MAX_LENGTH = 2**53  # bytes of a body; beyond it other programs round
MEMORABLE = 4096  # bytes of a head that is remembered
REMEMBERED = 512  # heads, per port or pool and generation
_TEXT = bytes(set(range(0x20, 0x7F)) | set(range(0x80, 0x100)) | {0x09})
_HOST = bytes(set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=:[]"))
_DIGITS = b"0123456789"


class Head:
    """A request's head, taken apart.

    Attributes:
        fields: what goes on as it is: (name as it came, value).
        host: of the Host field or the absolute target; b"" with HTTP/1.0 and none.
        length: of the body in bytes; None where it is chunked; 0 where there is none.
        expects: whether 100-continue is awaited.
        forwarding: X-Forwarded-… and Forwarded, good only when the peer is a trusted proxy.
        switches: whether it asks for a protocol that is let through: WebSocket (RFC 6455), and no other, for what
            h2c carries nobody here would look into.
        known_by: the bytes that such a head begins with whenever it comes again, and the same object stands for all of
            them; b"" for one that is not remembered.
        spoken: the fields that speak at this kind of port alone, by lower-case name; empty elsewhere.
    """

    __slots__ = (
        "authorization", "expects", "fields", "forwarding", "host", "keep_alive", "known_by", "length", "method",
        "spoken", "switches", "target", "traceparent", "tracestate", "upgrade", "version",
    )  # fmt: skip

    method: str
    target: str
    version: str
    fields: Fields
    host: bytes
    authorization: bytes | None
    length: int | None
    expects: bool
    keep_alive: bool
    upgrade: bytes
    forwarding: Fields
    traceparent: bytes
    tracestate: bytes
    spoken: dict[bytes, bytes]
    switches: bool
    known_by: bytes


def read_head(
    method: str, target: bytes, version: str, raw: Fields, limits: Limits, speaks: frozenset[bytes] = NOTHING
) -> Head:
    """Raises MessageError for what is malformed, ambiguous, or beyond `limits`.

    `speaks`: the identity fields that mean something at this kind of port; every other is dropped.
    """
    if version not in ("1.1", "1.0"):
        raise MessageError(f"HTTP/{version}", GatewayReason.VERSION_NOT_SUPPORTED)
    if len(target) > limits.target_bytes:
        raise MessageError(f"a target of {len(target)} bytes", GatewayReason.URI_TOO_LONG)
    if len(raw) > limits.header_fields:
        raise MessageError(f"{len(raw)} header fields", GatewayReason.HEADERS_TOO_LARGE)
    head = Head()
    head.method, head.target, head.version = method, target.decode("latin-1"), version
    fields: Fields = []
    head.fields, head.forwarding, head.spoken = fields, [], {}
    head.authorization, head.upgrade, head.traceparent, head.tracestate = None, b"", b"", b""
    head.expects, head.known_by = False, b""
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: list[bytes] = []
    for name, value in raw:
        if value.translate(None, _TEXT):
            raise MessageError(f"a control character in the value of {_shown(name)}")
        kind = action(name)
        if kind is Action.KEEP:
            fields.append((name, value))
        elif kind is Action.SPECIAL:
            lowered = name.lower()
            value = value.strip(b" \t")
            if lowered == b"host":
                hosts.append(value)
            elif lowered == b"content-length":
                lengths.append(value)
            elif lowered == b"transfer-encoding":
                codings.append(value)
            elif lowered == b"connection":
                connection.append(value)
            elif lowered == b"authorization":
                if head.authorization is not None:
                    raise MessageError("two Authorization fields")
                head.authorization = value
            elif lowered == b"expect":
                if value.lower() != b"100-continue" or head.expects:
                    raise MessageError(f"Expect: {_shown(value)}", GatewayReason.EXPECTATION_FAILED)
                head.expects = True
            elif lowered == b"traceparent":
                head.traceparent = value
            else:
                head.tracestate = value
        elif kind is Action.IDENTITY:
            if speaks and (lowered := name.lower()) in speaks:
                if lowered in head.spoken:
                    raise MessageError(f"two {_shown(name)} fields")
                head.spoken[lowered] = value.strip(b" \t")
        elif kind is Action.FORWARDING:
            head.forwarding.append((name, value.strip(b" \t")))
        elif kind is Action.MALFORMED:
            raise MessageError(f"the field name {_shown(name)}")
        elif name.lower() == b"upgrade":
            head.upgrade = value.strip(b" \t")
    head.host = _host(hosts, target, version)
    head.length = _length(lengths, codings, version)
    _apply_connection(head, connection)
    if method == "CONNECT":  # what follows may be meant for elsewhere
        head.keep_alive = False
    head.switches = head.upgrade.lower() == b"websocket" and version == "1.1" and method == "GET" and head.length == 0
    if head.expects and (version == "1.0" or head.length == 0):
        head.expects = False  # RFC 9110, section 10.1.1: ignored
    return head


def _shown(text: bytes) -> str:
    return ascii(text[:60].decode("latin-1"))[1:-1]


def _host(hosts: list[bytes], target: bytes, version: str) -> bytes:
    """One Host, of characters that a host may have (RFC 9112, section 3.2); the absolute target's beats it."""
    if len(hosts) > 1:
        raise MessageError("two Host fields")
    if not hosts and version == "1.1":
        raise MessageError("no Host field")
    host = hosts[0] if hosts else b""
    if not target.startswith(b"/") and b"://" in target:
        host = target.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
        if not host:
            raise MessageError("an absolute target without a host")
    if host.translate(None, _HOST) or b"@" in host:
        raise MessageError("the Host field holds what no host may")
    name, separator, port = host.rpartition(b":")
    if (
        separator
        and not (port == b"" or (port.isdigit() and len(port) <= 5 and int(port) <= 65535))
        and b"]" not in port
    ):
        raise MessageError("the Host field's port is none")
    if separator and not name:
        raise MessageError("the Host field has a port and no host")
    return host


def _length(lengths: list[bytes], codings: list[bytes], version: str) -> int | None:
    """The body's length by exactly one of the two ways to tell it (RFC 9112, section 6.3)."""
    if codings:
        if lengths:
            raise MessageError("both Content-Length and Transfer-Encoding")
        if version == "1.0":
            raise MessageError("Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            reason = GatewayReason.NOT_IMPLEMENTED if codings[-1].lower().endswith(b"chunked") else None
            raise MessageError(
                f"Transfer-Encoding: {_shown(b', '.join(codings))}", reason or GatewayReason.REQUEST_MALFORMED
            )
        return None
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise MessageError("two Content-Length fields")
    text = lengths[0]
    if not text or text.translate(None, _DIGITS) or int(text) > MAX_LENGTH:
        raise MessageError(f"Content-Length: {_shown(text)}")
    return int(text)


def _apply_connection(head: Head, connection: list[bytes]) -> None:
    """Take off what Connection names, before anything of ours is added, so that nobody can strip ours."""
    if not connection:
        head.keep_alive = head.version == "1.1"
        head.upgrade = b""
        return
    tokens = {token.strip(b" \t").lower() for value in connection for token in value.split(b",")}
    if b"close" in tokens:
        head.keep_alive = False
    else:
        head.keep_alive = head.version == "1.1" or b"keep-alive" in tokens
    if b"upgrade" not in tokens:
        head.upgrade = b""
    tokens -= {b"close", b"keep-alive", b"upgrade", b"te", b"trailer", b"", b"transfer-encoding", b"proxy-connection"}
    if not tokens:
        return
    for token in tokens:
        if token.decode("latin-1") in NOT_FOR_CONNECTION:
            raise MessageError(f"Connection names {_shown(token)}")
    head.fields = [(name, value) for name, value in head.fields if name.lower() not in tokens]


def check_trailer(name: bytes, value: bytes, count: int, limit: int) -> None:
    if count > limit:
        raise MessageError(f"{count} trailer fields", GatewayReason.HEADERS_TOO_LARGE)
    if value.translate(None, _TEXT):
        raise MessageError(f"a control character in the value of {_shown(name)}")


def new_memo() -> Memo:
    """For the heads that come to one port or one pool.

    Reading a head is a function of its bytes, the limits and the kind of port, and of nothing else while the parser
    stands between two messages. Most heads come again and again: they are remembered by their very bytes, and a message
    that arrives whole under a known head is not read again. Whatever else arrives goes through llhttp, byte by byte.
    """
    return Memo(REMEMBERED)
