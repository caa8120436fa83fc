"""With 100,000 certificates on file: from the click that blocks one until it is refused on both nodes, and until the
connections that it had are closed.

    python -m tools.bench.blocking

The click is a request to the console, asked by Django's client in a process of its own; all of its work counts.
"""

import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.bench.decision import SIZES
from tools.bench.relay import QUIET, ROOT, Running, free_port, running
from tools.bench.table import Row, at_most, rendered

SECONDS = 2
PATIENCE = 60.0  # seconds after which it is given up
REQUEST = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
PORTS = ("ext", "https")  # of the edge, and of the internal node itself
WHO = "alice"


def own_port(topology: dict[str, Any], ports: dict[str, int]) -> None:
    """One of the internal node's own: it is to refuse him there, too."""
    ports["https"] = free_port()
    topology["ports"].append(
        {"name": "https", "node": "inside", "type": "regular", "bind": f"127.0.0.1:{ports['https']}",
         "tls": {"keystore": "server", "truststore": "all"}, "client_auth": "require",
         "service_access": {"default": "allow"}}
    )  # fmt: skip


class Caller:
    """With a connection that is kept."""

    def __init__(self, stand: Running, port: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(stand.folder / f"{WHO}.both")
        plain = socket.create_connection(("127.0.0.1", stand.ports[port]), PATIENCE)
        self._sock = context.wrap_socket(plain, server_hostname="localhost")

    def ask(self) -> bytes:
        """The answer's first line, and whatever else comes with it."""
        self._sock.sendall(REQUEST)
        return self._sock.recv(65536)

    def wait_for_end(self) -> None:
        with contextlib.suppress(OSError):
            while self._sock.recv(65536):
                pass

    def close(self) -> None:
        self._sock.close()


def wait_for_refusal(stand: Running, port: str) -> None:
    """Of a new connection."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        caller = Caller(stand, port)
        try:
            if caller.ask().startswith(b"HTTP/1.1 403 "):
                return
        finally:
            caller.close()
        time.sleep(0.02)
    raise TimeoutError(f"{port}: he was never refused")


@contextlib.contextmanager
def clicker(env: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that fills the database, says so, and clicks for each line that it reads."""
    command = [sys.executable, "-m", "tools.bench.click", WHO, *map(str, SIZES[1])]
    process = subprocess.Popen(command, env=env | QUIET, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate()


def measure() -> list[Row]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clicking: list[subprocess.Popen[str]] = []

        def fill(env: dict[str, str]) -> None:
            clicking.append(stack.enter_context(clicker(env)))

        stand = stack.enter_context(running(folder, {}, own_port, fill))
        kept = [Caller(stand, port) for port in PORTS]
        for caller in kept:
            stack.callback(caller.close)
            assert caller.ask().startswith(b"HTTP/1.1 200 ")
        pool = stack.enter_context(ThreadPoolExecutor(2 * len(PORTS)))
        began = time.perf_counter()

        def seconds_of(wait: Callable[..., None], *arguments: Any) -> float:
            wait(*arguments)
            return time.perf_counter() - began

        closed = [pool.submit(seconds_of, caller.wait_for_end) for caller in kept]
        refused = [pool.submit(seconds_of, wait_for_refusal, stand, port) for port in PORTS]
        (process,) = clicking
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "blocked\n"
        answered = time.perf_counter() - began
        what = f"a click that blocks, {SIZES[1][0]:,} certificates"
        return [
            at_most(f"{what}: refused on both nodes after", SECONDS, max(each.result() for each in refused), "s",
                    f" (the click's own answer: {answered:.2f} s)"),
            at_most(f"{what}: open connections closed after", SECONDS, max(each.result() for each in closed), "s"),
        ]  # fmt: skip


def main() -> None:
    print(rendered(measure()))


if __name__ == "__main__":
    main()
