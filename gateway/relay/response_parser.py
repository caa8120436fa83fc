"""Answers from bytes, of whoever a request was sent to. No sockets.

Framing is httptools' (llhttp). An answer is believed as far as it can be read in one way only.
"""

from typing import Protocol

import httptools

from gateway.core.errors import MessageError
from gateway.core.headers import Fields
from gateway.core.reasons import GatewayReason
from gateway.relay.heads import END, MEMORABLE, check_trailer
from gateway.relay.memo import Memo

MAX_TRAILERS = 128  # fields


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
            cut = data.find(END) + 4
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
        cut = data.find(END) + 4
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
            check_trailer(name, value, len(self._fields), MAX_TRAILERS)

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
