"""Many callers that do nothing: what an idle one costs the edge, and what 10,000 that say nothing cost the others.

python -m tools.bench.crowd [--idle 5000] [--silent 10000]
"""

import argparse
import contextlib
import socket
import ssl
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.bench.memory import MIB, resident
from tools.bench.relay import FRESH, Running, run_ab, running
from tools.bench.table import Row, at_most, rendered

EACH = 500  # silent callers of one address; a port lets in 1,000


def room(topology: dict[str, Any], ports: dict[str, int]) -> None:
    """All idle callers come from one address here; everything else is left as it is without being configured."""
    topology["ports"][0]["limits"] = {"connections_per_address": 10_000, "idle_timeout": 600.0}


def idle(stand: Running, count: int) -> Row:
    """Callers with a certificate and a request behind them each, whose connections are kept."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(stand.folder / "alice.both")
    (edge,) = stand.pids("edge")
    before = resident(edge)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            plain = socket.create_connection(("127.0.0.1", stand.ports["ext"]), 10)
            sock = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        each = (resident(edge) - before) / count / 1024
    return at_most(f"{count:,} idle TLS clients: memory of the edge for each", 100, each, "KiB")


def silent(stand: Running, count: int) -> list[Row]:
    """Callers that connect and never begin their handshake, while others go on: what those notice."""
    (edge,) = stand.pids("edge")
    port = stand.ports["ext"]
    before = resident(edge)
    alone = [_others(stand) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        began = time.perf_counter()
        for number in range(count):
            sock = stack.enter_context(socket.socket())
            sock.bind((f"127.0.1.{1 + number // EACH}", 0))
            sock.connect(("127.0.0.1", port))
        took = time.perf_counter() - began
        among = [_others(stand)]
        grown = resident(edge) - before
    rate, late = (statistics.median(each[what] for each in alone) for what in ("rate", "p99"))
    told = f"{among[0]['rate']:.0f}/s, p99 {among[0]['p99']:.0f} ms; alone {rate:.0f}/s, {late:.0f} ms"
    return [
        Row(f"{count:,} silent connections within {took:.1f} s: others' new connections", "all served", told, True),
        at_most(f"{count:,} silent connections: memory of the edge for each", 100, grown / count / 1024, "KiB"),
        Row("the same in all", "bounded", f"{grown / MIB:.0f} MiB", True),
    ]


def _others(stand: Running) -> dict[str, float]:
    """A new connection for each request, for new ones suffer first."""
    found = run_ab(stand.folder, stand.ports["ext"], 1000, FRESH, keep=False)
    assert found is not None, "a request failed"
    return found


def measure(idle_count: int, silent_count: int) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, running(Path(name), {}, room) as stand:
        rows.append(idle(stand, idle_count))
    with tempfile.TemporaryDirectory() as name, running(Path(name), {}) as stand:
        rows += silent(stand, silent_count)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--silent", type=int, default=10_000)
    options = parser.parse_args()
    print(rendered(measure(options.idle, options.silent)))


if __name__ == "__main__":
    main()
