"""What callers notice of a change, with few and with many objects configured: failed requests, and late ones.

    python -m tools.bench.applying [--changes 12]

Callers with kept connections ask all the time, as many as the cores have to spare. A change is a row that is changed
as the console does it; both nodes take it up by themselves. The half second before and after a node put it in force
is compared with the time between.
"""

import argparse
import asyncio
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import uvloop

from tools.bench.decision import SIZES, Sizes
from tools.bench.relay import ROOT, running
from tools.bench.table import TIMES, Row, at_most, rendered

CALLERS, PAUSE = 16, 0.01  # seconds between a caller's requests
APART = 4.0  # seconds from one change to the next
AROUND = 0.5  # seconds before and after a change was put in force that count as its time

REQUEST = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
Asked = list[tuple[float, float]]  # when it began (seconds since 1970-01-01 UTC), and seconds that it took


class Load:
    def __init__(self, folder: Path, port: int) -> None:
        self.asked: Asked = []
        self.failed: list[str] = []
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._context.load_cert_chain(folder / "alice.both")

    async def run(self, seconds: float) -> None:
        end = time.time() + seconds
        await asyncio.gather(*(self._call(end, number * PAUSE / CALLERS) for number in range(CALLERS)))

    async def _call(self, end: float, first: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
        await asyncio.sleep(first)
        try:
            while time.time() < end:
                began, clock = time.time(), time.perf_counter()
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                if not head.startswith(b"HTTP/1.1 200 "):
                    self.failed.append(head.decode().partition("\r\n")[0])
                self.asked.append((began, time.perf_counter() - clock))
                await asyncio.sleep(PAUSE)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.failed.append(repr(error))
        finally:
            writer.close()


def put_in_force(log: str) -> list[float]:
    """When a node put a revision in force, the first of each node left out."""
    found = re.findall(r"^(\S+) INFO node (\w+): revision \d+ is in force", log, re.MULTILINE)
    times, seen = [], set()
    for moment, node in found:
        if node in seen:
            times.append(datetime.fromisoformat(moment).timestamp())
        seen.add(node)
    return times


def late(asked: Asked) -> float:
    """The 99th percentile, in milliseconds."""
    return statistics.quantiles((seconds for _, seconds in asked), n=100)[98] * 1000


def measure_one(sizes: Sizes, changes: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filling: list[subprocess.Popen[str]] = []

        def fill(env: dict[str, str]) -> None:
            # What the console spends on a change is no matter of the nodes', which have it on other cores elsewhere.
            command = ["nice", sys.executable, "-m", "tools.bench.populate", *map(str, sizes)]
            process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)  # fmt: skip
            filling.append(process)
            assert process.stdout is not None and process.stdout.readline() == "filled\n"

        try:
            with running(folder, {}, prepare=fill) as stand:
                load = Load(folder, stand.ports["ext"])
                (changer,) = filling

                async def change() -> None:
                    for _ in range(changes):
                        await asyncio.sleep(APART)
                        assert changer.stdin is not None
                        changer.stdin.write("\n")
                        changer.stdin.flush()

                async def both() -> None:
                    await asyncio.gather(load.run(APART * (changes + 1)), change())

                uvloop.run(both())
                log = (folder / "log").read_text()
        finally:
            for process in filling:
                process.communicate()
    times = put_in_force(log)
    assert len(times) >= changes, f"{len(times)} of {changes} were taken up"
    around: Asked = []
    between: Asked = []
    for began, seconds in load.asked[CALLERS * 100 :]:  # the first second is the nodes' to warm up in
        near = any(moment - AROUND < began + seconds and began < moment + AROUND for moment in times)
        (around if near else between).append((began, seconds))
    what = f"a change under load, {sizes[0]:,} certificates"
    worst = max(seconds for _, seconds in around) * 1000
    more = f" (p99 {late(around):.1f} ms, {late(between):.1f} between; the latest {worst:.0f} ms)"
    return [
        Row(f"{what}: requests that fail", "none", f"{len(load.failed)} of {len(load.asked):,}", not load.failed),
        at_most(f"{what}: p99 in that second", 2, late(around) / late(between), TIMES, more),
    ]


def measure(changes: int) -> list[Row]:
    return [row for sizes in SIZES for row in measure_one(sizes, changes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=12)
    print(rendered(measure(parser.parse_args().changes)))


if __name__ == "__main__":
    main()
