"""Ports of this host that nobody has: for what a test starts, which has to be told where to listen.

They lie below those that the kernel gives to whoever dials, so that no connection takes one before it is listened at;
and none is given twice, for two that are asked for one after the other may be for one node.
"""

import os
import random
import socket
from collections.abc import Iterator

FIRST, EACH = 10_000, 5_000  # what one worker has to give; the kernel's own begin at 32,768
WORKERS = 4


def _mine() -> Iterator[int]:
    """This process's, from anywhere among them: another run may be at work on the same host."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    begin = random.SystemRandom().randrange(EACH)  # tests seed the common one
    while True:
        for number in range(EACH):
            yield FIRST + worker * EACH + (begin + number) % EACH


_ports = _mine()


def free_port() -> int:
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is no end of them")


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"
