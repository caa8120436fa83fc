"""Connections on which this node is the HTTP client: to backends, https endpoints, and through tunnels."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gateway.core.errors import MessageError, NotSent
from gateway.core.headers import Fields
from gateway.core.reasons import GatewayReason
from gateway.relay.cork import Cork, Corked
from gateway.relay.heads import new_memo
from gateway.relay.memo import Memo
from gateway.relay.response_parser import Answer, ResponseParser
from gateway.relay.tls import TLSLayer
from gateway.relay.writing import chunk, last_chunk

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0  # seconds until a backend's connection stands, TLS included
MAX_IDLE = 256  # kept connections to one backend
IDLE_SECONDS = 30.0  # a kept connection to a backend that was not used for so long is closed


class Owner(Protocol):
    """Who has the connection while nobody uses it."""

    def released(self, upstream: "Upstream") -> None: ...
    def lost(self, upstream: "Upstream") -> None: ...


class Upstream(Corked):
    """One connection; one request at a time is on it.

    Attributes:
        exchange: who uses it now.
        party: for whom heads are written that go by it: all connections with the same party carry the same.
        used_at: loop time of the last byte in either direction, seconds.
    """

    __slots__ = ("_chunked", "_keep_alive", "_now", "_parser", "_switched", "exchange", "owner", "party", "used_at")

    def __init__(self, transport: Any, owner: Owner, cork: Cork, heads: Memo) -> None:
        """`heads`: of the answers that came to the owner before, as `ResponseParser` has it."""
        super().__init__(transport, cork)
        self.owner = owner
        self.party: object = owner
        self._parser = ResponseParser(self, heads)
        self._keep_alive = True
        self.exchange: Exchange | None = None
        self._chunked = self._switched = False
        self._now = asyncio.get_running_loop().time
        self.used_at = self._now()

    @property
    def usable(self) -> bool:
        return not self.over and not self.transport.is_closing()

    def start(
        self, exchange: "Exchange", method: str, head: bytes, *, chunked: bool = False, switches: bool = False
    ) -> None:
        """Send a request's head; the body follows by `send` and `end`; the exchange is told of the answer."""
        self.exchange, self._chunked = exchange, chunked
        self._keep_alive = True
        self._parser.expect(method, switches=switches)
        self.write(head)

    def start_whole(self, exchange: "Exchange", method: str, message: bytes) -> None:
        """Send a request that is all there."""
        self.exchange, self._chunked = exchange, False
        self._keep_alive = True
        self._parser.expect(method)
        self.write_whole(message)

    def send(self, data: bytes) -> None:
        """A part of the request's body."""
        self.write(chunk(data) if self._chunked else data)

    def end(self, trailers: Fields) -> None:
        """The request's body is whole."""
        if self._chunked:
            self.write(last_chunk(trailers))

    def release(self) -> None:
        """The exchange is through with it: back to its owner if it can be used again, else closed."""
        self.exchange = None
        self.used_at = self._now()
        if self._keep_alive and not self._parser.busy and not self.over:
            self.owner.released(self)
        else:
            self.close()

    def discard(self, *, reusable: bool) -> None:
        """Nobody wants the rest of the answer: read it to its end, and go on if that can be done."""
        if reusable and self._parser.busy:
            self.exchange = Unheard(self)  # type: ignore[assignment]
        else:
            self.close()

    def close(self) -> None:
        if not self.over:
            self.flush()
            self.over = True
            self.exchange = None
            self.transport.close()
            self.owner.lost(self)

    def abort(self) -> None:
        """Give up a request that is on its way: nothing that still comes may reach anybody."""
        if not self.over:
            self.over = True
            self.exchange = None
            self.transport.abort()
            self.owner.lost(self)

    # --- as the application above the transport ---

    def data_received(self, data: bytes) -> None:
        if self._switched:
            if self.exchange is not None:
                self.exchange.connection.write_whole(data)
            return
        if self._parser.recall(data):
            return
        try:
            with self._cork:
                self._parser.feed(data)
        except MessageError as error:
            self._broken(error.words)

    def eof_received(self) -> None:
        exchange = self.exchange
        clean = getattr(self.transport, "clean_end", True)
        if self._switched and exchange is not None:
            exchange.far_side_ended()
        elif exchange is not None and not (clean and self._parser.eof()):
            self._broken("the connection ended before the answer did")
        elif not self.over:
            self._keep_alive = False
            if self.exchange is None:
                self.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over:
            self._broken(str(error) if error else "the connection ended before the answer did")

    def _broken(self, words: str) -> None:
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.upstream_lost(words)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.connection.pause_reading()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.connection.resume_reading()

    # --- as the parser's handler ---

    def response(self, answer: Answer, body: bytes) -> None:
        self._keep_alive = answer.keep_alive
        if self.exchange is not None:
            self.exchange.response(answer, body)

    def response_head(self, status: int, fields: Fields, length: int | None, keep_alive: bool) -> None:
        self._keep_alive = keep_alive
        if self.exchange is not None:
            self.exchange.response_head(status, fields, length)

    def response_data(self, data: bytes) -> None:
        if self.exchange is not None:
            self.exchange.response_data(data)

    def response_end(self, trailers: Fields) -> None:
        if self.exchange is not None:
            self.exchange.response_end(trailers)

    def switched(self, fields: Fields, rest: bytes) -> None:
        self._switched, self._keep_alive = True, False
        if self.exchange is not None:
            self.exchange.switched(fields, rest)


