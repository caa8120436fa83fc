"""Whatever callers and backends do wrong, nothing of it stays: counted before and after."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.relay.listener import CROWD
from tests.relay.installation import Installation, read_answer

pytestmark = pytest.mark.timeout(180)

REPEATS = 4


def relay_of(installation: Installation, node: str) -> int:
    """The process that serves, a child of the one that feeds it."""
    parent = installation.nodes[node].pid
    return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


def open_files(installation: Installation) -> dict[str, int]:
    return {node: len(list(Path(f"/proc/{relay_of(installation, node)}/fd").iterdir())) for node in installation.nodes}


def resident(installation: Installation, node: str) -> int:
    """KiB."""
    status = Path(f"/proc/{relay_of(installation, node)}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def settled(installation: Installation) -> bool:
    edge, inside = installation.state("edge"), installation.state("inside")
    clients = next(port["connections"] for port in edge["ports"] if port["name"] == "ext")
    busy = sum(tunnel["busy"] for tunnel in edge["tunnels"] + inside["tunnels"])
    return not (clients or busy or edge["in_flight"] or inside["in_flight"])


def vanish(sock: ssl.SSLSocket) -> None:
    """End the connection as a machine does that lost its power: with a reset at best."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def head(target: str, more: str = "", method: str = "POST") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def misbehave(installation: Installation) -> None:
    """Each in a way of its own; none of them waits for an answer that it should get."""
    for started in (
        b"",
        b"GET / HT",
        head("/submit/x", "Content-Length: 1000000\r\n") + b"x" * 300_000,
        head("/submit/x", "Transfer-Encoding: chunked\r\n") + b"5\r\nhel",
        head("/submit/x", "Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\nnonsense\r\n",
        head("/submit/hang", method="GET"),
        head("/submit/large", method="GET"),
        head("/orders", method="GET") * 20,
        head("/submit/x", "Expect: 100-continue\r\nContent-Length: 10\r\n"),
    ):
        with installation.connection("ext", "alice") as sock:
            sock.sendall(started)
            vanish(sock)
    for target in ("/submit/cut", "/submit/short"):
        with contextlib.suppress(OSError, ValueError):
            installation.request("ext", target, "alice")
    with contextlib.suppress(OSError), installation.connection("ext", "rogue") as sock:
        sock.recv(1)
    with socket.create_connection(installation.address("ext"), 30) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")


def test_nothing_stays_of_callers_that_vanish_and_backends_that_lie(
    fresh: Callable[..., Installation], backend: Any
) -> None:
    installation = fresh()
    backend.release.clear()
    misbehave(installation)
    backend.release.set()
    installation.until(lambda: settled(installation), "the first round is over")
    installation.ready()
    before = open_files(installation)
    memory = {node: resident(installation, node) for node in installation.nodes}
    for _ in range(REPEATS):
        backend.release.clear()
        misbehave(installation)
        backend.release.set()
    installation.until(lambda: settled(installation), "all of it is over")
    assert installation.request("ext", "/orders", "alice").status == 200
    installation.until(
        lambda: all(count <= before[node] + 2 for node, count in open_files(installation).items()),
        f"no more files are open than before: {before}, {open_files(installation)}",
    )
    for node, kib in memory.items():
        assert resident(installation, node) - kib < 16 * 1024, node


def test_a_caller_that_does_not_read_stalls_itself_alone(fresh: Callable[..., Installation]) -> None:
    installation = fresh()
    before = {node: resident(installation, node) for node in installation.nodes}
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(installation.connection("ext", "alice"))
            sock.sendall(head("/submit/large", method="GET"))
        installation.until(
            lambda: sum(tunnel["busy"] for tunnel in installation.state("edge")["tunnels"]) == 8, "all are stalled"
        )
        for _ in range(20):
            assert installation.request("ext", "/orders", "alice").status == 200
        for node, kib in before.items():
            assert resident(installation, node) - kib < 32 * 1024, "160 MB wait, and not in a node's memory"
    installation.until(lambda: settled(installation), "they are let go")


def test_many_that_say_nothing_cost_the_others_nothing(fresh: Callable[..., Installation]) -> None:
    """Three times as many as the port lets in; who has a connection keeps it, and who comes gets one."""
    limit, addresses = 400, 12
    installation = fresh(lambda topology: topology["ports"][0].update(limits={"connections": limit}))
    before = {node: resident(installation, node) for node in installation.nodes}
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(installation.connection("ext", "alice"))
        stream = stack.enter_context(kept.makefile("rb"))

        def ask() -> int:
            kept.sendall(head("/orders", method="GET"))
            return read_answer(stream).status

        assert ask() == 200
        for number in range(3 * limit):
            sock = stack.enter_context(socket.socket())
            sock.bind((f"127.0.2.{1 + number % addresses}", 0))
            sock.connect(installation.address("ext"))
            if not number % 100:
                assert ask() == 200
        for _ in range(10):
            installation.until(lambda: installation.request("ext", "/orders", "alice").status == 200, "one gives way")
            assert ask() == 200
        ext = next(port for port in installation.state("edge")["ports"] if port["name"] == "ext")
        assert ext["connections"] <= limit + CROWD
        for node, kib in before.items():
            assert resident(installation, node) - kib < 48 * 1024, node
    installation.until(lambda: settled(installation), "all are gone")
