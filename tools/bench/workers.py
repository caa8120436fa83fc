"""What a second worker brings, in processor time: callers, backend and both nodes share the cores that are here.

    python -m tools.bench.workers [--requests 20000]

One process can do as many requests a second as fit into a second of its processor time. So a node with two workers
does, on two free cores, as many more as its busier worker needs less for the same requests than the one alone did. To
have both numbers under the same conditions, the node that is measured has one core for itself, whether it has one
worker or two, and callers, backend and the other node have the other. That leaves out what two cores take from each
other, caches and memory, which cannot be seen here.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.bench.memory import processor_seconds
from tools.bench.relay import run_ab, running
from tools.bench.table import TIMES, Row, at_least, at_most, rendered

CONNECTIONS = 256  # the kernel spreads connections over workers by chance: enough for chance to even out
NODES = ("edge", "inside")
ROUNDS = 3


def spent_by(node: str, workers: int, requests: int) -> list[float]:
    """Microseconds for a request of all, by worker of `node`, the busiest last."""
    own, *others = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as name,
        pinned(others or [own]),
        running(Path(name), dict.fromkeys(NODES, 1) | {node: workers}) as stand,
    ):
        pids = stand.pids(node)
        for pid in pids:
            os.sched_setaffinity(pid, [own])
        port = stand.ports["ext"]
        assert run_ab(stand.folder, port, 2000, CONNECTIONS, keep=True)
        rounds = []
        for _ in range(ROUNDS):
            before = [processor_seconds(pid) for pid in pids]
            assert run_ab(stand.folder, port, requests, CONNECTIONS, keep=True), "a request failed"
            after = [processor_seconds(pid) for pid in pids]
            rounds.append(sorted((b - a) / requests * 1e6 for a, b in zip(before, after, strict=True)))
        return min(rounds, key=sum)  # the one that others disturbed least


@contextmanager
def pinned(cores: list[int]) -> Iterator[None]:
    """What is started meanwhile runs on these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(requests: int) -> list[Row]:
    rows = []
    for node in NODES:
        (one,), two = spent_by(node, 1, requests), spent_by(node, 2, requests)
        told = f" ({one:.0f} µs a request; {' + '.join(f'{each:.0f}' for each in two)})"
        rows.append(at_least(f"{node}, two workers against one, by processor time", 1.6, one / two[-1], more=told))
        share = two[-1] / statistics.mean(two)
        rows.append(at_most(f"{node}: the busier worker's share over an even one", 1.2, share, TIMES))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    print(rendered(measure(parser.parse_args().requests)))


if __name__ == "__main__":
    main()
