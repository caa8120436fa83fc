"""The internal node's end of tunnels: dialling out, keeping as many as are wanted, dialling again."""

import asyncio
import logging
import random
import secrets
import ssl
import time
from collections import Counter
from typing import Any

from gateway.core.addresses import join_host_port
from gateway.core.errors import MessageError
from gateway.core.snapshot import Dial, Port, Registration
from gateway.relay import handshake
from gateway.relay.channel import Channel
from gateway.relay.dialled import TunnelConnection
from gateway.relay.heads import new_memo
from gateway.relay.runtime import Runtime
from gateway.relay.tls import TLSLayer, client_context
from gateway.relay.tunnel import PING_SECONDS, PING_TIMEOUT
from gateway.relay.upstream import dial_tls
from identity.core.certificates import CertificateError

log = logging.getLogger(__name__)

DIAL_TIMEOUT = 10.0  # seconds until a tunnel is registered
STANDS = 1.0  # seconds after which a tunnel that ends is one that had come about
# Callers come in waves. A tunnel that had a request within so many seconds is kept for the next one: to dial it anew
# costs each node a handshake, which all requests of that moment wait for.
KEPT = 20.0
FIRST_DELAY, LAST_DELAY = 0.1, 2.0  # seconds before dialling again: doubling, with jitter


