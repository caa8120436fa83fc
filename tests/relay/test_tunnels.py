"""Who gets the next request: the registered nodes share by least in flight, and a silent one gets none."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.core.snapshot import Registration
from gateway.relay.cork import Cork
from gateway.relay.tunnel import DOUBT_SECONDS, PING_SECONDS, PING_TIMEOUT, Tunnel, TunnelPool
from tests.ports import free_port
from tests.relay.installation import Installation, read_answer
from tests.relay.liar import Liar
from tests.relay.test_faults import internal_only, members
from tests.relay.test_leaks import head

REGISTRATION = Registration("inside-at-reg", "reg", "inside", ("0" * 64,), True, False, (), None, None)


class Wire:
    """Stands where the socket would."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed


class Pool:
    """A pool with tunnels of several nodes, and a clock that a test moves."""

    def __init__(self) -> None:
        self.cork = Cork()
        self.pool = TunnelPool("reg", self.cork)
        self.began = asyncio.get_running_loop().time()

    def register(self, node: str) -> Tunnel:
        return self.pool.register(REGISTRATION, node, 0.0, Wire(), "192.0.2.1", "0" * 64, lambda: None)

    def take(self) -> Tunnel:
        tunnel = self.pool.free("/orders")
        assert tunnel is not None
        return tunnel

    def after(self, seconds: float, *silent: str) -> None:
        """Time passes; all nodes but the `silent` ones answer their pings."""
        with self.cork:
            self.pool.sweep(self.began + seconds)
        for tunnel in [tunnel for member in self.pool.members.values() for tunnel in member.tunnels]:
            if tunnel.exchange is not None and tunnel.member.nonce not in silent:
                tunnel.data_received(PONG)


def with_pool(test: Callable[[Pool], Awaitable[None]]) -> Callable[[], None]:
    """A test that runs in an event loop."""

    async def run() -> None:
        await test(Pool())

    def wrapped() -> None:
        asyncio.run(run())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__  # type: ignore[attr-defined]
    return wrapped


PONG = b"HTTP/1.1 204 No Content\r\n\r\n"


@with_pool
async def test_the_node_with_least_in_flight_is_next(pool: Pool) -> None:
    for node in "aaabbb":
        pool.register(node)
    taken = [pool.take() for _ in range(4)]
    assert sorted(tunnel.member.nonce for tunnel in taken) == ["a", "a", "b", "b"]
    back = next(tunnel for tunnel in taken if tunnel.member.nonce == "a")
    back.release()
    assert pool.take().member.nonce == "a"


@with_pool
async def test_a_node_that_owes_an_answer_to_a_ping_is_passed_over_and_then_given_up(pool: Pool) -> None:
    silent = [pool.register("silent") for _ in range(2)]
    for _ in range(3):
        pool.register("speaking")
    pinged = PING_SECONDS + 0.1
    pool.after(pinged, "silent")
    assert all(tunnel.transport.written.startswith(b"OPTIONS * ") for tunnel in silent)
    silent.append(pool.register("silent"))
    silent[2].used_at = pool.began + pinged  # nothing is known of this one yet
    pool.after(pinged + DOUBT_SECONDS + 0.1, "silent")
    assert [pool.take().member.nonce for _ in range(3)] == ["speaking"] * 3, "whoever has how much in flight"
    assert pool.take().member.nonce == "silent", "rather than nobody"
    pool.after(pinged + PING_TIMEOUT + 0.1, "silent")
    assert all(tunnel.over for tunnel in silent), "who answers no ping answers nobody"
    assert [member.nonce for member in pool.pool.members.values()] == ["speaking"]


@with_pool
async def test_a_late_answer_to_a_ping_makes_good(pool: Pool) -> None:
    late = pool.register("late")
    pool.after(PING_SECONDS + 0.1, "late")
    pool.after(PING_SECONDS + DOUBT_SECONDS + 0.2, "late")
    assert late.member.doubt
    late.data_received(PONG)
    assert not late.member.doubt and pool.take() is late


# --- over real sockets ---


@pytest.fixture
def liar() -> Any:
    backend = Liar()
    yield backend
    backend.close()


