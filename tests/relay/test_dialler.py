"""When an internal node dials: later each time where tunnels end as soon as they stand, and never for a tunnel that it
may need again. In simulated time."""

import asyncio
from typing import Any

import pytest

from gateway.core.document import from_document
from gateway.core.snapshot import Snapshot
from gateway.relay.dialler import FIRST_DELAY, KEPT, LAST_DELAY, STANDS, Dialler
from tests.gateway.test_decision import document, port
from tests.relay import simulated


class Node:
    """What a dialler sees of it."""

    workers, draining = 1, False


class Tunnel:
    """Stands where a connection would."""

    worker, served = 0, False

    def __init__(self) -> None:
        self.born = self.used = self.now()

    def now(self) -> float:
        return asyncio.get_running_loop().time()


class Dialling(Dialler):
    """Every dial succeeds at once; `stands`: seconds after which its tunnel is ended by the edge."""

    stands = 0.0

    def __init__(self, **connections: int) -> None:
        snapshot = snapshot_with(connections)
        dials = snapshot.ports["dial"]
        super().__init__(Node(), dials, dials.connect[0])  # type: ignore[arg-type]
        self.dialled: list[float] = []

    async def _dial(self) -> None:
        loop, tunnel = asyncio.get_running_loop(), Tunnel()
        self.dialled.append(loop.time())
        self.tunnels.add(tunnel)  # type: ignore[arg-type]
        loop.call_later(self.stands, self.gone, tunnel)


def snapshot_with(connections: dict[str, int]) -> Snapshot:
    dial = {"host": "192.0.2.1", "port": 5556, "registration": "channel"}
    ports: dict[str, Any] = {"dial": port(type="internal", host="", truststore="partners", client_truststore="partners",
                                          connect=[dial], connections=connections)}  # fmt: skip
    return from_document(document(ports=ports))


def waits(stands: float, dials: int) -> list[float]:
    """Seconds from each end of a tunnel to the next dial."""
    found: list[float] = []

    async def work() -> None:
        dialler = Dialling(min=1, spare=1, max=1)
        dialler.stands = stands
        dialler.start()
        while len(dialler.dialled) < dials:
            await asyncio.sleep(0.1)
        dialler.stop()
        found[:] = [b - a - stands for a, b in zip(dialler.dialled, dialler.dialled[1:], strict=False)]

    simulated.run(work())
    return found


def test_an_edge_that_takes_tunnels_and_drops_them_is_not_hammered() -> None:
    found = waits(0.0, 16)
    for number, waited in enumerate(found[:15]):
        usual = min(FIRST_DELAY * 2**number, LAST_DELAY)
        assert usual / 2 <= waited + 0.001 and waited <= usual * 1.5 + 0.001, f"the wait of number {number}"


def test_a_tunnel_that_stood_is_dialled_again_at_once() -> None:
    assert waits(STANDS + 0.5, 4)[:3] == pytest.approx([0.0] * 3, abs=0.001)


def test_what_was_used_lately_is_kept_for_the_next_wave() -> None:
    async def work() -> None:
        dialler = Dialling(min=1, spare=1, max=128)
        tunnels: list[Any] = [Tunnel() for _ in range(10)]
        dialler.tunnels.update(tunnels)
        await asyncio.sleep(KEPT - 1)
        tunnels[0].used = tunnels[0].now()
        assert not any(dialler.surplus(tunnel) for tunnel in tunnels)
        await asyncio.sleep(2)
        assert [dialler.surplus(tunnel) for tunnel in tunnels] == [False, *[True] * 9]
        for tunnel in tunnels[1:]:
            if dialler.surplus(tunnel):
                dialler.tunnels.discard(tunnel)
        await asyncio.sleep(KEPT)
        assert len(dialler.tunnels) == 1 and not dialler.surplus(tunnels[0]), "one is to be there always"

    simulated.run(work())
