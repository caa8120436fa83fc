"""Connections on which this node is the HTTP server: requests in, in order, and answers out."""

import asyncio
import logging
from collections import deque
from time import time, time_ns
from typing import Any

from gateway.core.addresses import parse_address
from gateway.core.decision import Decision, Facts, Outcome, PasswordVerdict, decide
from gateway.core.errors import MessageError
from gateway.core.headers import Fields
from gateway.core.limits import Limits
from gateway.core.reasons import GatewayReason, Reason
from gateway.core.snapshot import Port
from gateway.relay.cork import Corked
from gateway.relay.exchange import Exchange
from gateway.relay.heads import NOTHING, Head, read_head
from gateway.relay.memo import Memo
from gateway.relay.prepared import Prepared
from gateway.relay.request_parser import RequestParser
from gateway.relay.runtime import Runtime
from gateway.relay.tls import end_with_reset
from identity.core.assertions import Proof
from identity.core.certificates import Certificate

log = logging.getLogger(__name__)

LINGER = 2.0  # seconds that a client may go on sending a body after its answer, before the connection is closed
MAX_LINGER = 16 * 1024 * 1024  # bytes of it
MEMORABLE = 1024  # bytes of a target whose decision is remembered


class ServerConnection(Corked):
    """One client's connection. Requests are answered one after the other, in order.

    Attributes:
        certificate, intermediates, proof: what the handshake showed, or what a test says that it would have.
        last: no request is taken after the one that is being answered.
        tracing: whether the answers' traces are wanted, as for a test invoke.
        user: whom its last request ran as; "" where that is not known here.
        caller: what the node's memory knows the caller by; two connections that share one are the same caller.
    """

    speaks = NOTHING
    holds = True  # requests, until some of their body has come

    def __init__(
        self, node: Runtime, port: Port, transport: Any, peer: str, *, secure: bool, heads: Memo | None = None
    ) -> None:
        """`heads`: those that came to the port before, as `RequestParser` has it."""
        super().__init__(transport, node.cork)
        self.node, self.port, self.peer, self.secure = node, port, peer, secure
        self.caller: object = object()
        self.certificate: Certificate | None = None
        self.intermediates: tuple[Certificate, ...] = ()
        self.proof: Proof | None = None
        self.user = ""
        self.tracing = False
        self.last = False
        self.switched = False  # it speaks another protocol now, which is not ours to read
        self.crowded = False  # beyond the port's limit on connections: told so, and let go
        self.exchange: Exchange | None = None
        self._queue: deque[_Queued] = deque()
        self._filling: Exchange | _Queued | None = None
        self._waiting: Exchange | None = None  # for the end of what was read with its head
        self._parser = RequestParser(self, port.limits, self.speaks, heads)
        self._pauses = 0
        self._write_paused_since: float | None = None
        self._lingering = 0  # bytes discarded since the answer
        self._linger_until = float("inf")
        self._snapshot = node.snapshot
        self._before: Prepared | None = None  # what the request before this one came to
        self.durations = node.metrics.durations[port.name]
        self.now = asyncio.get_running_loop().time  # seconds; bound once, for every request asks
        self._since = self.now()  # of the head that is awaited
        node.connections.add(self)

    # --- deciding ---

    @property
    def believes_forwarding(self) -> bool:
        """Whether the peer's word on where a request came from counts."""
        proxies = self.port.trusted_proxies
        if not proxies:
            return False
        address = parse_address(self.peer)
        return any(address in network for network in proxies)

    @property
    def believes_trace(self) -> bool:
        """Whether the peer's trace id is taken over."""
        return self.believes_forwarding

    def refresh(self) -> None:
        """Take up a snapshot that came into force since the last request."""
        self._snapshot = snapshot = self.node.snapshot
        port = snapshot.ports.get(self.port.name)
        if port is None:
            self.last = True
        else:
            self.port = port

    def catch_up(self) -> bool:
        """Take up a snapshot that came into force while a request was being decided; whether one did."""
        if self._snapshot is self.node.snapshot:
            return False
        self.refresh()
        return True

    def recall(self, head: Head) -> Prepared | None:
        """What such a request came to before, if that still holds."""
        prepared = self._before
        if prepared is None or prepared.head is not head:
            self._before = prepared = self.node.memory.get((self.caller, head))
        if prepared is not None and prepared.snapshot is self._snapshot and time() < prepared.until:
            return prepared
        return None

    def prepare(self, head: Head, decision: Decision) -> Prepared:
        """Remember what the request comes to, where that may be."""
        prepared = Prepared(decision, self._snapshot, decision.until, head)
        if head.known_by and self._decides_alike(head) and decision.outcome is not Outcome.VERIFY:
            self.node.memory.put((self.caller, head), prepared)
            self._before = prepared
        return prepared

    def decide(self, head: Head, password: PasswordVerdict = PasswordVerdict.UNKNOWN) -> Decision:
        """The decision on a request, remembered where nothing in it can change but the snapshot and the time."""
        if not self._decides_alike(head) or len(head.target) > MEMORABLE:
            return decide(self._facts(head, password), self._snapshot, time())
        key = self._who(head), head.method, head.target
        known: Prepared | None = self.node.memory.get(key)
        if known is not None and known.snapshot is self._snapshot and time() < known.until:
            return known.decision
        decision = decide(self._facts(head, password), self._snapshot, time())
        self.node.memory.put(key, Prepared(decision, self._snapshot, decision.until))
        return decision

    def _who(self, head: Head) -> object:
        """Whom a request comes from, as far as deciding goes."""
        return self.caller

    def _decides_alike(self, head: Head) -> bool:
        """Whether method, target and caller are all that the decision on a request takes from it."""
        return head.authorization is None and not (head.forwarding and self.port.trusted_proxies)

    def _facts(self, head: Head, password: PasswordVerdict) -> Facts:
        return Facts(
            self.port,
            self.peer,
            head.method,
            head.target,
            tuple(v.decode("latin-1") for n, v in head.forwarding if n.lower() == b"x-forwarded-for")
            if head.forwarding and self.port.trusted_proxies
            else (),
            head.authorization.decode("latin-1") if head.authorization is not None else None,
            self.certificate,
            self.intermediates,
            self.proof,
            password=password,
            misdirected=self._misdirected(head),
        )

    def _misdirected(self, head: Head) -> str:
        """The host that the request is for, where the connection may not speak of it."""
        return ""

    # --- bytes in ---

    def data_received(self, data: bytes) -> None:
        if self._linger_until != float("inf"):
            self._lingering += len(data)
            if self._lingering > MAX_LINGER:
                self.abort()
            return
        if self.over or (self.last and self.exchange is None):
            return
        if self.switched:
            if self.exchange is not None:
                self.exchange.switched_data(data)
            return
        if self._parser.recall(data):
            return
        with self.node.cork:
            try:
                self._parser.feed(data)
            except MessageError as error:
                self._malformed(error)
            self._start_waiting()

    def _start_waiting(self) -> None:
        """A request goes on its way when all that came with its head was read: what is broken in it goes nowhere.

        One whose body is still to come is held until that is whole, too much to keep, or takes too long: a caller
        that breaks off before reaches nobody, and one that is slow occupies no tunnel and no backend meanwhile.
        """
        exchange = self._waiting
        if exchange is None:
            return
        if not (exchange.done or self.over):
            if self.holds and exchange.hold():
                return
            self._waiting = None
            exchange.begin()
        else:
            self._waiting = None

    def is_held(self, exchange: Exchange) -> bool:
        """Whether it has not gone on its way yet."""
        return self._waiting is exchange

    def let_go(self, exchange: Exchange) -> None:
        """It was held for long enough."""
        self._waiting = None
        with self.node.cork:
            exchange.begin()

    def request(self, head: Head, trace_id: str, body: bytes) -> None:
        """A whole request, its head known from before."""
        if self.exchange is None and not self.last and not self.over:
            self._since = self.now()
            self._begin(head, trace_id, body)
            return
        self.request_head(head, trace_id)
        if body:
            self.request_data(body)
        self.request_end([])

    def _malformed(self, error: MessageError) -> None:
        """Answer once, after what came before it, and read no more."""
        self.last = True
        self._parser.stop()
        filling = self._filling
        if isinstance(filling, Exchange) and not filling.done:
            # Its body is broken: what was sent on must not look whole to anybody.
            filling.refuse(error.reason, error.words)
            return
        head = _malformed_head(self.port.limits)
        if isinstance(filling, _Queued):
            filling.error = error
        elif self.exchange is not None:
            self._queue.append(_Queued(head, error))
        else:
            self._refuse_outright(head, error)

    def _refuse_outright(self, head: Head, error: MessageError) -> None:
        self.exchange = exchange = Exchange(self, head, f"{time_ns():032x}")
        self.node.exchanges.add(exchange)
        exchange.refuse(error.reason, error.words)

    def request_head(self, head: Head, trace_id: str = "") -> None:
        if self.last or self.over:
            self._filling = None
            return
        if self.exchange is not None:
            queued = _Queued(head, trace_id=trace_id)
            self._queue.append(queued)
            self._filling = queued
            if len(self._queue) == 1:
                self.pause_reading()
            return
        self._begin(head, trace_id)

    def _begin(self, head: Head, trace_id: str, body: bytes | None = None) -> None:
        """`body`: where the whole request is there already."""
        if self._snapshot is not self.node.snapshot:
            self.refresh()
        self.exchange = exchange = Exchange(self, head, trace_id, body)
        self.node.exchanges.add(exchange)
        if body is None:
            self._filling = self._waiting = exchange
        else:
            exchange.begin()

    def request_data(self, data: bytes) -> None:
        if self._filling is not None:
            self._filling.request_data(data)

    def request_end(self, trailers: Fields) -> None:
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.request_end(trailers)
        self._since = self.now()

    def eof_received(self) -> None:
        if self.exchange is not None:
            self.exchange.client_lost()
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.exchange is not None:
            self.exchange.client_lost()
        self._gone()
        self._parser.close()

    # --- flow control ---

    def pause_writing(self) -> None:
        self._write_paused_since = self.now()
        if self.exchange is not None:
            self.exchange.downstream_paused()

    def resume_writing(self) -> None:
        self._write_paused_since = None
        if self.exchange is not None:
            self.exchange.downstream_resumed()

    def pause_reading(self) -> None:
        """Nested: reading goes on when each pause was followed by its resume."""
        self._pauses += 1
        if self._pauses == 1 and not self.over:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._pauses:
            self._pauses -= 1
            if not self._pauses and not self.over:
                self.transport.resume_reading()

    @property
    def reading_paused(self) -> bool:
        return self._pauses > 0

    # --- ending a request, ending the connection ---

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether another request may follow the answer that is about to be written."""
        if self.last or not exchange.head.keep_alive or self.node.draining:
            return False
        # An answer of our own to a request that is still arriving: its rest would have to be read for nothing.
        return exchange.request_ended or exchange.upstream is not None

    def trace_line(self, exchange: Exchange) -> bytes:
        """A header line that carries this node's trace back; b"" where nobody asked, or nobody may."""
        return b""

    def exchange_done(self, exchange: Exchange) -> None:
        self.node.finished(exchange)
        if self.exchange is not exchange:
            return
        self.exchange = None
        self._since = self.now()
        if not exchange.answered or self.over:
            return
        if not exchange.request_ended:
            self._filling = None
            self._linger()
        elif self.last or not exchange.head.keep_alive or self.node.draining:
            self.close()
        elif self._queue:
            self._next()

    def _next(self) -> None:
        queued = self._queue.popleft()
        if not self._queue:
            self.resume_reading()
        if queued.error is not None and not queued.begun_well:
            self._refuse_outright(queued.head, queued.error)
            return
        self._begin(queued.head, queued.trace_id)
        exchange = self.exchange
        if self._filling is queued or exchange is None:
            self._filling = exchange
        if exchange is None:
            return
        for data in queued.data:
            exchange.request_data(data)
        if queued.ended:
            self._filling = None if self._filling is exchange else self._filling
            exchange.request_end(queued.trailers)
        elif queued.error is not None:
            exchange.refuse(queued.error.reason, queued.error.words)
        self._start_waiting()

    def _linger(self) -> None:
        """The client is still sending: closing now would reset the connection and take the answer with it."""
        self.last = True
        self._linger_until = self.now() + LINGER
        while self._pauses:
            self.resume_reading()

    def close(self) -> None:
        """After what was written."""
        if not self.over:
            self.flush()
            self.over = True
            self.transport.close()
            self._gone()

    def abort(self) -> None:
        if not self.over:
            self.over = True
            self._out.clear()
            end_with_reset(self.transport)
            self.transport.abort()
            self._gone()

    def shut(self, reason: Reason, detail: str) -> None:
        """Refuse the request at hand, or cut it where its answer has begun, and close."""
        self.last = True
        if self.exchange is None:
            self.close()
        else:
            self.exchange.refuse(reason, detail)

    def _gone(self) -> None:
        self.over = True
        self._queue.clear()
        self.node.connections.discard(self)

    def drain(self) -> None:
        """Take no further request; the one that is being answered is finished."""
        if self.exchange is None:
            self.close()

    def sweep(self, now: float) -> None:
        """End what takes too long. `now`: loop time."""
        limits = self.port.limits
        if self._linger_until <= now:
            self.close()
        elif self._write_paused_since is not None and now - self._write_paused_since > limits.body_timeout:
            log.info("port %s: %s does not read its answer: closing", self.port.name, self.peer)
            self.abort()
        elif self.exchange is None:
            if self._parser.in_head:
                if now - self._since > limits.header_timeout:
                    self.last = True
                    with self.node.cork:
                        self._refuse_outright(
                            _malformed_head(limits),
                            MessageError("the header section stopped arriving", GatewayReason.REQUEST_TIMEOUT),
                        )
            elif now - self._since > limits.idle_timeout:
                self.close()


class _Queued:
    """A pipelined request that waits for the one before it. At most one read's worth of bytes is kept."""

    __slots__ = ("begun_well", "data", "ended", "error", "head", "trace_id", "trailers")

    def __init__(self, head: Head, error: MessageError | None = None, trace_id: str = "") -> None:
        self.head, self.error, self.trace_id = head, error, trace_id
        self.begun_well = error is None
        self.data: list[bytes] = []
        self.trailers: Fields = []
        self.ended = False

    def request_data(self, data: bytes) -> None:
        self.data.append(data)

    def request_end(self, trailers: Fields) -> None:
        self.ended, self.trailers = True, trailers


def _malformed_head(limits: Limits) -> Head:
    """Stands in for a head that could not be read, so that the refusal has something to answer to."""
    head = read_head("GET", b"/", "1.1", [(b"Host", b"unreadable"), (b"Connection", b"close")], limits)
    head.keep_alive = False
    return head
