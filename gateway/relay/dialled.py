"""A tunnel that this node has dialled: it is the HTTP server there, and requests carry who their caller is."""

import logging
from time import time
from typing import TYPE_CHECKING, Any

from gateway.core.decision import Decision, Facts, PasswordVerdict
from gateway.core.explain import lane
from gateway.core.snapshot import Port, Registration
from gateway.relay import builtin
from gateway.relay.channel import Credential, Witness
from gateway.relay.connection import ServerConnection
from gateway.relay.exchange import Exchange
from gateway.relay.heads import ON_TUNNEL, Head
from gateway.relay.runtime import Runtime

if TYPE_CHECKING:
    from gateway.relay.dialler import Dialler

log = logging.getLogger(__name__)

PONG = b"HTTP/1.1 204 No Content\r\n"


class TunnelConnection(ServerConnection):
    """One such tunnel."""

    speaks = ON_TUNNEL
    holds = False  # the edge has done so

    def __init__(
        self, node: Runtime, port: Port, transport: Any, witness: Witness, owner: "Dialler", worker: int
    ) -> None:
        """`worker`: of the edge, which has the tunnel's other end."""
        super().__init__(node, port, transport, transport.peer_address, secure=True, heads=owner.heads)
        self.caller = self._witness = witness
        self._owner, self.worker = owner, worker
        self._credential: Credential | None = None
        self.born = self.heard = self.used = self.now()
        self.served = False  # whether a request or a ping has come by it

    @property
    def believes_trace(self) -> bool:
        return True

    @property
    def registration(self) -> Registration:
        return self._witness.registration

    # Named, for `super()` costs more than what it finds does here, and all of it happens for each request.

    def data_received(self, data: bytes) -> None:
        self.heard = self.now()
        self.served = True
        ServerConnection.data_received(self, data)

    def request_head(self, head: Head, trace_id: str = "") -> None:
        if head.target == "*" and head.method == "OPTIONS":
            self._filling = None
            self.write(PONG + (b"Connection: close\r\n\r\n" if self._owner.surplus(self) else b"\r\n"))
            return
        super().request_head(head, trace_id)

    def _begin(self, head: Head, trace_id: str, body: bytes | None = None) -> None:
        self.tracing = b"postern-trace" in head.spoken and self.registration.allow_test
        self._owner.taken(self)
        ServerConnection._begin(self, head, trace_id, body)

    def decide(self, head: Head, password: PasswordVerdict = PasswordVerdict.UNKNOWN) -> Decision:
        self._credential = self._witness.credential(head.spoken, time())
        return super().decide(head, password)

    def _who(self, head: Head) -> object:
        return self._credential, head.spoken.get(b"postern-peer")

    def _decides_alike(self, head: Head) -> bool:
        # Why a credential was not believed may be over with the next second, or with a clock that was set.
        return head.authorization is None and self._credential is not None and self._credential.problem is None

    def _facts(self, head: Head, password: PasswordVerdict) -> Facts:
        credential = self._credential
        assert credential is not None
        facts = super()._facts(head, password)
        facts.peer = head.spoken.get(b"postern-peer", b"").decode("latin-1")
        facts.certificate, facts.intermediates = credential.certificate, credential.intermediates
        facts.proof, facts.valid_until = credential.proof, credential.valid_until
        facts.problem, facts.registration = credential.problem, self.registration
        return facts

    def keeps_alive(self, exchange: Exchange) -> bool:
        # Surplus tunnels are told at their next ping, when they have been idle for a while, and not here: under
        # load that would close and dial without end.
        return ServerConnection.keeps_alive(self, exchange) and not self._owner.stopped

    def trace_line(self, exchange: Exchange) -> bytes:
        if not self.tracing or exchange.decision is None:
            return b""
        return b"Postern-Trace: %b\r\n" % builtin.encode_lanes(
            [lane(self.node.snapshot.node, self.port.name, exchange.decision)]
        )

    def exchange_done(self, exchange: Exchange) -> None:
        if self.exchange is exchange:
            self.used = self.now()
            self._owner.freed(self)
        ServerConnection.exchange_done(self, exchange)

    def _gone(self) -> None:
        if self in self.node.connections:
            super()._gone()
            self._owner.gone(self)

    def drain(self) -> None:
        """Nothing: only the edge closes an idle tunnel; it is asked to by the answer to its next ping."""

    def sweep(self, now: float) -> None:
        if self.exchange is None and now - self.heard > self._owner.SILENCE:
            log.warning("tunnel of %s: silent for %.0f s: dropped", self.registration.name, now - self.heard)
            self.abort()
        elif self._write_paused_since is not None and now - self._write_paused_since > self.port.limits.body_timeout:
            self.abort()
