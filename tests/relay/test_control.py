"""The local door to a node, also at moments at which nobody should have asked."""

import asyncio
from pathlib import Path

import pytest

from gateway.relay.control import ControlError, ControlServer, call, merged
from gateway.relay.node import RelayNode


def ask_one_that_starts(folder: Path) -> None:
    async def run() -> None:
        node = RelayNode()
        server = ControlServer(node, folder, "edge")
        await server.open()
        try:
            await asyncio.to_thread(call, folder, "edge", {"op": "state"})
        finally:
            await server.close()
            node.passwords.close()

    asyncio.run(run())


def test_a_node_that_starts_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="is starting"):
        ask_one_that_starts(tmp_path)


def test_a_node_that_does_not_run_is_told_with_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"manage\.py relay --node edge"):
        call(tmp_path, "edge", {"op": "state"})


def test_a_node_runs_once(tmp_path: Path) -> None:
    async def run() -> None:
        node = RelayNode()
        first, second = (ControlServer(node, tmp_path, "edge") for _ in range(2))
        await first.open()
        try:
            await second.open()
        finally:
            await first.close()
            node.passwords.close()

    with pytest.raises(ControlError, match="runs this node already"):
        asyncio.run(run())


def test_what_a_dead_node_left_behind_is_taken_over(tmp_path: Path) -> None:
    async def run(stop: bool) -> None:
        node = RelayNode()
        server = ControlServer(node, tmp_path, "edge")
        await server.open()
        if stop:
            await server.close()
        else:
            assert server._server is not None
            server._server.close()
        node.passwords.close()

    asyncio.run(run(stop=False))
    asyncio.run(run(stop=True))


def test_a_state_folder_that_is_too_long_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        await ControlServer(RelayNode(), tmp_path / ("x" * 100), "edge").open()

    with pytest.raises(ControlError, match="too long for a socket"):
        asyncio.run(run())


class Worker(RelayNode):
    """One that lacks what it is told to."""

    def __init__(self, worker: int, *lacking: str) -> None:
        super().__init__(worker, 3)
        self.lacking = list(lacking)

    def missing(self) -> list[str]:
        return self.lacking


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        pytest.param([[], [], []], [], id="all-are-ready"),
        pytest.param([[], ["port ext does not listen"], []], ["worker 1: port ext does not listen"], id="one-is-not"),
        pytest.param([["no tunnel"], ["no tunnel"], ["no tunnel"]], ["no tunnel"], id="said-once"),
        pytest.param(
            [["no tunnel"], ["no tunnel", "port ext does not listen"], []],
            ["worker 0: no tunnel", "worker 1: no tunnel", "worker 1: port ext does not listen"],
            id="each-says-its-own",
        ),
        pytest.param([[], [], None], ["worker 2: it does not answer"], id="one-does-not-answer"),
    ],
)
def test_a_node_is_ready_when_all_its_workers_are(
    tmp_path: Path, workers: list[list[str] | None], told: list[str]
) -> None:
    async def run() -> list[str]:
        nodes = [Worker(number, *lacking) for number, lacking in enumerate(workers) if lacking is not None]
        servers = [ControlServer(node, tmp_path, "edge") for node in nodes]
        for server in servers:
            await server.open()
        try:
            return await servers[0].missing()
        finally:
            for server in servers:
                await server.close()
                server.node.passwords.close()

    assert asyncio.run(run()) == told


def test_workers_are_one_node() -> None:
    port = {"name": "ext", "type": "external", "listening": True, "connections": 2}
    tunnel = {"registration": "in", "port": "reg", "peer": "192.0.2.1:1", "idle": 1, "busy": 0, "last_seen": 5.0,
              "certificates": {"aa": 1}}  # fmt: skip
    one = {"revision": 8, "requests": 3, "in_flight": 1, "ports": [port], "tunnels": [tunnel], "left": []}
    busier = tunnel | {"busy": 2, "last_seen": None, "certificates": {"aa": 1, "bb": 2}}
    other = one | {"revision": 7, "tunnels": [busier], "left": [{"registration": "a"}]}
    found = merged([one, other])
    assert (found["revision"], found["requests"], found["in_flight"]) == (7, 6, 2), "the older one is in force too"
    assert found["ports"] == [port | {"connections": 4}]
    assert found["tunnels"] == [tunnel | {"idle": 2, "busy": 2, "certificates": {"aa": 2, "bb": 2}}]
    assert found["left"] == [{"registration": "a"}]
    deaf = one | {"ports": [port | {"listening": False}]}
    assert not merged([one, deaf])["ports"][0]["listening"], "some of who comes would be refused"
