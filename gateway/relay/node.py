"""One relay process: builds ports, tunnels and pools from a snapshot, swaps snapshots, drains."""

import asyncio
import gc
import logging
import ssl
from collections.abc import Callable
from time import perf_counter, time
from typing import Any

from gateway.core.difference import Difference, Document
from gateway.core.document import SnapshotError, amended, from_document
from gateway.core.snapshot import Dial, Port, PortType, Snapshot
from gateway.relay.access_log import AccessLog
from gateway.relay.blocking import blocked_between, cut
from gateway.relay.dialler import Dialler
from gateway.relay.listener import Listener
from gateway.relay.runtime import Runtime
from gateway.relay.tunnel import TunnelPool

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.25  # how exact every timeout is
SLOW_SWEEP = 4  # sweeps of connections that are idle: every so many
GOODBYE = 0.1  # of the time to drain, which a node that stops leaves its callers to ask once more
LAST_WORDS = 1.0  # seconds for what was written last to leave, where somebody does not read


class RelayNode(Runtime):
    """Owns its snapshot, its listeners, diallers and pools."""

    def __init__(self, worker: int = 0, workers: int = 1, access_log: AccessLog | None = None) -> None:
        super().__init__(worker, workers, access_log)
        self.listeners: dict[str, Listener] = {}
        self.diallers: dict[tuple[str, str, int, str], Dialler] = {}
        self.configuration: Callable[[], dict[str, Any]] | None = None  # how old it is; told where nobody else knows
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps = 0

    # --- configuration ---

    async def apply(self, document: Document) -> None:
        """Put a document in force: whole, or not at all.

        Raises:
            SnapshotError: it cannot be; the one in force stays.
        """
        await self._put_in_force(from_document(document, self.snapshot))

    async def amend(self, difference: Difference) -> None:
        """Put what a difference makes of the document in force in its place: whole, or not at all.

        Raises:
            SnapshotError: it cannot be; the one in force stays.
        """
        if self.snapshot is None:
            raise SnapshotError("there is nothing in force that a difference could stand on")
        await self._put_in_force(amended(self.snapshot, difference))

    async def _put_in_force(self, snapshot: Snapshot) -> None:
        before = self.snapshot
        await self._open_listeners(snapshot)
        self.snapshot = snapshot
        self._swap_listeners(snapshot)
        self._swap_tunnels(snapshot)
        self._swap_diallers(snapshot)
        self.backends.swap(snapshot)
        self.keys.swap(snapshot)
        if before is not None and (blocked := blocked_between(before, snapshot)):
            cut(self, blocked)
        if before is None:
            self._sweep()
            # Most of a snapshot outlives every change, and it may have a million objects: the collector need not
            # look at each of them again and again, in the middle of requests.
            gc.collect()
            gc.freeze()
        log.info("node %s: revision %d is in force", snapshot.node, snapshot.revision)

    def links_changed(self) -> None:
        """The console is another to whoever takes its links, and so to the handshakes of registration ports."""
        if self.links is not None:
            self.links.links_changed()
        for listener in self.listeners.values():
            if listener.port.type is PortType.REGISTRATION:
                listener.renew_contexts()

    async def _open_listeners(self, snapshot: Snapshot) -> None:
        """Open what is new before anything else changes; on failure close it again."""
        opened: list[Listener] = []
        wanted = {name: port for name, port in snapshot.ports.items() if port.type is not PortType.INTERNAL}
        keeps = {name for name, port in wanted.items() if self._stays(name, port)}
        vacated = [listener for name, listener in self.listeners.items() if name not in keeps]
        for listener in vacated:
            listener.close()
        try:
            for name, port in wanted.items():
                if name not in keeps:
                    listener = Listener(self, port)
                    opened.append(listener)
                    await listener.open()
        except (OSError, ssl.SSLError) as error:
            for listener in opened:
                listener.close()
            for listener in vacated:
                await listener.open()
            raise SnapshotError(f"ports[{port.name}]: {port.host}:{port.number}: {error.strerror or error}") from error
        for listener in vacated:
            del self.listeners[listener.port.name]
            for connection in [c for c in self.connections if c.port.name == listener.port.name]:
                connection.last = True
                connection.drain()
        for listener in opened:
            self.listeners[listener.port.name] = listener

    def _stays(self, name: str, port: Port) -> bool:
        listener = self.listeners.get(name)
        return listener is not None and (listener.port.host, listener.port.number, listener.port.type) == (
            port.host, port.number, port.type,
        )  # fmt: skip

    def _swap_listeners(self, snapshot: Snapshot) -> None:
        for name, listener in self.listeners.items():
            listener.change(snapshot.ports[name])

    def _swap_tunnels(self, snapshot: Snapshot) -> None:
        """A registration that was changed, blocked or taken away loses its tunnels."""
        for name, port in snapshot.ports.items():
            if port.type is PortType.REGISTRATION and name not in self.tunnels:
                self.tunnels[name] = TunnelPool(name, self.cork)
        for name, pool in list(self.tunnels.items()):
            port = snapshot.ports.get(name)  # type: ignore[assignment]
            if port is None or port.type is not PortType.REGISTRATION:
                pool.close()
                del self.tunnels[name]
            else:
                pool.keep_only({r.name: r for r in snapshot.registrations.values() if r.port == name})

    def _swap_diallers(self, snapshot: Snapshot) -> None:
        wanted: dict[tuple[str, str, int, str], tuple[Port, Dial]] = {
            (port.name, dial.host, dial.port, dial.registration.name): (port, dial)
            for port in snapshot.ports.values()
            if port.type is PortType.INTERNAL
            for dial in port.connect
            if dial.registration.enabled
        }
        for key, dialler in list(self.diallers.items()):
            port, dial = wanted.get(key, (None, None))
            if port is None or dial is None or dialler.loses(dial.registration) or _redials(dialler.port, port):
                dialler.cut()
                del self.diallers[key]
                continue
            renewed = dialler.port.keystore is not port.keystore
            dialler.change(port, dial)
            if renewed:  # tunnels that stand serve until there are others: nothing on them is broken off
                self.diallers[key] = other = Dialler(self, port, dial, dialler.last_of_all())
                other.start()
        for key, (port, dial) in wanted.items():
            if key not in self.diallers:
                self.diallers[key] = dialler = Dialler(self, port, dial)
                dialler.start()

    # --- what is told ---

    def missing(self) -> list[str]:
        """Why the node is not ready to serve, in words; [] when it is."""
        if self.snapshot is None:
            return ["no configuration has come yet"]
        if self.draining:
            return ["it is stopping"]
        found = [f"port {name} does not listen" for name, listener in self.listeners.items() if not listener.listening]
        found += [
            f"port {dialler.port.name}: no tunnel to {dialler.where}{': ' if dialler.problem else ''}{dialler.problem}"
            for dialler in self.diallers.values()
            if not dialler.standing
        ]
        return found

    def state(self) -> dict[str, Any]:
        tunnels = [row for pool in self.tunnels.values() for row in pool.state()]
        tunnels += [dialler.state() for dialler in self.diallers.values()]
        return {
            "node": self.snapshot.node if self.snapshot is not None else "",
            "revision": self.snapshot.revision if self.snapshot is not None else -1,
            "clock": time(),
            "draining": self.draining,
            "requests": self.requests,
            "in_flight": len(self.exchanges),
            "ports": [
                {
                    "name": name,
                    "type": listener.port.type.value,
                    "listening": listener.listening,
                    "connections": listener.count,
                }
                for name, listener in self.listeners.items()
            ],
            "tunnels": tunnels,
            "left": [row for pool in self.tunnels.values() for row in pool.gone()],
        } | ({"remote": True, "configuration": self.configuration()} if self.configuration is not None else {})

    # --- time ---

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
        now = loop.time()
        self._sweeps += 1
        clock = perf_counter()
        for exchange in [each for each in self.exchanges if each.deadline <= now or each.overdue(clock)]:
            exchange.timed_out()
        if self.access_log is not None:
            self.access_log.flush()
        with self.cork:
            for pool in list(self.tunnels.values()):
                pool.sweep(now)
        if self._sweeps % SLOW_SWEEP == 0:
            for listener in self.listeners.values():
                listener.sweep(now)
            for connection in list(self.connections):
                connection.sweep(now)
            self.backends.sweep(now)

    # --- stopping ---

    async def drain(self) -> None:
        """Take nothing new, finish what is in flight within the ports' grace, then end."""
        self.draining = True
        clock = asyncio.get_running_loop().time
        grace = max((port.limits.drain_timeout for port in self.snapshot.ports.values()), default=0.0)
        end = clock() + grace
        for listener in self.listeners.values():  # 1. nobody new is let in
            listener.close()
        # 2. Whoever is there is told with his next answer, for a request may be on its way to us at this moment;
        # who has none by then is let go.
        goodbye = clock() + grace * GOODBYE
        while self._has_callers() and clock() < goodbye:
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.drain()
        while self._unfinished() and clock() < end:
            await asyncio.sleep(0.05)
        for exchange in list(self.exchanges):  # 3. only what is past the grace is given up, and told so
            exchange.timed_out()
        for dialler in list(self.diallers.values()):
            dialler.cut()
        for pool in self.tunnels.values():
            pool.close()
        self.backends.close()  # 4. nobody asks them any more; and who came meanwhile goes
        for listener in self.listeners.values():
            listener.abandon()
        for connection in list(self.connections):
            connection.abort()
        end = clock() + LAST_WORDS  # 5. nothing is left open to the loop
        while any(listener.count for listener in self.listeners.values()) and clock() < end:
            await asyncio.sleep(0.005)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.passwords.close()
        if self.access_log is not None:
            self.access_log.close()

    def _has_callers(self) -> bool:
        return any(each.count for each in self.listeners.values() if each.port.type is not PortType.REGISTRATION)

    def _unfinished(self) -> bool:
        """Requests in flight; or idle tunnels, which the edge closes when it hears of the stop."""
        return bool(self.exchanges) or any(dialler.standing for dialler in self.diallers.values())


def _redials(before: Port, after: Port) -> bool:
    """Whether tunnels that stand were made with other settings than new ones would be, but for the certificate."""
    return before.truststore is not after.truststore or (
        (before.server_name, before.min_version, before.ciphers)
        != (after.server_name, after.min_version, after.ciphers)
    )
