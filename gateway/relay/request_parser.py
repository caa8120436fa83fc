"""Requests from bytes. No sockets.

Framing is httptools' (llhttp); what it lets pass and two programs could read differently is refused here, and in
`heads`. What goes on is written anew from what was parsed, never copied through.
"""

from typing import Protocol

import httptools

from gateway.core.errors import MessageError
from gateway.core.headers import Fields
from gateway.core.limits import Limits
from gateway.core.reasons import GatewayReason
from gateway.relay.heads import END, MEMORABLE, NOTHING, ON_TUNNEL, Head, check_trailer, read_head
from gateway.relay.memo import Memo
from gateway.relay.writing import TRACE_BYTES, TRACE_LINE


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
                line = TRACE_LINE.match(data, cut)
                if line is None:
                    return False
                trace_id, cut = line[1].decode("ascii"), cut + TRACE_BYTES
        else:
            cut = data.find(END) + 4
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
        head, cut = self._head, data.find(END) + 4
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
            check_trailer(name, value, len(self._fields), self._limits.header_fields)

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


def _split_head(data: bytes, cut: int) -> tuple[bytes, str]:
    """What a tunnel's head that ends at `cut` is known by, and the trace id that is not part of it.

    The edge writes the one line that differs in every request last; its form is fixed, so that what is before it
    is read the same with any such line. (b"", "") where it has another form.
    """
    start = cut - TRACE_BYTES
    line = TRACE_LINE.match(data, start) if start > 2 and data[start - 1] == 10 else None
    return (data[:start], line[1].decode("ascii")) if line else (b"", "")
