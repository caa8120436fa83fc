"""The edge's end of registered tunnels: who is registered at a registration port, and which tunnel is free.

On a tunnel the edge is the HTTP client and the internal node the server, one request at a time.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from gateway.core.errors import NotSent
from gateway.core.headers import Fields, client_cert, client_cert_chain
from gateway.core.reasons import GatewayReason
from gateway.core.snapshot import Registration
from gateway.relay.cork import Cork
from gateway.relay.heads import new_memo
from gateway.relay.memo import Memo
from gateway.relay.upstream import Unheard, Upstream
from identity.core import assertions
from identity.core.assertions import Claims, Proof
from identity.core.certificates import Certificate

log = logging.getLogger(__name__)

PING_SECONDS = 1.0  # an idle tunnel is pinged this often
DOUBT_SECONDS = 0.5  # a node that leaves a ping unanswered for so long is passed over, where there is another
PING_TIMEOUT = 2.0  # seconds within which a ping is answered, or the node is given up
PING = b"OPTIONS * HTTP/1.1\r\nHost: tunnel\r\n\r\n"
_DOUBTED = 1 << 20  # weighs more than all that can be in flight
_STATEMENTS = 4096  # kept per member


class Member:
    """One internal node's presence at a registration port: the tunnels of one registration and one nonce.

    Attributes:
        clock: seconds to add to this node's wall clock to get the internal node's.
        doubt: 0, or a weight that passes the node over for as long as it owes an answer to a ping.
    """

    def __init__(self, registration: Registration, nonce: str, clock: float, peer: str) -> None:
        self.registration, self.nonce, self.clock, self.peer = registration, nonce, clock, peer
        self.audience = assertions.audience(registration.name, nonce)
        self.idle: deque[Tunnel] = deque()
        self.tunnels: set[Tunnel] = set()
        self.doubt = 0
        self._statements: dict[tuple[str, tuple[str, ...], Proof, int], tuple[bytes, float]] = {}

    @property
    def busy(self) -> int:
        return len(self.tunnels) - len(self.idle)

    @property
    def load(self) -> int:
        """What the next request is given by: who has least gets it."""
        return len(self.tunnels) - len(self.idle) + self.doubt

    def statement(
        self, certificate: Certificate, chain: tuple[Certificate, ...], proof: Proof, key: Any
    ) -> tuple[bytes, float]:
        """The header lines that say who the caller is, with a token good for this registration alone.

        They may be used until the time that comes with them, in seconds since 1970-01-01 UTC by this node's clock.
        Made once for each credential and reused until half of the token's life is gone.
        Raises AssertionInvalid for a key that signs nothing here.
        """
        index = certificate.sha256, tuple(above.sha256 for above in chain), proof, id(key)
        known = self._statements.get(index)
        here = time.time()
        if known is not None and here < known[1]:
            return known
        now = here + self.clock
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
        known = self._statements[index] = lines, here + assertions.MAX_LIFETIME / 2
        return known


class Tunnel(Upstream):
    """One tunnel, seen from the edge. `gone` is called when it ends.

    `shown`: the certificate by which the node registered it, SHA-256 in hex.
    """

    __slots__ = ("gone", "member", "shown")

    def __init__(
        self,
        transport: Any,
        owner: "TunnelPool",
        cork: Cork,
        heads: Memo,
        member: Member,
        shown: str,
        gone: Callable[[], None],
    ) -> None:
        super().__init__(transport, owner, cork, heads)
        self.party = self.member = member
        self.shown, self.gone = shown, gone


class _Ping(Unheard):
    """Uses a tunnel while it is pinged."""

    def __init__(self, pool: "TunnelPool", tunnel: Tunnel) -> None:
        super().__init__(tunnel)
        self._pool, self._tunnel = pool, tunnel

    def response_end(self, trailers: Fields) -> None:
        self._pool.answered(self._tunnel)


class _Waiter:
    __slots__ = ("deadline", "failed", "got", "path")

    def __init__(self, path: str, deadline: float, got: Callable[[Tunnel], None], failed: Callable[[NotSent], None]):
        self.path, self.deadline, self.got, self.failed = path, deadline, got, failed


class TunnelPool:
    """The tunnels registered at one registration port."""

    def __init__(self, port: str, cork: Cork) -> None:
        self.port, self._cork = port, cork
        self.members: dict[tuple[str, str], Member] = {}
        self._left: dict[str, float] = {}  # registration → loop time at which its last tunnel went
        self._heads = new_memo()
        self._waiters: deque[_Waiter] = deque()
        self._pings: dict[Tunnel, float] = {}

    # --- registering ---

    def register(
        self,
        registration: Registration,
        nonce: str,
        clock: float,
        transport: Any,
        peer: str,
        shown: str,
        gone: Callable[[], None],
    ) -> Tunnel:
        """A tunnel that a node dialled; it is free at once. `gone` is called when it ends."""
        member = self.members.get((registration.name, nonce))
        if member is None:
            member = self.members[registration.name, nonce] = Member(registration, nonce, clock, peer)
            log.info("registration %s: %s registered at %s", registration.name, peer, self.port)
        member.clock = clock
        tunnel = Tunnel(transport, self, self._cork, self._heads, member, shown, gone)
        member.tunnels.add(tunnel)
        self.released(tunnel)
        return tunnel

    def keep_only(self, registrations: dict[str, Registration]) -> None:
        """Close the tunnels of every registration that is changed, disabled or gone, or of another certificate."""
        self._left = {name: at for name, at in self._left.items() if name in registrations}
        for member in list(self.members.values()):
            registration = registrations.get(member.registration.name)
            if registration is not None and registration.enabled and registration.same_terms(member.registration):
                member.registration = registration
                ending = [tunnel for tunnel in member.tunnels if not registration.admits(tunnel.shown)]
            else:
                ending = list(member.tunnels)
            if ending:
                log.info("registration %s was changed: closing %d tunnels", member.registration.name, len(ending))
            for upstream in ending:
                self._end(upstream, "the registration was changed or blocked")

    def _end(self, upstream: Upstream, words: str) -> None:
        exchange = upstream.exchange
        upstream.abort()
        if exchange is not None:
            exchange.upstream_lost(words)

    # --- using ---

    def free(self, path: str) -> Tunnel | None:
        """A free tunnel that may carry `path`, of the member with least in flight; whoever takes it releases it.

        A member that is silent gets nothing where there is another.
        """
        best: Member | None = None
        for member in self.members.values():
            if member.idle and (best is None or member.load < best.load) and member.registration.carries(path):
                best = member
        if best is None:
            return None
        idle = best.idle
        while idle:
            tunnel = idle.pop()
            if tunnel.usable:
                return tunnel
        return self.free(path)

    def wait(
        self, path: str, seconds: float, got: Callable[[Tunnel], None], failed: Callable[[NotSent], None]
    ) -> Callable[[], None]:
        """Call `got` with the next tunnel that is free and may carry `path`, or, after `seconds`, `failed`.

        Returns what cancels the wait.
        """
        waiter = _Waiter(path, asyncio.get_running_loop().time() + seconds, got, failed)
        self._waiters.append(waiter)
        return lambda: self._forget(waiter)

    def _forget(self, waiter: _Waiter) -> None:
        if waiter in self._waiters:  # else it was served meanwhile
            self._waiters.remove(waiter)

    def released(self, upstream: Upstream) -> None:
        """Called for a new tunnel too."""
        member: Member = upstream.member  # type: ignore[attr-defined]
        member.doubt = 0
        if self._waiters and upstream.usable:
            for waiter in self._waiters:
                if member.registration.carries(waiter.path):
                    self._waiters.remove(waiter)
                    waiter.got(upstream)  # type: ignore[arg-type]
                    return
        member.idle.append(upstream)  # type: ignore[arg-type]

    def lost(self, upstream: Upstream) -> None:
        assert isinstance(upstream, Tunnel)
        self._pings.pop(upstream, None)
        member = upstream.member
        upstream.gone()
        member.tunnels.discard(upstream)
        if upstream in member.idle:
            member.idle.remove(upstream)
        if not member.tunnels:
            self.members.pop((member.registration.name, member.nonce), None)
            self._left[member.registration.name] = asyncio.get_running_loop().time()
            log.info("registration %s: the last tunnel of %s is gone", member.registration.name, member.peer)

    # --- keeping ---

    def sweep(self, now: float) -> None:
        """Fail waits that are over, ping tunnels that are idle, end those that do not answer. `now`: loop time."""
        for waiter in [waiter for waiter in self._waiters if waiter.deadline <= now]:
            self._waiters.remove(waiter)
            waiter.failed(NotSent(GatewayReason.NO_INTERNAL_CONNECTION, self._why_none(waiter.path)))
        for tunnel, since in list(self._pings.items()):
            if now - since > DOUBT_SECONDS:
                tunnel.member.doubt = _DOUBTED
            if now - since > PING_TIMEOUT and tunnel in self._pings:
                self._give_up(tunnel.member)
        for member in self.members.values():
            while member.idle and now - member.idle[0].used_at > PING_SECONDS:
                tunnel = member.idle.popleft()
                self._pings[tunnel] = now
                tunnel.start(_Ping(self, tunnel), "OPTIONS", PING)  # type: ignore[arg-type]

    def _give_up(self, member: Member) -> None:
        """A node that does not answer a ping answers nobody: only what is being answered may go on."""
        silent = [tunnel for tunnel in member.tunnels if tunnel.exchange is None or not tunnel.exchange.answered]
        log.warning(
            "registration %s: %s did not answer a ping within %.0f s: closing %d tunnels",
            member.registration.name, member.peer, PING_TIMEOUT, len(silent),
        )  # fmt: skip
        for tunnel in silent:
            self._end(tunnel, f"the internal node did not answer a ping within {PING_TIMEOUT:.0f} s")

    def answered(self, tunnel: Tunnel) -> None:
        self._pings.pop(tunnel, None)
        tunnel.release()

    def _why_none(self, path: str) -> str:
        carrying = [member for member in self.members.values() if member.registration.carries(path)]
        if not self.members:
            return f"no internal node is registered at {self.port}"
        if not carrying:
            return f"no registration at {self.port} carries {path}"
        return f"all {sum(len(member.tunnels) for member in carrying)} tunnels at {self.port} are busy"

    def close(self) -> None:
        for member in list(self.members.values()):
            for tunnel in list(member.tunnels):
                self._end(tunnel, "the node stops")

    def gone(self) -> list[dict[str, Any]]:
        """Registrations that were there since the node started, and are not now; with when they left."""
        since = time.time() - asyncio.get_running_loop().time()
        here = {member.registration.name for member in self.members.values()}
        return [
            {"registration": name, "port": self.port, "last_seen": since + at}
            for name, at in self._left.items()
            if name not in here
        ]

    def state(self) -> list[dict[str, Any]]:
        since = time.time() - asyncio.get_running_loop().time()  # to tell a loop's time as the wall's
        return [
            {
                "registration": member.registration.name,
                "port": self.port,
                "node": member.registration.node,
                "peer": member.peer,
                "idle": len(member.idle),
                "busy": member.busy,
                "certificates": Counter(tunnel.shown for tunnel in member.tunnels),
                "last_seen": since + max(tunnel.used_at for tunnel in member.tunnels),
            }
            for member in self.members.values()
        ]
