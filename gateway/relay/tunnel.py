"""The edge's end of registered tunnels: who is registered at a registration port, and which tunnel is free.

On a tunnel the edge is the HTTP client and the internal node the server, one request at a time.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.core.errors import NotSent
from gateway.core.headers import client_cert, client_cert_chain
from gateway.core.reasons import GatewayReason
from gateway.core.snapshot import Registration
from gateway.relay.cork import Cork
from gateway.relay.upstream import Unheard, Upstream
from identity.core import assertions
from identity.core.assertions import Claims, Proof
from identity.core.certificates import Certificate

log = logging.getLogger(__name__)

PING_SECONDS = 2.0  # an idle tunnel is pinged this often
PING_TIMEOUT = 2.0  # seconds within which a ping is answered
PING = b"OPTIONS * HTTP/1.1\r\nHost: tunnel\r\n\r\n"
_STATEMENTS = 4096  # kept per member


class Member:
    """One internal node's presence at a registration port: the tunnels of one registration and one nonce.

    Attributes:
        clock: seconds to add to this node's wall clock to get the internal node's.
    """

    def __init__(self, registration: Registration, nonce: str, clock: float, peer: str) -> None:
        self.registration, self.nonce, self.clock, self.peer = registration, nonce, clock, peer
        self.audience = assertions.audience(registration.name, nonce)
        self.idle: deque[Upstream] = deque()
        self.tunnels: set[Upstream] = set()
        self.last_seen = time.time()
        self._statements: dict[tuple[str, tuple[str, ...], Proof, int], tuple[bytes, float]] = {}

    @property
    def busy(self) -> int:
        return len(self.tunnels) - len(self.idle)

    def statement(self, certificate: Certificate, chain: tuple[Certificate, ...], proof: Proof, key: Any) -> bytes:
        """The header lines that say who the caller is, with a token good for this registration alone.

        Made once for each credential and reused until half of the token's life is gone.
        Raises AssertionInvalid for a key that signs nothing here.
        """
        index = certificate.sha256, tuple(above.sha256 for above in chain), proof, id(key)
        known = self._statements.get(index)
        now = time.time() + self.clock
        if known is not None and now < known[1]:
            return known[0]
        claims = Claims(
            self.registration.port,
            self.audience,
            certificate.sha256,
            proof,
            int(now),
            int(now) + assertions.MAX_LIFETIME,
        )
        token = assertions.sign(claims, key)
        lines = b"Postern-Assertion: %b\r\nClient-Cert: %b\r\n" % (token, client_cert(certificate))
        if chain:
            lines += b"Client-Cert-Chain: %b\r\n" % client_cert_chain(chain)
        if len(self._statements) >= _STATEMENTS:
            self._statements.clear()
        self._statements[index] = lines, now + assertions.MAX_LIFETIME / 2
        return lines


class _Ping(Unheard):
    """Uses a tunnel while it is pinged."""

    def __init__(self, pool: "TunnelPool", upstream: Upstream) -> None:
        super().__init__(upstream)
        self._pool = pool

    def response_end(self) -> None:
        self._pool.answered(self._upstream)


class _Waiter:
    __slots__ = ("deadline", "failed", "got", "path")

    def __init__(self, path: str, deadline: float, got: Callable[[Upstream], None], failed: Callable[[NotSent], None]):
        self.path, self.deadline, self.got, self.failed = path, deadline, got, failed


class TunnelPool:
    """The tunnels registered at one registration port."""

    def __init__(self, port: str, cork: Cork) -> None:
        self.port, self._cork = port, cork
        self.members: dict[tuple[str, str], Member] = {}
        self._member_of: dict[Upstream, Member] = {}
        self._waiters: deque[_Waiter] = deque()
        self._pings: dict[Upstream, float] = {}
        self._gone: dict[Upstream, Callable[[], None]] = {}

    # --- registering ---

    def register(
        self,
        registration: Registration,
        nonce: str,
        clock: float,
        transport: Any,
        peer: str,
        gone: Callable[[], None],
    ) -> Upstream:
        """A tunnel that a node dialled; it is free at once. `gone` is called when it ends."""
        member = self.members.get((registration.name, nonce))
        if member is None:
            member = self.members[registration.name, nonce] = Member(registration, nonce, clock, peer)
            log.info("registration %s: %s registered at %s", registration.name, peer, self.port)
        member.clock = clock
        upstream = Upstream(transport, self, self._cork)
        member.tunnels.add(upstream)
        self._member_of[upstream] = member
        self._gone[upstream] = gone
        self.released(upstream)
        return upstream

    def member(self, upstream: Upstream) -> Member:
        return self._member_of[upstream]

    def keep_only(self, registrations: dict[str, Registration]) -> None:
        """Close the tunnels of every registration that is not the very one that it was."""
        for member in list(self.members.values()):
            registration = registrations.get(member.registration.name)
            if registration is not member.registration or not registration.enabled:
                log.info(
                    "registration %s was changed: closing %d tunnels", member.registration.name, len(member.tunnels)
                )
                for upstream in list(member.tunnels):
                    self._end(upstream, "the registration was changed or blocked")

    def _end(self, upstream: Upstream, words: str) -> None:
        exchange = upstream.exchange
        upstream.abort()
        if exchange is not None:
            exchange.upstream_lost(words)

    # --- using ---

    def acquire(
        self, path: str, wait: float, got: Callable[[Upstream], None], failed: Callable[[NotSent], None]
    ) -> Callable[[], None]:
        """Call `got` with a free tunnel that may carry `path`, now or within `wait` seconds, else `failed`.

        Returns what cancels the wait.
        """
        upstream = self._free(path)
        if upstream is not None:
            got(upstream)
            return _nothing
        waiter = _Waiter(path, asyncio.get_running_loop().time() + wait, got, failed)
        self._waiters.append(waiter)
        return lambda: self._forget(waiter)

    def _free(self, path: str) -> Upstream | None:
        """Of the members that may carry `path`, the one with least in flight."""
        best: Member | None = None
        for member in self.members.values():
            if member.idle and (best is None or member.busy < best.busy) and member.registration.carries(path):
                best = member
        if best is None:
            return None
        idle = best.idle
        while idle:
            upstream = idle.pop()
            if upstream.usable:
                return upstream
        return self._free(path)

    def _forget(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:  # else it was served meanwhile
            self._waiters.remove(waiter)

    def released(self, upstream: Upstream) -> None:
        """Called for a new tunnel too."""
        member = self._member_of.get(upstream)
        if member is None:
            return
        member.last_seen = time.time()
        for waiter in self._waiters:
            if member.registration.carries(waiter.path):
                self._waiters.remove(waiter)
                waiter.got(upstream)
                return
        member.idle.append(upstream)

    def lost(self, upstream: Upstream) -> None:
        self._pings.pop(upstream, None)
        member = self._member_of.pop(upstream, None)
        if member is None:
            return
        self._gone.pop(upstream)()
        member.tunnels.discard(upstream)
        if upstream in member.idle:
            member.idle.remove(upstream)
        if not member.tunnels:
            self.members.pop((member.registration.name, member.nonce), None)
            log.info("registration %s: the last tunnel of %s is gone", member.registration.name, member.peer)

    # --- keeping ---

    def sweep(self, now: float) -> None:
        """Fail waits that are over, ping tunnels that are idle, end those that do not answer. `now`: loop time."""
        for waiter in [waiter for waiter in self._waiters if waiter.deadline <= now]:
            self._waiters.remove(waiter)
            waiter.failed(NotSent(GatewayReason.NO_INTERNAL_CONNECTION, self._why_none(waiter.path)))
        for upstream, since in list(self._pings.items()):
            if now - since > PING_TIMEOUT:
                log.warning("a tunnel at %s did not answer within %.0f s: closing it", self.port, PING_TIMEOUT)
                upstream.abort()
        for member in self.members.values():
            while member.idle and now - member.idle[0].used_at > PING_SECONDS:
                upstream = member.idle.popleft()
                self._pings[upstream] = now
                upstream.start(_Ping(self, upstream), "OPTIONS", PING)  # type: ignore[arg-type]

    def answered(self, upstream: Upstream) -> None:
        self._pings.pop(upstream, None)
        upstream.release()

    def _why_none(self, path: str) -> str:
        carrying = [member for member in self.members.values() if member.registration.carries(path)]
        if not self.members:
            return f"no internal node is registered at {self.port}"
        if not carrying:
            return f"no registration at {self.port} carries {path}"
        return f"all {sum(len(member.tunnels) for member in carrying)} tunnels at {self.port} are busy"

    def close(self) -> None:
        for upstream in list(self._member_of):
            self._end(upstream, "the node stops")

    def state(self) -> list[dict[str, Any]]:
        return [
            {
                "registration": member.registration.name,
                "port": self.port,
                "node": member.registration.node,
                "peer": member.peer,
                "idle": len(member.idle),
                "busy": member.busy,
                "last_seen": member.last_seen,
            }
            for member in self.members.values()
        ]


def _nothing() -> None:
    pass