class Unheard:
    """Uses a connection in the place of an exchange where nobody waits for the answer."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.connection = self
        self.answered = False

    def response(self, answer: Answer, body: bytes) -> None:
        self.response_end([])

    def response_head(self, status: int, fields: Fields, length: int | None) -> None: ...
    def response_data(self, data: bytes) -> None: ...

    def response_end(self, trailers: Fields) -> None:
        self._upstream.release()

    def upstream_lost(self, words: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class BackendPool:
    """Kept connections to one backend or https endpoint.

    `context`: how to speak TLS with it, None for plain HTTP.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, cork: Cork) -> None:
        self.host, self.port, self._context, self._cork = host, port, context, cork
        self._heads = new_memo()
        self._idle: list[Upstream] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._all: set[Upstream] = set()
        self._closed = False

    def free(self, path: str = "") -> Upstream | None:
        """A kept connection that nobody uses, the one used last; whoever takes it releases it. It carries any path."""
        idle = self._idle
        while idle:
            upstream = idle.pop()
            if upstream.usable:
                return upstream
        return None

    def connect(self, got: Callable[[Upstream], None], failed: Callable[[NotSent], None]) -> Callable[[], None]:
        """Call `got` with a new connection, or `failed`, later. Returns what cancels that."""
        task = asyncio.get_running_loop().create_task(self._connect(got, failed))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return lambda: _cancel(task)

    async def _connect(self, got: Callable[[Upstream], None], failed: Callable[[NotSent], None]) -> None:
        where = f"{self.host}:{self.port}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                upstream = await self._new()
        except TimeoutError:
            failed(NotSent(GatewayReason.BACKEND_UNREACHABLE, f"{where}: no connection within {CONNECT_TIMEOUT:.0f} s"))
            return
        except OSError as error:
            failed(NotSent(GatewayReason.BACKEND_UNREACHABLE, f"{where}: {error.strerror or error}"))
            return
        self._all.add(upstream)
        with self._cork:
            got(upstream)

    async def _new(self) -> Upstream:
        """Raises OSError."""
        transport: Any
        if self._context is None:
            loop = asyncio.get_running_loop()
            transport, protocol = await loop.create_connection(PlainLayer, self.host, self.port)
            upstream = Upstream(transport, self, self._cork, self._heads)
            protocol.application = upstream
            return upstream
        layer = await dial_tls(self.host, self.port, self._context, self.host)
        upstream = Upstream(layer, self, self._cork, self._heads)
        layer.set_application(upstream)
        return upstream

    def released(self, upstream: Upstream) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE:
            upstream.close()
        else:
            self._idle.append(upstream)

    def lost(self, upstream: Upstream) -> None:
        self._all.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def sweep(self, now: float) -> None:
        for upstream in [u for u in self._idle if now - u.used_at > IDLE_SECONDS]:
            upstream.close()

    def close(self) -> None:
        """No connection is kept from now on; those in use end with their request."""
        self._closed = True
        for upstream in list(self._idle):
            upstream.close()


async def dial_tls(host: str, port: int, context: ssl.SSLContext, server_name: str) -> TLSLayer:
    """A TLS connection that stands, its application still to be set. Raises OSError, also for a failed handshake."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[TLSLayer] = loop.create_future()

    def ready(layer: TLSLayer) -> "Early":
        if not done.done():
            done.set_result(layer)
        return Early()

    def failed(_: TLSLayer, words: str) -> None:
        if not done.done():
            done.set_exception(ConnectionError(words))

    transport, _ = await loop.create_connection(
        lambda: TLSLayer(ready, failed, context=context, server_name=server_name), host, port
    )
    try:
        return await done
    except BaseException:
        transport.abort()
        raise


class Early:
    """Stands above a connection for the instant until its application is set."""

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class PlainLayer(asyncio.Protocol):
    """A socket without TLS under an application; the counterpart of `TLSLayer`."""

    def __init__(self) -> None:
        self.application: Any = Early()

    def data_received(self, data: bytes) -> None:
        self.application.data_received(data)

    def eof_received(self) -> bool:
        self.application.eof_received()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        application, self.application = self.application, Early()
        application.connection_lost(error)

    def pause_writing(self) -> None:
        self.application.pause_writing()

    def resume_writing(self) -> None:
        self.application.resume_writing()


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
