"""Sixty calls of a second each, over a single tunnel to begin with: when the last of them has its answer.

    python -m tools.bench.elastic

Each call is a caller of its own; his handshake counts.
"""

import asyncio
import re
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from tools.bench.relay import Running, running
from tools.bench.table import Row, at_most, rendered

CALLS = 60
SECONDS = 4  # for all of them
REQUEST = b"GET /bulk?after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def single(topology: dict[str, Any], ports: dict[str, int]) -> None:
    """One tunnel, and one to spare."""
    dial = next(port for port in topology["ports"] if port["name"] == "dial")
    dial["connections"] = {"min": 1, "spare": 1, "max": 128}


async def all_at_once(stand: Running) -> list[bytes]:
    """What each of the callers is answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(stand.folder / "alice.both")

    async def call() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.ports["ext"], ssl=context)
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        writer.close()
        return head.partition(b"\r\n")[0]

    return await asyncio.gather(*(call() for _ in range(CALLS)))


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name, running(Path(name), {}, single) as stand:
        began = time.perf_counter()
        answers = uvloop.run(all_at_once(stand))
        took = time.perf_counter() - began
    refused = sum(not answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    what = f"{CALLS} calls of a second over one tunnel to begin with"
    return [
        at_most(f"{what}: the last has ended after", SECONDS, took, "s"),
        Row(f"{what}: refused", "none", str(refused), not refused),
    ]


def main() -> None:
    print(rendered(measure()))


if __name__ == "__main__":
    main()
