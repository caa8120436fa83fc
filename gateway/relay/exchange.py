"""One request: decided, executed or handed on, answered. Exactly once, and never to somebody else.

An exchange stands between the connection that the request came on and the one that it goes on by. Everything
is done in the callbacks of those two; there is no task and no queue of its own.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from gateway.core import headers
from gateway.core.decision import Decision, Outcome, PasswordVerdict
from gateway.core.errors import NotSent
from gateway.core.headers import Fields
from gateway.core.reasons import REASONS, GatewayReason, Reason
from gateway.core.snapshot import API, Endpoint, Service
from gateway.relay import builtin, onward, replies
from gateway.relay.heads import Head
from gateway.relay.problems import problem
from gateway.relay.response_parser import Answer
from gateway.relay.upstream import BackendPool, Upstream
from gateway.relay.writing import CONTINUE, SWITCH, answer_head, chunk, last_chunk, random_digits, trace_line
from identity.core.assertions import AssertionInvalid
from identity.core.trace import Step, Words, words

if TYPE_CHECKING:
    from gateway.relay.connection import ServerConnection
    from gateway.relay.prepared import Prepared
    from gateway.relay.tunnel import Tunnel

log = logging.getLogger(__name__)

HOLD_BYTES = 16 * 1024  # of a body that is still coming which are kept before the request goes on
HOLD_SECONDS = 1.0  # for which it is kept at most: what comes in drops may be meant to
FOREVER = float("inf")
NEVER_WRITTEN = (b"", 0.0)
KEEP_ALIVE = b"Connection: keep-alive\r\n"
_trace_ids, _parent_ids = random_digits(32), random_digits(16)


class Exchange:
    """`connection` owns it from the request's head to the answer's end.

    Attributes:
        received, sent: bytes of the request's body and of the answer's, so far.
        request_ended: whether all of the request has come from the client.
        started: seconds of `perf_counter` when its head had come.
        deadline: loop time at which whatever is awaited has taken too long, seconds.
        lanes: what the far side told of its own decision, for a test.
    """

    __slots__ = (
        "_answer_timeout", "_cancel_wait", "_chunked_answer", "_endpoint", "_pending", "_prepared", "_request_paused",
        "_trailers", "answered", "connection", "deadline", "decision", "done", "head", "lanes", "link", "reason",
        "received", "request_ended", "sent", "started", "status", "trace_id", "upstream",
    )  # fmt: skip

    def __init__(
        self, connection: "ServerConnection", head: Head, trace_id: str = "", body: bytes | None = None
    ) -> None:
        """`trace_id`: "" takes it from the head, or makes one. `body`: all of it, where all of it has come."""
        self.connection, self.head, self.trace_id = connection, head, trace_id
        self.upstream: Upstream | builtin.Builtin | None = None
        self.decision: Decision | None = None
        self.deadline = FOREVER
        self.started = perf_counter()
        self.link = ""
        self.status = 0
        self.reason: Reason | None = None
        self.answered = self.done = False
        self.lanes: list[dict[str, Any]] = []
        self.request_ended = body is not None or head.length == 0
        self._pending: list[bytes] = [body] if body else []  # body that came before there was somewhere to send it
        self._trailers: Fields = []
        self.received = len(body) if body else 0
        self.sent = 0
        self._request_paused = False
        self._chunked_answer = False
        self._cancel_wait: Callable[[], None] | None = None
        self._answer_timeout = FOREVER  # seconds from the request's end to the answer's first byte
        self._endpoint: Endpoint | None = None
        self._prepared: Prepared | None = None
        if trace_id:
            return
        if head.traceparent:
            self._take_trace_id(head.traceparent)
        else:
            self.trace_id = next(_trace_ids)

    # --- deciding ---

    def hold(self) -> bool:
        """Whether the request is to wait for more of its body before it is begun; it is let go after a while."""
        head, limit = self.head, self.connection.port.limits.body_bytes
        if self.request_ended or head.expects or head.switches or self.received >= HOLD_BYTES:
            return False
        if self.connection.crowded or (limit and head.length is not None and head.length > limit):
            return False  # that is known already
        if self.deadline == FOREVER:
            self.deadline = self.connection.now() + HOLD_SECONDS
        return True

    def begin(self) -> None:
        self.deadline = FOREVER
        connection, head = self.connection, self.head
        limits = connection.port.limits
        if head.length and limits.body_bytes and head.length > limits.body_bytes:
            return self.refuse(GatewayReason.BODY_TOO_LARGE, f"Content-Length {head.length}")
        if connection.crowded:
            connection.last = True
            return self.refuse(GatewayReason.OVERLOADED, "too many connections")
        if head.switches:  # what follows the answer is not for this request's parser
            self._pause_request()
        if len(connection.node.exchanges) > limits.requests:
            return self.refuse(GatewayReason.OVERLOADED, "too many requests in flight")
        prepared = connection.recall(head) if head.known_by else None
        if prepared is None:
            decision = connection.decide(head)
            if head.known_by:
                prepared = connection.prepare(head, decision)
            self._prepared = prepared
        else:
            decision = self.decision = prepared.decision
            self._prepared = prepared
            if prepared.pool is not None and self._goes_as_before(prepared):
                return None
        self._decided(decision)
        return None

    def _goes_as_before(self, prepared: "Prepared") -> bool:
        """Send the request on as such a one went before; False where that takes more than sending."""
        upstream = prepared.pool.free(prepared.path)
        if upstream is None:
            return False
        written, until = prepared.written.get(upstream.party, NEVER_WRITTEN)
        if time() >= until:
            upstream.release()
            return False
        self._endpoint, self._answer_timeout = prepared.endpoint, prepared.answer_timeout
        self._start(upstream, written)
        return True

    def _take_trace_id(self, traceparent: bytes) -> None:
        """Always the edge's own: taken over on a tunnel and from trusted proxies alone."""
        came = headers.parse_traceparent(traceparent)
        if came and self.connection.believes_trace:
            self.trace_id = came[0]
        else:
            self.trace_id = next(_trace_ids)
            self.link = traceparent.decode("latin-1") if came else ""

    def _decided(self, decision: Decision) -> None:
        self.decision = decision
        if decision.identity is not None:
            self.connection.user = decision.identity.user
        outcome = decision.outcome
        if outcome is Outcome.PASS:
            self._pass_through(decision)
        elif outcome is Outcome.EXECUTE:
            self._execute(decision)
        elif outcome is Outcome.CALL:
            self._call(decision)
        elif outcome is Outcome.VERIFY:
            self._verify_password(decision)
        else:
            assert decision.reason is not None
            self.refuse(decision.reason, decision.detail)

    def _verify_password(self, decision: Decision) -> None:
        assert decision.user is not None
        node, user, password, address = self.connection.node, decision.user, decision.password, decision.caller
        known = node.passwords.known(user, password, address)
        if known is not PasswordVerdict.UNKNOWN:
            return self._decided(self.connection.decide(self.head, known))
        self.connection.pause_reading()
        if not node.passwords.check(user, password, address, self._verified):
            self.refuse(GatewayReason.OVERLOADED, "too many passwords are being checked")
        return None

    def _verified(self, verdict: PasswordVerdict) -> None:
        if self.done:
            return
        connection = self.connection
        with connection.node.cork:
            connection.resume_reading()
            # That took its time. By what came into force meanwhile the user may be blocked, or the password another.
            asks_anew = connection.catch_up()
            self._decided(connection.decide(self.head) if asks_anew else connection.decide(self.head, verdict))

    # --- going on ---

    def _pass_through(self, decision: Decision) -> None:
        self._to_tunnel(self.connection.port.registration_port, decision.path)

    def _execute(self, decision: Decision) -> None:
        service = decision.route
        assert isinstance(service, Service)
        if service.backend is None:
            self.upstream = stand_in = builtin.Builtin(service.builtin, self)
            stand_in.begin()
            self._start_body(stand_in)
            return
        self._answer_timeout = service.timeout
        self._to_backend(self.connection.node.backends.of_service(service))

    def _call(self, decision: Decision) -> None:
        api = decision.route
        assert isinstance(api, API)
        endpoint = self._endpoint = api.endpoint
        if endpoint.url.scheme == "reverse":
            self._to_tunnel(endpoint.url.host, onward.path_there(decision, endpoint))
        else:
            self._answer_timeout = endpoint.timeout
            self._to_backend(self.connection.node.backends.of_endpoint(endpoint))

    def _to_backend(self, pool: BackendPool) -> None:
        upstream = pool.free()
        if upstream is not None:
            self._got_backend(upstream)
        else:
            self._watch()
            self._cancel_wait = pool.connect(self._got_backend, self._not_sent)

    def _to_tunnel(self, registration_port: str, path: str) -> None:
        node = self.connection.node
        pool = node.tunnels.get(registration_port)
        if pool is None:
            return self.refuse(
                GatewayReason.NO_INTERNAL_CONNECTION, f"there is no registration port {registration_port}"
            )
        upstream = pool.free(path)
        if upstream is not None:
            self._got_tunnel(upstream)
            return None
        if not node.snapshot.carries(registration_port, path):  # waiting brings none that does
            return self.refuse(GatewayReason.NOT_ON_CHANNEL, f"no registration at {registration_port} carries {path}")
        waits, since = node.metrics.waits[self.connection.port.name], perf_counter()

        def got(tunnel: "Tunnel") -> None:
            waits.note(perf_counter() - since)
            self._got_tunnel(tunnel)

        def failed(error: NotSent) -> None:
            waits.note(perf_counter() - since)
            self._not_sent(error)

        self._cancel_wait = pool.wait(path, self.connection.port.wait, got, failed)
        if not self.request_ended:
            self._pause_request()
        return None

    def _not_sent(self, error: NotSent) -> None:
        self._cancel_wait = None
        if not self.done:
            with self.connection.node.cork:
                self.refuse(error.reason, error.words)

    def _got_tunnel(self, upstream: "Tunnel") -> None:
        self._cancel_wait = None
        if self.done:
            return upstream.release()
        if self._endpoint is not None:  # the internal node's own word, 504 or better, comes first
            self._answer_timeout = self._endpoint.timeout + 5.0
        decision = self.decision
        assert decision is not None
        try:
            written, until = onward.for_tunnel(self.connection, self.head, decision, self._endpoint, upstream.member)
        except AssertionInvalid as error:
            upstream.release()
            return self.refuse(GatewayReason.ENDPOINT_REFUSED, f"the statement cannot be signed: {error}")
        self._keep(upstream, written, until)
        return self._start(upstream, written)

    def _keep(self, upstream: Upstream, written: bytes, until: float) -> None:
        """Remember how the request goes on, for others with the same head."""
        prepared = self._prepared
        # A password may be another's tomorrow, and what was verified for one request is not for the next.
        if prepared is not None and prepared.decision is self.decision:
            prepared.pool, prepared.path = upstream.owner, onward.path_there(prepared.decision, self._endpoint)
            prepared.endpoint, prepared.answer_timeout = self._endpoint, self._answer_timeout
            prepared.keep(upstream.party, written, until)

    def _got_backend(self, upstream: Upstream) -> None:
        self._cancel_wait = None
        if self.done:
            return upstream.release()
        decision = self.decision
        assert decision is not None
        written, until = onward.for_backend(self.connection, self.head, decision, self._endpoint)
        self._keep(upstream, written, until)
        return self._start(upstream, written)

    def _start(self, upstream: Upstream, written: bytes) -> None:
        """Send the head, ended by the line that is this request's own, and what there is of the body."""
        self.upstream = upstream
        head = self.head
        message = written + trace_line(self.trace_id, next(_parent_ids))
        if head.switches:
            upstream.start(self, head.method, message, switches=True)
            self._watch()
        elif self.request_ended and head.length is not None:
            if self._pending:
                message += b"".join(self._pending)
                self._pending = []
            upstream.start_whole(self, head.method, message)
            self._watch()
            if self._request_paused:
                self._resume_request()
        else:
            upstream.start(self, head.method, message, chunked=head.length is None)
            self._start_body(upstream)

    def _start_body(self, upstream: "Upstream | builtin.Builtin") -> None:
        if self.head.expects and not self._pending and not self.request_ended:
            self.connection.write(CONTINUE)
        pending, self._pending = self._pending, []
        for data in pending:
            upstream.send(data)
        if self.request_ended:
            upstream.end(self._request_trailers())
        self._watch()
        self._resume_request()

    def _watch(self) -> None:
        """Set the deadline of what is awaited now: more of the request, or the answer."""
        if self.done or self.answered:
            self.deadline = FOREVER
        elif self.request_ended:
            timeout = self._answer_timeout
            self.deadline = FOREVER if timeout == FOREVER else self.connection.now() + timeout
        else:
            self.deadline = self.connection.now() + self.connection.port.limits.body_timeout

    # --- the request's body, from the connection ---

    def request_data(self, data: bytes) -> None:
        if self.done:
            return
        self.received += len(data)
        limit = self.connection.port.limits.body_bytes
        if limit and self.received > limit:
            self._drop_upstream()
            self.refuse(GatewayReason.BODY_TOO_LARGE, f"more than {limit} bytes")
        elif self.upstream is None:
            self._pending.append(data)
            if not self.connection.is_held(self):
                self._pause_request()
        else:
            self.upstream.send(data)
            self._watch()

    def request_end(self, trailers: Fields) -> None:
        if self.request_ended:
            return
        self.request_ended = True
        self._trailers = trailers
        if self.upstream is not None and not self.done:
            self.upstream.end(self._request_trailers())
            self._watch()

    def _request_trailers(self) -> Fields:
        """Those of the request's trailers that go on."""
        return [f for f in self._trailers if self._lets_through(f[0]) and headers.action(f[0]) is headers.Action.KEEP]

    def _lets_through(self, trailer: bytes) -> bool:
        """A tunnel carries trailers to the node that knows the service; a service takes those that it lists."""
        if self._through_tunnel:
            return True
        route = self.decision.route if self.decision is not None else None
        return isinstance(route, Service) and trailer.lower() in route.trailers

    def _pause_request(self) -> None:
        if not self._request_paused:
            self._request_paused = True
            self.connection.pause_reading()

    def _resume_request(self) -> None:
        if self._request_paused:
            self._request_paused = False
            self.connection.resume_reading()

    # --- the answer, from the upstream ---

    def response_head(self, status: int, fields: Fields, length: int | None) -> None:
        if self.done:
            return
        inner = None
        if self._through_tunnel:
            inner = replies.reason(fields)
            if self.connection.tracing:
                self.lanes = replies.lanes(fields, self.trace_id)
        if replies.is_endpoints_fault(self._endpoint, status, inner):
            why = inner.value if inner else f"status {status}"
            upstream, self.upstream = self.upstream, None
            if isinstance(upstream, Upstream):
                upstream.discard(reusable=self.request_ended)
            self.refuse(GatewayReason.ENDPOINT_REFUSED, f"endpoint {self._endpoint_name}: {why}")
            return
        self.reason = inner
        if replies.is_about_caller(self._endpoint, inner):  # he is let go
            self.connection.last = True
        self.deadline = FOREVER
        kept = [(name, value) for name, value in fields if headers.response_keeps(name)]
        self.answer(status, kept, length)

    @property
    def _endpoint_name(self) -> str:
        return self._endpoint.name if self._endpoint else ""

    @property
    def _far_side(self) -> str:
        """What is waited for, in words."""
        if self._through_tunnel:
            port = self.connection.port.registration_port if self._endpoint is None else self._endpoint.url.host
            return f"a tunnel at {port}"
        if self._endpoint is not None:
            return f"endpoint {self._endpoint.name}"
        route = self.decision.route if self.decision is not None else None
        return f"backend of service {route.name}" if route is not None else "nobody"

    @property
    def _through_tunnel(self) -> bool:
        endpoint = self._endpoint
        if endpoint is not None:
            return endpoint.url.scheme == "reverse"
        return self.decision is not None and self.decision.outcome is Outcome.PASS

    def response(self, answer: Answer, body: bytes) -> None:
        """An answer that came whole, its head known from before."""
        connection, head = self.connection, self.head
        if (
            self.done
            or not self.request_ended
            or self._endpoint is not None
            or connection.tracing
            or head.method == "HEAD"
            or answer.status == 403
            or not connection.keeps_alive(self)
        ):
            self.response_head(answer.status, answer.fields, answer.length)
            self.response_data(body)
            self.response_end([])
            return
        if answer.status >= 400 and self._through_tunnel:
            self.reason = replies.reason(answer.fields)
        self.status, self.answered = answer.status, True
        self.deadline = FOREVER
        written = answer.written.get(head.version)
        if written is None:
            kept = [(name, value) for name, value in answer.fields if headers.response_keeps(name)]
            more = KEEP_ALIVE if head.version == "1.0" else b""
            written = answer.written[head.version] = answer_head(answer.status, kept, answer.length, more=more)
        self.sent = len(body)
        connection.write_whole(written + body if body else written)
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.release()
        self._finish()

    def response_data(self, data: bytes) -> None:
        if not self.done:
            self.sent += len(data)
            self.connection.write(chunk(data) if self._chunked_answer else data)

    def response_end(self, trailers: Fields) -> None:
        upstream = self.upstream
        if self.done:
            return
        if self._chunked_answer:
            kept = [f for f in trailers if self._lets_through(f[0]) and headers.response_keeps(f[0])]
            self.connection.write(last_chunk(kept))
        self.upstream = None
        if upstream is not None:
            if self.request_ended:
                upstream.release()
            else:  # it answered before it had the whole request: what is left of it goes nowhere
                upstream.close()
        self._finish()

    # --- another protocol, on both sides the same bytes ---

    def switched(self, fields: Fields, rest: bytes) -> None:
        """The far side speaks the protocol that was asked for; from here on bytes are handed over as they come."""
        upstream, connection = self.upstream, self.connection
        if self.done or upstream is None:
            return
        if not any(name.lower() == b"upgrade" and value.strip().lower() == b"websocket" for name, value in fields):
            self._drop_upstream()
            self.refuse(GatewayReason.BACKEND_PROTOCOL_ERROR, "it switched to another protocol than was asked for")
            return
        self.status, self.answered, self.deadline = 101, True, FOREVER
        connection.last = connection.switched = True
        kept = [(name, value) for name, value in fields if headers.response_keeps(name)]
        connection.write_whole(answer_head(101, kept, None, more=SWITCH) + rest)
        self._resume_request()

    def switched_data(self, data: bytes) -> None:
        if isinstance(self.upstream, Upstream):
            self.upstream.transport.write(data)

    def far_side_ended(self) -> None:
        """After a switch: the end of one side is the end of both, after what was written."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()
        self._finish()
        self.connection.close()

    def answer(self, status: int, fields: Fields, length: int | None, *, ours: bool = False) -> None:
        """Write an answer's head; `response_data` and `response_end` follow. `length` None: not known."""
        connection, head = self.connection, self.head
        self.status, self.answered = status, True
        close = not connection.keeps_alive(self)
        if length is None and head.method != "HEAD" and status not in (204, 304):
            if head.version == "1.1":
                self._chunked_answer = True
            else:
                close = True
        more = b""
        if close:
            connection.last = True
            more = b"Connection: close\r\n"
        elif head.version == "1.0":
            more = KEEP_ALIVE
        if ours:
            more += connection.node.date_line()
        more += connection.trace_line(self)
        connection.write(answer_head(status, fields, length, chunked=self._chunked_answer, more=more))

    # --- refusing ---

    def refuse(self, reason: Reason, detail: Words = "") -> None:
        """Answer with a problem document (RFC 9457), if nothing was answered yet."""
        if self.done:
            return None
        if self.answered:
            return self._cut(reason, detail)
        info = REASONS[reason]
        self._failed(reason, detail)
        decision, connection = self.decision, self.connection
        allow = decision.allow if decision is not None else ()
        fields, body = problem(connection.port, reason, detail, self.trace_id, allow)
        self._drop_upstream()
        self.answer(info.status, fields, len(body), ours=True)
        if self.head.method != "HEAD":
            self.sent = len(body)
            connection.write(body)
        return self._finish()

    def _failed(self, reason: Reason, detail: Words) -> None:
        self.reason = reason
        decision = self.decision
        if decision is not None and decision.reason is not reason:
            self.decision = _with_failure(decision, reason, detail)

    def _cut(self, reason: Reason, why: Words) -> None:
        """The answer has begun and cannot be ended: the connection is cut, so that nobody takes it for whole."""
        log.info("trace %s: answer cut: %s", self.trace_id, words(why))
        self._failed(reason, why)
        self._drop_upstream()
        self.done = True
        self.connection.abort()  # first: one that is done with ends its connection as if all were well
        self.connection.exchange_done(self)

    def upstream_lost(self, why: str) -> None:
        """The connection that the request went on by is gone."""
        self.upstream = None
        if self.done:
            return
        reason = GatewayReason.TUNNEL_LOST if self._through_tunnel else GatewayReason.BACKEND_PROTOCOL_ERROR
        with self.connection.node.cork:
            self.refuse(reason, why)

    def overdue(self, clock: float) -> bool:
        """Whether it has taken longer than the port allows in all. `clock`: as `started`, of `perf_counter`."""
        limit = self.connection.port.limits.total_timeout
        return limit > 0 and clock - self.started > limit and not self.connection.switched

    def timed_out(self) -> None:
        """The client has not gone on sending, or the far side has not answered, or all of it takes too long."""
        self.deadline = FOREVER
        if self.connection.is_held(self):
            return self.connection.let_go(self)
        with self.connection.node.cork:
            self._drop_upstream()
            if not self.request_ended and not self.connection.reading_paused:
                self.refuse(GatewayReason.REQUEST_TIMEOUT, "the body stopped arriving")
            else:
                self.refuse(GatewayReason.BACKEND_TIMEOUT, f"no answer in time from {self._far_side}")
        return None

    def client_lost(self) -> None:
        """Nobody is there to be answered: what is on its way is given up."""
        if not self.done:
            if self.connection.switched and self.upstream is not None:
                upstream, self.upstream = self.upstream, None
                upstream.close()
            if not self.connection.switched:  # whose end is an end like any other
                self.status = self.status or REASONS[GatewayReason.CLIENT_GONE].status
                self._failed(GatewayReason.CLIENT_GONE, "the connection ended before the answer was whole")
            self._drop_upstream()
            self.done = True
            self.connection.exchange_done(self)

    def _drop_upstream(self) -> None:
        if self._cancel_wait is not None:
            cancel, self._cancel_wait = self._cancel_wait, None
            cancel()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()

    def _finish(self) -> None:
        if self._request_paused:
            self._resume_request()
        self.done = True
        self.connection.exchange_done(self)

    # --- flow control: the slow side stalls the fast one, and nobody else ---

    def downstream_paused(self) -> None:
        if isinstance(self.upstream, Upstream):
            self.upstream.transport.pause_reading()
        elif self.upstream is not None:
            self.connection.pause_reading()

    def downstream_resumed(self) -> None:
        if isinstance(self.upstream, Upstream):
            self.upstream.transport.resume_reading()
        elif self.upstream is not None:
            self.connection.resume_reading()


def _with_failure(decision: Decision, reason: Reason, detail: Words) -> Decision:
    """A copy, for decisions are remembered: what came of the request after it was decided."""
    step = Step("execution", False, reason.value, detail)
    return replace(decision, outcome=Outcome.REFUSE, reason=reason, steps=[*decision.steps, step])