class Dialler:
    """All tunnels that one internal port dials to one address under one certificate.

    `before`: the one of the certificate before, which serves until there are enough tunnels under this one.
    """

    SILENCE = 2 * (PING_SECONDS + PING_TIMEOUT) + 1.0  # seconds without a byte after which a tunnel counts as dead

    def __init__(self, node: Runtime, port: Port, dial: Dial, before: "Dialler | None" = None) -> None:
        self.node, self.port, self.dial, self.before = node, port, dial, before
        self.channel = Channel(dial.registration, secrets.token_urlsafe(18))
        self.heads = new_memo()
        self.tunnels: set[TunnelConnection] = set()
        self._working: set[TunnelConnection] = set()
        self._workers = 1  # of the edge; told at registration
        self._share()
        self.problem = ""  # why the last dial failed; "" when it did not
        self._context: ssl.SSLContext = client_context(port.keystore, port.truststore, port)
        self._shows = port.keystore.certificate.sha256 if port.keystore is not None else ""
        self._dialling: set[asyncio.Task[None]] = set()
        self._delay = FIRST_DELAY
        self._retry: asyncio.TimerHandle | None = None
        self.stopped = False

    @property
    def where(self) -> str:
        return join_host_port(self.dial.host, self.dial.port)

    def start(self) -> None:
        self.changed()

    @property
    def busy(self) -> int:
        """How many tunnels have a request on them."""
        return len(self._working)

    def taken(self, tunnel: TunnelConnection) -> None:
        """A tunnel has got a request: is there still one to spare?"""
        self._working.add(tunnel)
        self._delay = FIRST_DELAY
        if len(self.tunnels) + len(self._dialling) - len(self._working) < self._spare * self._workers:
            self.changed()

    def freed(self, tunnel: TunnelConnection) -> None:
        """The request on a tunnel is over."""
        self._working.discard(tunnel)

    def change(self, port: Port, dial: Dial) -> None:
        """Take up settings that tunnels which stand need not be dialled anew for."""
        if self.before is not None:
            self.before.change(port, dial)
        self.dial, self.channel.registration = dial, dial.registration
        if port.limits != self.port.limits:
            self.heads = new_memo()
        self.port = port
        self._share()
        self.changed()

    def loses(self, registration: Registration) -> bool:
        """Whether what the registration says now, and did not before, ends the tunnels that stand."""
        before = self.dial.registration
        shut_out = before.admits(self._shows) and not registration.admits(self._shows)
        return shut_out or not registration.same_terms(before)

    def last_of_all(self) -> "Dialler | None":
        """What is to go on serving while another takes its place: this one, or the one before if this has nothing."""
        before = self.before
        if before is not None and not before.standing:
            before = None
        if self.tunnels:
            if before is not None:
                before.stop()
            self.before = before
            return self
        self.before = None
        self.stop()
        return before

    def _share(self) -> None:
        """How many tunnels are wanted by this process at each of the edge's workers, and in all."""
        wanted, here = self.port.connections, self.node.workers
        self._min = max(1, -(-wanted.min // (here * self._workers)))
        self._spare = -(-wanted.spare // (here * self._workers))
        self._max = max(self._workers, -(-wanted.max // here))

    def changed(self) -> None:
        """Something came, went, or became busy: dial what is missing."""
        if self.stopped or self._retry is not None or self.node.draining:
            return
        room = self._max - len(self.tunnels) - len(self._dialling)
        if room <= 0:
            return
        for _ in range(min(self._missing() - len(self._dialling), room)):
            task = asyncio.get_running_loop().create_task(self._dial())
            self._dialling.add(task)
            task.add_done_callback(self._dialled)

    def _missing(self) -> int:
        """Tunnels that there should be besides. Which worker a new one comes to, the edge's kernel decides."""
        have, busy = self._counts(self.tunnels), self._counts(self._working)
        return sum(
            max(0, self._min - have[worker], self._spare - (have[worker] - busy[worker]))
            for worker in range(self._workers)
        )

    @staticmethod
    def _counts(tunnels: set[TunnelConnection]) -> "Counter[int]":
        return Counter(tunnel.worker for tunnel in tunnels)

    def surplus(self, tunnel: TunnelConnection) -> bool:
        """Whether the edge is to be asked to close this idle tunnel."""
        if self.stopped or self.node.draining:
            return True
        # All that there may be, and a worker of the edge has too few: it began to listen after the others, perhaps.
        starving = len(self.tunnels) + len(self._dialling) >= self._max and self._missing() > 0
        if not starving and tunnel.now() - tunnel.used < KEPT:
            return False
        have = sum(other.worker == tunnel.worker for other in self.tunnels)
        busy = sum(other.worker == tunnel.worker for other in self._working)
        idle_without = have - busy - (tunnel not in self._working)
        return idle_without >= max(self._spare, self._min - busy)

    def gone(self, tunnel: TunnelConnection) -> None:
        self.tunnels.discard(tunnel)
        self._working.discard(tunnel)
        if self.stopped or self.node.draining:
            return
        if not tunnel.served and tunnel.now() - tunnel.born < STANDS:
            self._put_off("the registration port ended the tunnel as soon as it stood")
            return
        self._delay = FIRST_DELAY
        asyncio.get_running_loop().call_soon(self.changed)

    def _dialled(self, task: "asyncio.Task[None]") -> None:
        self._dialling.discard(task)
        if task.cancelled() or self.stopped:
            return
        error = task.exception()
        if error is None:
            self.problem = ""
            self.changed()  # it may have come to a worker that has enough
        else:
            self._put_off(str(error) or type(error).__name__)

    def _put_off(self, words: str) -> None:
        """Dial again after a while, longer each time, until a tunnel stands."""
        if words != self.problem:  # once for each new problem, not once for each of a thousand tries
            log.warning("port %s: no tunnel to %s: %s", self.port.name, self.where, words)
        self.problem = words
        if self._retry is None:
            delay = self._delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            self._delay = min(self._delay * 2, LAST_DELAY)
            self._retry = asyncio.get_running_loop().call_later(delay, self._again)

    def _again(self) -> None:
        self._retry = None
        self.changed()

    async def _dial(self) -> None:
        """One tunnel, registered and serving. Raises OSError, TimeoutError, MessageError."""
        async with asyncio.timeout(DIAL_TIMEOUT):
            server_name = self.port.server_name or self.dial.host
            layer = await dial_tls(self.dial.host, self.dial.port, self._context, server_name)
            try:
                shown = layer.peer_chain()
                if shown is None:
                    raise ConnectionError("the registration port showed no certificate")
                accepted = await self._register(layer)
            except CertificateError as error:
                layer.abort()
                raise ConnectionError(str(error)) from error
            except BaseException:
                layer.abort()
                raise
        witness = self.channel.witness(shown[0])
        tunnel = TunnelConnection(self.node, self.port, layer, witness, self, accepted.worker)
        self.tunnels.add(tunnel)
        if accepted.workers != self._workers:
            self._workers = accepted.workers
            self._share()
        layer.notice_silence()
        layer.set_application(tunnel)
        if accepted.rest:
            tunnel.data_received(accepted.rest)
        layer.resume_reading()
        if self.before is not None and len(self.tunnels) >= min(self._min * self._workers, self._max):
            self.before.stop()
        if not self.problem and len(self.tunnels) == 1:
            log.info("port %s: registered at %s as %s", self.port.name, self.where, self.dial.registration.name)

    async def _register(self, layer: TLSLayer) -> handshake.Accepted:
        registering = _Registering(layer)
        layer.set_application(registering)
        asked = handshake.Registering(
            self.dial.registration.name, self.channel.audience.rpartition("#")[2], time.time()
        )
        layer.write(handshake.request(asked, self.port.server_name or self.dial.host))
        return await registering.done

    def stop(self) -> None:
        """Dial no more; tunnels close when the edge asks them next, or when they are cut."""
        self.stopped = True
        if self._retry is not None:
            self._retry.cancel()
        for task in list(self._dialling):
            task.cancel()
        if self.before is not None:
            self.before.stop()

    def cut(self) -> None:
        self.stop()
        if self.before is not None:
            self.before.cut()
        for tunnel in list(self.tunnels):
            if tunnel.exchange is not None:
                tunnel.exchange.client_lost()
            tunnel.abort()

    def _by_certificate(self) -> dict[str, int]:
        """How many tunnels stand, by the SHA-256 of what was shown for them."""
        found = self.before._by_certificate() if self.before is not None else {}
        return found | ({self._shows: found.get(self._shows, 0) + len(self.tunnels)} if self.tunnels else {})

    @property
    def standing(self) -> "set[TunnelConnection]":
        """All tunnels, those under the certificate before too."""
        return self.tunnels | self.before.standing if self.before is not None else self.tunnels

    def state(self) -> dict[str, Any]:
        standing = self.standing
        busy = self.busy + (self.before.busy if self.before is not None else 0)
        return {
            "registration": self.dial.registration.name,
            "port": self.port.name,
            "node": self.dial.registration.node,
            "peer": self.where,
            "idle": len(standing) - busy,
            "busy": busy,
            "certificates": self._by_certificate(),
            "last_seen": max((time.time() - (t.now() - t.heard) for t in standing), default=None),
            "problem": self.problem,
        }


class _Registering:
    """Stands above a dialled connection until the edge has answered."""

    def __init__(self, layer: TLSLayer) -> None:
        self._layer = layer
        self.done: asyncio.Future[handshake.Accepted] = asyncio.get_running_loop().create_future()
        self._handshake = handshake.Handshake()

    def data_received(self, data: bytes) -> None:
        try:
            accepted = self._handshake.receive(data)
        except (MessageError, handshake.HandshakeRefused) as error:
            self._end(error)
            return
        if accepted is not None and not self.done.done():
            # The first request may follow at once: it waits for the one who serves it.
            self._layer.pause_reading()
            self.done.set_result(accepted)

    def eof_received(self) -> None:
        self._end(ConnectionError("the registration port ended the connection"))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(ConnectionError(f"the registration port ended the connection: {error or 'no reason given'}"))

    def _end(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