def test_two_nodes_on_one_registration_port_share_the_work(fresh: Callable[..., Installation], liar: Liar) -> None:
    def change(topology: dict[str, Any]) -> None:
        internal_only(topology)
        topology["services"][2].update(backend=f"http://127.0.0.1:{liar.port}", timeout="30s")

    installation = fresh(change)
    installation.start_twin("inside")
    installation.until(lambda: members(installation) == 2, "both are registered")
    sockets = []
    try:
        for number in range(8):
            context = installation.connection("ext", "alice")
            sockets.append(context)
            context.__enter__().sendall(head(f"/submit/hangs/{number}", method="GET"))
            installation.until(lambda number=number: len(liar.begun) == number + 1, "the backend was asked")
        assert [tunnel["busy"] for tunnel in installation.state("edge")["tunnels"]] == [4, 4]
    finally:
        for context in sockets:
            context.__exit__(None, None, None)


def two_edges(topology: dict[str, Any]) -> None:
    topology["nodes"].append({"name": "second", "role": "edge"})
    ext, reg, dial = topology["ports"][:3]
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    topology["ports"] += [
        ext | {"name": "ext2", "node": "second", "bind": addresses[0], "registration_port": "reg2"},
        reg | {"name": "reg2", "node": "second", "bind": addresses[1]},
    ]
    topology["registrations"].append(topology["registrations"][0] | {"name": "inside-at-reg2", "port": "reg2"})
    dial["connect"].append({"address": addresses[1], "registration": "inside-at-reg2"})


def test_one_node_serves_several_edges(fresh: Callable[..., Installation]) -> None:
    installation = fresh(two_edges)
    for port in ("ext", "ext2"):
        assert installation.request(port, "/orders", "alice").json["user"] == "alice"
    assert installation.stop("edge") == 0
    assert installation.request("ext2", "/orders", "alice").status == 200, "the other one goes on"
    installation.start("edge")
    installation.ready()
    assert installation.request("ext", "/orders", "alice").status == 200


def test_a_caller_of_a_node_that_stops_is_told_with_an_answer(fresh: Callable[..., Installation]) -> None:
    installation = fresh(lambda topology: topology["ports"][0].update(limits={"drain_timeout": 100}))
    ext = installation.topology["ports"][0]
    with installation.connection("ext", "alice") as sock, sock.makefile("rb") as stream:
        sock.sendall(head("/orders", method="GET"))
        assert "connection" not in read_answer(stream).headers
        installation.nodes["edge"].terminate()
        installation.until(lambda: not installation._opens(ext), "nobody new is let in")
        sock.sendall(head("/orders", method="GET"))
        answer = read_answer(stream)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert installation.nodes.pop("edge").wait(20) == 0, "it does not wait for what is over"


@pytest.mark.timeout(180)
def test_a_restart_of_an_edge_under_load_loses_no_request_that_it_accepted(fresh: Callable[..., Installation]) -> None:
    """Callers go on until they are told that the connection ends, and then to whichever edge lets them in."""

    def unhurried(topology: dict[str, Any]) -> None:
        two_edges(topology)
        for port in topology["ports"]:
            if port["type"] == "external":  # a tenth of it is a caller's to ask once more in
                port["limits"] = {"drain_timeout": 100}

    installation = fresh(unhurried)
    answered: Counter[str] = Counter()
    lost: list[str] = []
    over = threading.Event()

    def ask(port: str) -> None:
        """One connection, for as long as it is kept. Raises OSError where there is none."""
        with installation.connection(port, "alice") as sock, sock.makefile("rb") as stream:
            try:
                kept = True
                while kept and not over.is_set():
                    sock.sendall(head("/orders", method="GET"))
                    answer = read_answer(stream)
                    kept = answer.headers.get("connection") != "close"
                    answered[port] += 1
                    if answer.status != 200:
                        lost.append(f"{port}: {answer.status} {answer.body!r}")
            except (OSError, ValueError) as error:
                lost.append(f"{port}: {error!r}")

    def go_on(first: str) -> None:
        port = first
        while not over.is_set():
            try:
                ask(port)
            except OSError:  # it is not there: the other one is
                over.wait(0.02)
            port = "ext" if port == "ext2" else "ext2"

    callers = [threading.Thread(target=go_on, args=(port,)) for port in ("ext", "ext2", "ext")]
    for caller in callers:
        caller.start()
    try:
        for edge, port, other in (("edge", "ext", "ext2"), ("second", "ext2", "ext")):
            installation.until(lambda port=port: answered[port] > 20, f"{edge} is asked")
            before = answered[other]
            assert installation.stop(edge) == 0
            installation.until(lambda other=other, before=before: answered[other] > before + 20, "the other goes on")
            installation.start(edge)
            installation.ready()
            answered.clear()
    finally:
        over.set()
        for caller in callers:
            caller.join()
    assert not lost
