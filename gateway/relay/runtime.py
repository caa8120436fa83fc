"""What everything that runs on a node shares: the snapshot in force, what is open by it, and what is noted of it.

Connections, exchanges, listeners and diallers read it; `RelayNode` puts another snapshot in force.
"""

import logging
from collections.abc import Sequence
from email.utils import formatdate
from time import perf_counter, time
from typing import TYPE_CHECKING

from gateway.core.reasons import GatewayReason, Reason
from gateway.core.snapshot import Snapshot
from gateway.relay.access_log import AccessLog
from gateway.relay.backends import Backends
from gateway.relay.cork import Cork
from gateway.relay.keys import Keys
from gateway.relay.link import Taker
from gateway.relay.memo import Memo
from gateway.relay.metrics import Metrics
from gateway.relay.passwords import PasswordChecker
from gateway.relay.refusals import Refusals, of_handshake, of_request
from gateway.relay.tunnel import TunnelPool

if TYPE_CHECKING:
    from gateway.relay.connection import ServerConnection
    from gateway.relay.exchange import Exchange

log = logging.getLogger(__name__)

MEMORY = 8192  # requests whose decision is remembered, per generation


class Runtime:
    """One event loop, no threads but for passwords.

    `worker` of `workers`: processes of one node share its ports; each has tunnels of its own.

    Attributes:
        links: who takes the console's links, on a node of another machine's.
        memory: what requests with the same head from the same caller came to.
        requests: how many have ended.
    """

    def __init__(self, worker: int = 0, workers: int = 1, access_log: AccessLog | None = None) -> None:
        self.worker, self.workers, self.access_log = worker, workers, access_log
        self.metrics = Metrics()
        self.snapshot: Snapshot = None  # type: ignore[assignment]  # there is one before a request comes
        self.cork = Cork()
        self.memory = Memo(MEMORY)
        self.connections: set[ServerConnection] = set()
        self.exchanges: set[Exchange] = set()
        self.tunnels: dict[str, TunnelPool] = {}
        self.backends = Backends(self.cork)
        self.keys = Keys()
        self.passwords = PasswordChecker()
        self.links: Taker | None = None
        self.draining = False
        self.requests = 0
        self.refusals = Refusals()
        self._date: tuple[int, bytes] = (0, b"")

    def date_line(self) -> bytes:
        second = int(time())
        if self._date[0] != second:
            self._date = second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date[1]

    # --- what is noted ---

    def finished(self, exchange: "Exchange") -> None:
        self.exchanges.discard(exchange)
        self.requests += 1
        metrics, port, decision = self.metrics, exchange.connection.port.name, exchange.decision
        route = decision.route.name if decision is not None and decision.route is not None else ""
        reason = exchange.reason
        metrics.requests[port, route, exchange.status, reason.value if reason is not None else ""] += 1
        exchange.connection.durations.note(perf_counter() - exchange.started)
        if exchange.received:
            metrics.received[port] += exchange.received
        if exchange.sent:
            metrics.sent[port] += exchange.sent
        if self.access_log is not None:
            self.access_log.note(self.snapshot.node, exchange)
        # Who is gone was not refused.
        if exchange.reason is not None and exchange.reason is not GatewayReason.CLIENT_GONE:
            self.refusals.requests.note(*of_request(self.snapshot.node, exchange, time()))

    def handshake_failed(
        self, port: str, peer: str, words: str, chain: Sequence[bytes] = (), reason: Reason | None = None
    ) -> None:
        """`chain`: DER of what the peer showed, leaf first, as far as that was seen. `reason`: why that is refused."""
        code = reason.value if reason is not None else ""
        told = of_handshake(self.snapshot.node, port, peer, words, code, chain, time())
        log.info("port %s: handshake with %s failed: %s %s", port, peer, words, told["subject"])
        self.metrics.handshakes[port, "failed"] += 1
        self.refusals.handshakes.note(told, chain)
