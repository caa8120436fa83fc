"""One request: decided, executed or handed on, answered. Exactly once, and never to somebody else.

An exchange stands between the connection that the request came on and the one that it goes on by. Everything
is done in the callbacks of those two; there is no task and no queue of its own.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from gateway.core import headers, paths
from gateway.core.decision import CredentialKind, Decision, Identity, Outcome, PasswordVerdict, is_basic
from gateway.core.errors import NotSent
from gateway.core.headers import Fields
from gateway.core.reasons import BY_CODE, REASONS, GatewayReason, Reason
from gateway.core.snapshot import API, Endpoint, EndpointIdentity, PortType, Service
from gateway.relay import builtin
from gateway.relay.heads import Head
from gateway.relay.response_parser import Answer
from gateway.relay.upstream import BackendPool, Upstream
from gateway.relay.writing import (
    CONTINUE,
    SWITCH,
    chunk,
    last_chunk,
    random_digits,
    request_line,
    status_line,
    trace_line,
    write_fields,
)
from identity.core.assertions import AssertionInvalid, Proof
from identity.core.certificates import Certificate
from identity.core.reasons import IdentityReason
from identity.core.trace import Step, Words, words

if TYPE_CHECKING:
    from gateway.relay.connection import ServerConnection
    from gateway.relay.prepared import Prepared
    from gateway.relay.tunnel import Member, Tunnel

log = logging.getLogger(__name__)

RETRY_AFTER = b"1"  # seconds
HOLD_BYTES = 16 * 1024  # of a body that is still coming which are kept before the request goes on
HOLD_SECONDS = 1.0  # for which it is kept at most: what comes in drops may be meant to
MAX_TRACE = 16 * 1024  # bytes of a trace that comes back through a tunnel
# Refusals that are about who asked; behind an endpoint with an identity of its own the gateway is to blame.
IDENTITY_REFUSALS = frozenset(IdentityReason)
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
        self._to_backend(self.connection.node.backend(service))

    def _call(self, decision: Decision) -> None:
        api = decision.route
        assert isinstance(api, API)
        endpoint = self._endpoint = api.endpoint
        if endpoint.url.scheme == "reverse":
            self._to_tunnel(endpoint.url.host, self._path_there())
        else:
            self._answer_timeout = endpoint.timeout
            self._to_backend(self.connection.node.endpoint(endpoint))

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

    def _target(self) -> str:
        decision, path = self.decision, self._path_there()
        assert decision is not None
        return path if decision.query is None else f"{path}?{decision.query}"

    def _path_there(self) -> str:
        """The path by which the request goes on."""
        decision, endpoint = self.decision, self._endpoint
        assert decision is not None
        route = decision.route
        if endpoint is not None:
            assert isinstance(route, API)
            return paths.rebase(decision.path, route.path, endpoint.url.base)
        if isinstance(route, Service) and route.backend is not None:
            return paths.rebase(decision.path, route.path, route.backend.base)
        return decision.path

    def _got_tunnel(self, upstream: "Tunnel") -> None:
        self._cancel_wait = None
        if self.done:
            return upstream.release()
        if self._endpoint is not None:  # the internal node's own word, 504 or better, comes first
            self._answer_timeout = self._endpoint.timeout + 5.0
        try:
            written, until = self._write_for_tunnel(upstream.member)
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
            prepared.pool, prepared.path = upstream.owner, self._path_there()
            prepared.endpoint, prepared.answer_timeout = self._endpoint, self._answer_timeout
            prepared.keep(upstream.party, written, until)

    def _write_for_tunnel(self, member: "Member") -> tuple[bytes, float]:
        """The head for a tunnel but for its last line, and until when (seconds since 1970-01-01 UTC) it is good.

        Raises AssertionInvalid.
        """
        head, decision, connection = self.head, self.decision, self.connection
        assert decision is not None
        identity, authorization, until = self._identity_on_tunnel(member, decision)
        lines = [
            request_line(head.method, self._target()),
            b"Host: %b\r\n" % (head.host or b"localhost"),
            write_fields(head.fields),
            b"Postern-Peer: %b\r\n" % decision.caller.encode(),
            identity,
        ]
        if authorization:
            lines.append(b"Authorization: %b\r\n" % authorization)
        if connection.tracing:
            lines.append(b"Postern-Trace: 1\r\n")
        lines.append(self._framing())
        return b"".join(lines), until

    def _identity_on_tunnel(self, member: "Member", decision: Decision) -> tuple[bytes, bytes | None, float]:
        """Header lines that say who, the Authorization value that goes along, and until when both are good.

        Raises AssertionInvalid.
        """
        connection, head, endpoint = self.connection, self.head, self._endpoint
        kind = EndpointIdentity.CALLER if endpoint is None else endpoint.identity
        if kind is EndpointIdentity.CALLER:
            authorization = head.authorization
            if endpoint is None:
                # What is not Basic is no credential here, and the application's own business.
                if authorization and is_basic(authorization.decode("latin-1")) and not connection.port.accept_basic:
                    authorization = None
            elif decision.credential is not CredentialKind.BASIC:
                authorization = None
            if decision.credential is not CredentialKind.CERTIFICATE or connection.certificate is None:
                return b"", authorization, FOREVER
            key = connection.node.key_of_port(member.registration.port)
            proof = connection.proof or Proof.TLS
            # Verified issuers alone; the root itself the far side has, or it does not believe the chain anyway.
            above = tuple(link for link in decision.chain if not link.self_issued)
            lines, until = member.statement(connection.certificate, above, proof, key)
            return lines, authorization, until
        assert endpoint is not None
        if kind is EndpointIdentity.CERTIFICATE:
            assert endpoint.keystore is not None
            leaf, issuers = endpoint.keystore.chain[0], endpoint.keystore.chain[1:]
            lines, until = member.statement(leaf, issuers, Proof.KEY, connection.node.key_of(endpoint.keystore))
            return lines, None, until
        if kind is EndpointIdentity.BASIC:
            return b"", builtin.basic(endpoint.username, endpoint.password), FOREVER
        return b"", None, FOREVER

    def _got_backend(self, upstream: Upstream) -> None:
        self._cancel_wait = None
        if self.done:
            return upstream.release()
        written, until = self._write_for_backend()
        self._keep(upstream, written, until)
        return self._start(upstream, written)

    def _write_for_backend(self) -> tuple[bytes, float]:
        """The head for a backend or an https endpoint, as `_write_for_tunnel` has it."""
        head, decision, connection, endpoint = self.head, self.decision, self.connection, self._endpoint
        assert decision is not None
        until = FOREVER
        url = endpoint.url if endpoint else decision.route.backend  # type: ignore[union-attr]
        lines = [
            request_line(head.method, self._target()),
            b"Host: %b\r\n" % url.authority.encode(),  # type: ignore[union-attr]
            write_fields(head.fields),
        ]
        forwarded = headers.forwarded(decision.caller, head.host.decode("latin-1"), connection.secure)
        if connection.believes_forwarding and head.forwarding:
            lines.append(write_fields(f for f in head.forwarding if f[0].lower() != b"forwarded"))
            before = [value for name, value in head.forwarding if name.lower() == b"forwarded"]
            forwarded = b", ".join([*before, forwarded])
        lines.append(b"Forwarded: %b\r\n" % forwarded)
        authorization = None
        if endpoint is not None:
            if endpoint.identity is EndpointIdentity.BASIC:
                authorization = builtin.basic(endpoint.username, endpoint.password)
            elif endpoint.forward_authorization:
                authorization = head.authorization
        else:
            service = decision.route
            assert isinstance(service, Service)
            if service.identity_headers and decision.identity is not None:
                fields, until = self._identity_fields(service, decision.identity)
                lines.append(fields)
            if service.forward_authorization:
                authorization = head.authorization
        if authorization:
            lines.append(b"Authorization: %b\r\n" % authorization)
        lines.append(self._framing())
        return b"".join(lines), until

    def _identity_fields(self, service: Service, identity: Identity) -> tuple[bytes, float]:
        """Whom the request runs as, in the forms that the service asks for, and until when that is good.

        Nothing for `Default`.
        """
        until = FOREVER
        if identity.anonymous:
            return b"", until
        lines: list[bytes] = []
        certificate = identity.certificate
        node = self.connection.node
        for form in service.identity_headers:
            if form == "client-cert" and certificate is not None:
                lines.append(b"Client-Cert: %b\r\n" % headers.client_cert(certificate))
            elif form == "xfcc" and certificate is not None:
                lines.append(b"X-Forwarded-Client-Cert: %b\r\n" % _xfcc(certificate))
            elif form == "user":
                groups = ",".join(sorted(identity.groups))
                lines.append(f"X-Forwarded-User: {identity.user}\r\nX-Forwarded-Groups: {groups}\r\n".encode())
            elif form == "jwt" and node.snapshot.token is not None:
                token, until = node.identity_token(identity)
                lines.append(b"Postern-Identity: %b\r\n" % token)
        return b"".join(lines), until

    def _framing(self) -> bytes:
        if self.head.switches:
            return SWITCH
        length = self.head.length
        if length is None:
            return b"Transfer-Encoding: chunked\r\n"
        if length == 0 and self.head.method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return b""
        return b"Content-Length: %d\r\n" % length

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
            inner = _inner_reason(fields)
            if self.connection.tracing:
                self._take_lanes(fields)
        if self._is_endpoints_fault(status, inner):
            why = inner.value if inner else f"status {status}"
            upstream, self.upstream = self.upstream, None
            if isinstance(upstream, Upstream):
                upstream.discard(reusable=self.request_ended)
            self.refuse(GatewayReason.ENDPOINT_REFUSED, f"endpoint {self._endpoint_name}: {why}")
            return
        self.reason = inner
        self._heed(inner)
        self.deadline = FOREVER
        kept = [(name, value) for name, value in fields if headers.response_keeps(name)]
        self.answer(status, kept, length)

    def _is_endpoints_fault(self, status: int, inner: Reason | None) -> bool:
        """Whether the far side refused an identity that the endpoint gave, and not the caller's."""
        endpoint = self._endpoint
        if endpoint is None or endpoint.identity is EndpointIdentity.CALLER or status not in (401, 403):
            return False
        return inner in IDENTITY_REFUSALS or not self._through_tunnel

    def _heed(self, inner: Reason | None) -> None:
        """A caller whose user the far side has found disabled is let go; this node may not know whom he means."""
        endpoint = self._endpoint
        if inner is IdentityReason.USER_DISABLED and (endpoint is None or endpoint.identity is EndpointIdentity.CALLER):
            self.connection.last = True

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

    def _take_lanes(self, fields: Fields) -> None:
        for name, value in fields:
            if name.lower() == b"postern-trace" and len(value) <= MAX_TRACE:
                try:
                    self.lanes = builtin.decode_lanes(value)
                except ValueError:
                    log.warning("trace %s: the far side's trace cannot be read", self.trace_id)

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
            self.reason = _inner_reason(answer.fields)
        self.status, self.answered = answer.status, True
        self.deadline = FOREVER
        written = answer.written.get(head.version)
        if written is None:
            kept = [(name, value) for name, value in answer.fields if headers.response_keeps(name)]
            more = KEEP_ALIVE if head.version == "1.0" else b""
            written = answer.written[head.version] = self._answer_head(answer.status, kept, answer.length, more)
        self.sent = len(body)
        connection.send(written + body if body else written)
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
        connection.send(self._answer_head(101, kept, None, SWITCH) + rest)
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
        connection.write(self._answer_head(status, fields, length, more))

    def _answer_head(self, status: int, fields: Fields, length: int | None, more: bytes = b"") -> bytes:
        lines = [status_line(status), write_fields(fields)]
        if self._chunked_answer:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif length is not None and status != 204:
            lines.append(b"Content-Length: %d\r\n" % length)
        lines += (more, b"\r\n")
        return b"".join(lines)

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
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": info.title,
            "status": info.status,
            "reason": reason.value,
            "trace_id": self.trace_id,
        }
        if connection.port.explain and detail:
            document["detail"] = words(detail)
        body = json.dumps(document).encode()
        fields: Fields = [(b"Content-Type", b"application/problem+json"), (b"Cache-Control", b"no-store")]
        if info.status == 401:
            challenge = (
                b'Basic realm="gateway", charset="UTF-8"'
                if connection.port.accept_basic
                else b'Certificate realm="gateway"'
            )
            fields.append((b"WWW-Authenticate", challenge))
        elif info.status == 503:
            fields.append((b"Retry-After", RETRY_AFTER))
        elif info.status == 405 and decision is not None:
            fields.append((b"Allow", ", ".join(sorted(decision.allow)).encode()))
        if connection.port.type is PortType.INTERNAL:
            fields.append((b"Postern-Reason", reason.value.encode()))
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


def _inner_reason(fields: Fields) -> Reason | None:
    """Why the far side of a tunnel refused; None where it did not."""
    for name, value in fields:
        if name.lower() == b"postern-reason":
            return BY_CODE.get(value.decode("latin-1"))
    return None


_xfccs: dict[str, bytes] = {}


def _xfcc(certificate: Certificate) -> bytes:
    known = _xfccs.get(certificate.sha256)
    if known is None:
        if len(_xfccs) >= 4096:
            _xfccs.clear()
        known = _xfccs[certificate.sha256] = headers.xfcc(certificate)
    return known
