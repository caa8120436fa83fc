"""HTTP/1.1 messages from bytes, and bytes from messages (RFC 9112). No sockets.

Framing is httptools' (llhttp); what it lets pass and two programs could read differently is refused here.
What goes on is written anew from what was parsed, never copied through.
"""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import chain
from random import randbytes
from typing import Protocol

import httptools

from gateway.core.errors import MessageError
from gateway.core.headers import NOT_FOR_CONNECTION, Action, Fields, action
from gateway.core.limits import Limits
from gateway.core.reasons import GatewayReason
from gateway.relay.memo import Memo

NOTHING: frozenset[bytes] = frozenset()
ON_TUNNEL = frozenset({b"postern-assertion", b"postern-peer", b"postern-trace", b"client-cert", b"client-cert-chain"})
AT_REGISTRATION = frozenset({b"postern-registration", b"postern-nonce", b"postern-time"})
_TEXT = bytes(set(range(0x20, 0x7F)) | set(range(0x80, 0x100)) | {0x09})
_HOST = bytes(set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=:[]"))
_DIGITS = b"0123456789"
PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
MAX_LENGTH = 2**53  # bytes of a body; beyond it other programs round


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


# --- parsers ----------------------------------------------------------------------------------------------
#
# Reading a head is a function of its bytes, the limits and the kind of port, and of nothing else while the
# parser stands between two messages. Most heads come again and again: they are remembered by their very bytes,
# and a message that arrives whole under a known head is not read again. Whatever else arrives goes through
# llhttp, byte by byte.

MEMORABLE = 4096  # bytes of a head that is remembered
MAX_TRAILERS = 128  # fields, of an answer
REMEMBERED = 512  # heads, per port or pool and generation
_END = b"\r\n\r\n"


def new_memo() -> Memo:
    """For the heads that come to one port or one pool."""
    return Memo(REMEMBERED)


class RequestHandler(Protocol):
    def request(self, head: Head, trace_id: str, body: bytes) -> None:
        """A whole request under a head that came before. `trace_id`: "" where the head itself has it."""

    def request_head(self, head: Head) -> None: ...
    def request_data(self, data: bytes) -> None: ...
    def request_end(self, trailers: Fields) -> None: ...


class RequestParser:
    """Feed bytes; the handler is told of heads, data and ends, in order.

    Raises MessageError from `feed`; the connection cannot be read any further then.
    """

    __slots__ = (
        "_begun", "_fields", "_fresh", "_handler", "_head", "_head_bytes", "_heads", "_heard", "_in_head", "_last",
        "_limits", "_long", "_muted", "_parser", "_quiet", "_speaks", "_stopped", "_target",
    )  # fmt: skip

    def __init__(
        self, handler: RequestHandler, limits: Limits, speaks: frozenset[bytes] = NOTHING, heads: Memo | None = None
    ) -> None:
        """`heads`: shared by parsers of the same limits that speak the same; None remembers nothing."""
        self._handler, self._limits, self._speaks, self._heads = handler, limits, speaks, heads
        self._stopped = self._muted = False
        self._begun = 0  # messages, in this call of `feed`
        self._long = False  # whether a head that ends in this call of `feed` may be too large
        self._head: Head | None = None
        self._last: Head | None = None  # that recurred
        self._start()

    def stop(self) -> None:
        """No request may follow: the connection is somebody else's now."""
        self._stopped = True

    def close(self) -> None:
        """Nothing is read any more: let go of all that leads back here.

        A connection would else be garbage that only the collector finds, TLS and all, and looks for in the middle of
        the requests of others.
        """
        del self._handler, self._parser

    def _start(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: Fields = []
        self._fresh = True  # between two messages
        self._in_head, self._head_bytes = True, 0
        self._quiet = 0  # bytes since the last of a body's data: trailers, chunk extensions
        self._heard = False  # data of a body, in this call of `feed`

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and not ended: what the header timeout looks at."""
        return self._in_head and self._head_bytes > 0

    def feed(self, data: bytes) -> None:
        fresh = self._fresh and not self._head_bytes and self._heads is not None
        between = 1 if self._fresh else 0  # messages begun if all that comes belongs to one head
        self._begun, self._heard = 0, False
        self._long = self._head_bytes + len(data) > self._limits.header_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            # llhttp goes no further; an Upgrade that is not honoured is an ordinary request.
            rest, head = data[switch.args[0] :], self._head
            self._start()
            if head is not None and head.length != 0:
                self._go_on_with_body(head)
            elif rest and (self._stopped or (head is not None and head.switches)):
                raise MessageError("bytes after a request to switch protocols, before its answer") from None
            if rest:
                self.feed(rest)
            return
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, MessageError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserInvalidMethodError as error:
            raise MessageError(f"the method ({error})", GatewayReason.NOT_IMPLEMENTED) from error
        except httptools.HttpParserError as error:
            raise MessageError(str(error)) from error
        if self._in_head:
            if self._fresh:
                self._head_bytes = 0
                if fresh and self._begun == 1:
                    self._remember(data)
            elif self._begun > between:  # it began somewhere in what came, behind the end of another message
                self._head_bytes = 1
            else:
                self._head_bytes += len(data)
                if self._head_bytes > self._limits.header_bytes:
                    raise self._too_large()
        elif not self._heard:
            self._quiet += len(data)
            if self._quiet > self._limits.header_bytes:
                raise self._too_large()

    def _too_large(self) -> MessageError:
        return MessageError(f"more than {self._limits.header_bytes} bytes", GatewayReason.HEADERS_TOO_LARGE)

    def _go_on_with_body(self, head: Head) -> None:
        """llhttp takes whatever follows a request to switch for the other protocol's; here it is the body first."""
        framing = b"Transfer-Encoding: chunked" if head.length is None else b"Content-Length: %d" % head.length
        self._muted = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: again\r\n%b\r\n\r\n" % framing)
        self._muted = False

    # --- heads that recur ---

    def recall(self, data: bytes) -> bool:
        """Pass on a message that is whole and whose head is known; False where `feed` has to read it."""
        if self._heads is None or not self._fresh or self._head_bytes:
            return False
        head, trace_id = self._last, ""
        # Most callers say the same as before: to compare is cheaper than to search for the end and to look up.
        if head is not None and data.startswith(head.known_by):
            cut = len(head.known_by)
            if self._speaks is ON_TUNNEL:
                line = _TRACE_LINE.match(data, cut)
                if line is None:
                    return False
                trace_id, cut = line[1].decode("ascii"), cut + TRACE_BYTES
        else:
            cut = data.find(_END) + 4
            if cut < 4:
                return False
            if self._speaks is ON_TUNNEL:
                key, trace_id = _split_head(data, cut)
            else:
                key = data[:cut]
            self._last = head = self._heads.get(key)
        size = len(data) - cut
        if head is None or head.length != size:
            return False
        self._handler.request(head, trace_id, data[cut:] if size else b"")
        return True

    def _remember(self, data: bytes) -> None:
        head, cut = self._head, data.find(_END) + 4
        if head is None or head.length != len(data) - cut or head.upgrade or not 4 <= cut <= MEMORABLE:
            return
        key = _split_head(data, cut)[0] if self._speaks is ON_TUNNEL else data[:cut]
        if key:
            head.known_by = key
            self._heads.put(key, head)  # type: ignore[union-attr]

    # --- httptools calls these ---

    def on_message_begin(self) -> None:
        self._target, self._fields, self._in_head, self._fresh = b"", [], True, False
        self._begun += 1

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if not self._in_head:
            _check_trailer(name, value, len(self._fields), self._limits.header_fields)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._quiet = 0
        if self._muted:
            self._fields = []
            return
        parser = self._parser
        fields, self._fields = self._fields, []
        self._head = None
        if self._long and _size(self._target, fields) > self._limits.header_bytes:
            raise self._too_large()
        self._head = head = read_head(
            parser.get_method().decode("ascii"),
            self._target,
            parser.get_http_version(),
            fields,
            self._limits,
            self._speaks,
        )
        self._handler.request_head(head)

    def on_body(self, data: bytes) -> None:
        self._quiet, self._heard = 0, True
        self._handler.request_data(data)

    def on_message_complete(self) -> None:
        head = self._head
        if self._parser.should_upgrade() and head is not None and head.length != 0:
            return  # its body is still to come
        self._in_head, self._head_bytes, self._fresh = True, 0, True
        trailers, self._fields = self._fields, []
        self._handler.request_end(trailers)


def _size(target: bytes, fields: Fields) -> int:
    """Bytes of a head that has these, as HTTP/1.1 writes them, but for the method."""
    return len(target) + len(" HTTP/1.1\r\n\r\n") + sum(len(name) + len(value) + 4 for name, value in fields)


def _check_trailer(name: bytes, value: bytes, count: int, limit: int) -> None:
    if count > limit:
        raise MessageError(f"{count} trailer fields", GatewayReason.HEADERS_TOO_LARGE)
    if value.translate(None, _TEXT):
        raise MessageError(f"a control character in the value of {_shown(name)}")


def _split_head(data: bytes, cut: int) -> tuple[bytes, str]:
    """What a tunnel's head that ends at `cut` is known by, and the trace id that is not part of it.

    The edge writes the one line that differs in every request last; its form is fixed, so that what is before it
    is read the same with any such line. (b"", "") where it has another form.
    """
    start = cut - TRACE_BYTES
    line = _TRACE_LINE.match(data, start) if start > 2 and data[start - 1] == 10 else None
    return (data[:start], line[1].decode("ascii")) if line else (b"", "")


class Answer:
    """The head of an answer whose length is told.

    Attributes:
        known_by: the bytes of the head, where it is remembered.
        written: the head as it goes on to a caller whose connection is kept, by HTTP version; made when first asked
            for.
    """

    __slots__ = ("fields", "keep_alive", "known_by", "length", "status", "written")

    def __init__(self, status: int, fields: Fields, length: int, keep_alive: bool) -> None:
        self.status, self.fields, self.length, self.keep_alive = status, fields, length, keep_alive
        self.known_by = b""
        self.written: dict[str, bytes] = {}


class ResponseHandler(Protocol):
    def response(self, answer: Answer, body: bytes) -> None:
        """A whole answer under a head that came before."""

    def response_head(self, status: int, fields: Fields, length: int | None, keep_alive: bool) -> None: ...
    def response_data(self, data: bytes) -> None: ...
    def response_end(self, trailers: Fields) -> None: ...
    def switched(self, fields: Fields, rest: bytes) -> None:
        """The peer has switched protocols, as it was asked to; `rest` is the first of what follows."""


class ResponseParser:
    """Feed bytes of one connection's answers. `expect(method)` before each request tells how to read its answer.

    Raises MessageError from `feed`.
    """

    __slots__ = (
        "_answer", "_fields", "_fresh", "_handler", "_head_bytes", "_heads", "_heard", "_in_head", "_last", "_limit",
        "_method", "_parser", "_quiet", "_skip", "_switches", "_until_close", "busy",
    )  # fmt: skip

    def __init__(self, handler: ResponseHandler, heads: Memo | None = None, header_bytes: int = 64 * 1024) -> None:
        """`heads`: shared by the connections of one pool; None remembers nothing."""
        self._handler, self._heads, self._limit = handler, heads, header_bytes
        self._method, self.busy = "", False
        self._answer: Answer | None = None
        self._last: Answer | None = None  # that recurred
        self._start()

    def _start(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._fields: Fields = []
        self._fresh = True  # between two messages
        self._in_head, self._head_bytes, self._skip, self._until_close = True, 0, False, False
        self._quiet, self._heard = 0, False
        self._switches = False

    def expect(self, method: str, *, switches: bool = False) -> None:
        """`switches`: the request asks for another protocol, so that 101 may be the answer."""
        self._method, self.busy, self._switches = method, True, switches

    def recall(self, data: bytes) -> bool:
        """Pass on an answer that is whole and whose head is known; False where `feed` has to read it."""
        if not self._fresh or not self.busy or self._head_bytes or self._heads is None or self._method == "HEAD":
            return False
        answer = self._last
        if answer is not None and data.startswith(answer.known_by):
            cut = len(answer.known_by)
        else:
            cut = data.find(_END) + 4
            self._last = answer = self._heads.get(data[:cut])
        if answer is None or answer.length != len(data) - cut:
            return False
        self.busy = False
        self._handler.response(answer, data[cut:])
        return True

    def feed(self, data: bytes) -> None:
        if not self.busy:
            raise MessageError("an answer to nothing", GatewayReason.BACKEND_PROTOCOL_ERROR)
        fresh = self._fresh and not self._head_bytes and self._heads is not None
        self._answer, self._heard = None, False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            if self._parser.get_status_code() != 101 or not self._switches:
                raise MessageError(
                    "a switch of protocols that nobody asked for", GatewayReason.BACKEND_PROTOCOL_ERROR
                ) from None
            self._handler.switched(self._fields, data[switch.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, MessageError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise MessageError(str(error), GatewayReason.BACKEND_PROTOCOL_ERROR) from error
        if self._skip:
            self._start()
        elif self._in_head and self.busy:
            self._head_bytes += len(data)
            if self._head_bytes > self._limit:
                raise MessageError(f"a head of more than {self._limit} bytes", GatewayReason.BACKEND_PROTOCOL_ERROR)
        elif fresh and self._fresh and self._answer is not None:
            self._remember(data, self._answer)
        elif not self._fresh and not self._heard:
            self._quiet += len(data)
            if self._quiet > self._limit:
                raise MessageError(f"more than {self._limit} bytes", GatewayReason.BACKEND_PROTOCOL_ERROR)

    def _remember(self, data: bytes, answer: Answer) -> None:
        cut = data.find(_END) + 4
        if 4 <= cut <= MEMORABLE and answer.length == len(data) - cut:
            answer.known_by = data[:cut]
            self._heads.put(answer.known_by, answer)  # type: ignore[union-attr]

    def eof(self) -> bool:
        """The peer has ended; whether that ends the answer properly (one without a length)."""
        if self._until_close and self.busy:
            self.busy = False
            self._handler.response_end([])
            return True
        return not self.busy

    def on_message_begin(self) -> None:
        self._fields, self._in_head, self._fresh = [], True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))
        if not self._in_head:
            _check_trailer(name, value, len(self._fields), MAX_TRAILERS)

    def on_headers_complete(self) -> None:
        if self._skip or not self.busy:
            raise MessageError("bytes after the answer", GatewayReason.BACKEND_PROTOCOL_ERROR)
        parser = self._parser
        status = parser.get_status_code()
        self._in_head, self._head_bytes = False, 0
        self._answer = None
        if status < 200:
            return  # interim: ours to say, not the backend's (we have said 100 already)
        fields, self._fields, self._quiet = self._fields, [], 0
        lengths = [value.strip(b" \t") for name, value in fields if name.lower() == b"content-length"]
        chunked = any(name.lower() == b"transfer-encoding" for name, _ in fields)
        length: int | None = None
        if lengths and not chunked:
            if len(set(lengths)) > 1 or not lengths[0].isdigit():
                raise MessageError("a Content-Length that is none", GatewayReason.BACKEND_PROTOCOL_ERROR)
            length = int(lengths[0])
        bodiless = self._method == "HEAD" or status in (204, 304)
        self._until_close = not (bodiless or chunked or lengths)
        keep_alive = parser.should_keep_alive() and not self._until_close
        if self._method == "HEAD" and not (chunked or lengths):  # llhttp thinks of the body that would follow
            closes = any(name.lower() == b"connection" and b"close" in value.lower() for name, value in fields)
            keep_alive = parser.get_http_version() == "1.1" and not closes
        if length is not None and not bodiless:
            self._answer = Answer(status, fields, length, keep_alive)
        self._handler.response_head(status, fields, length, keep_alive)
        if self._method == "HEAD" and length != 0 and status not in (204, 304):
            # llhttp would wait for the body that a HEAD's answer only speaks of, or for the connection's end.
            self._skip, self.busy = True, False
            self._handler.response_end([])

    def on_body(self, data: bytes) -> None:
        if self._skip:
            raise MessageError("a body in answer to HEAD", GatewayReason.BACKEND_PROTOCOL_ERROR)
        self._quiet, self._heard = 0, True
        self._handler.response_data(data)

    def on_message_complete(self) -> None:
        if self._skip or not self.busy or self._parser.get_status_code() < 200:
            self._in_head = True
            return
        self._in_head, self._fresh, self.busy = True, True, False
        trailers, self._fields = self._fields, []
        self._handler.response_end(trailers)


# --- writers ----------------------------------------------------------------------------------------------


def write_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def request_line(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\n".encode("latin-1")


TRACE_BYTES = 72  # of `trace_line`
_TRACE_LINE = re.compile(rb"traceparent: 00-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-01\r\n\r\n")


def trace_line(trace_id: str, parent: str) -> bytes:
    """The last line of every head that goes on, and its end (W3C Trace Context, section 3.2).

    `trace_id`: 32 hexadecimal digits; `parent`: 16; neither all zeros.
    """
    return f"traceparent: 00-{trace_id}-{parent}-01\r\n\r\n".encode("ascii")


def random_digits(count: int) -> Iterator[str]:
    """Without end: `count` hexadecimal digits, never all zeros; for ids of traces, not for secrets.

    Drawn many at a time, for a draw and its formatting for each request cost more than reading its head does.
    """

    def draw() -> Iterator[list[str]]:
        zeros = "0" * count
        while True:
            digits = randbytes(128 * count).hex()  # noqa: S311 - ids, not secrets
            yield [part for at in range(0, len(digits), count) if (part := digits[at : at + count]) != zeros]

    return chain.from_iterable(draw())


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, PHRASES.get(status, b""))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body (RFC 9112, section 7.1)."""
    return b"0\r\n%b\r\n" % write_fields(trailers) if trailers else b"0\r\n\r\n"


SWITCH = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
