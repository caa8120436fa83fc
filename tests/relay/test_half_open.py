"""Packets that are dropped without a word: the connection stands for one side, or both, and leads nowhere.

Runs in a network namespace of its own, whose packets nftables drops. That takes root, `ip` and `nft`.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay.installation import Installation
from tests.relay.liar import Liar
from tests.relay.test_breaks import NODES, Watched, installed, outcome, start
from tests.relay.test_leaks import head

CLONE_NEWNET = 0x40000000  # sched(7)


class Network:
    """The namespace that this thread, and what it starts, is in."""

    def __init__(self) -> None:
        nft("add table inet faults", "add chain inet faults in { type filter hook input priority 0 ; }")

    def drop(self, port: int) -> None:
        """All packets to and from a TCP port."""
        nft(*(f"add rule inet faults in tcp {side} {port} drop" for side in ("dport", "sport")))

    def mend(self) -> None:
        nft("flush chain inet faults in")


def nft(*commands: str) -> None:
    subprocess.run(["nft", "-f", "-"], input="\n".join(commands).encode() + b"\n", check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found; apt-get install iproute2 nftables")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            pytest.skip(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}; it takes root")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield Network()
    finally:
        libc.setns(before, CLONE_NEWNET)
        os.close(before)


@pytest.fixture
def liar(network: Network) -> Iterator[Liar]:
    backend = Liar()
    yield backend
    backend.close()


@pytest.fixture
def installation(tmp_path: Path, liar: Liar) -> Iterator[Installation]:
    installation = installed(tmp_path, liar)
    try:
        for node in NODES:
            start(installation, node)
        yield installation.ready()
    finally:
        installation.close()


def test_a_tunnel_that_leads_nowhere(installation: Installation, liar: Liar, network: Network) -> None:
    watched = Watched(installation, liar)
    waiting, reading = watched.path("hangs"), watched.path("begins")
    with installation.connection("ext", "alice") as waits, installation.connection("ext", "alice") as reads:
        reads.sendall(head(reading, method="GET"))
        assert reads.recv(12) == b"HTTP/1.1 200"
        waits.sendall(head(waiting, method="GET"))
        installation.until(lambda: liar.begun[waiting] == 1, "the backend was asked")
        network.drop(installation.address("reg")[1])
        # Who waits is told when a ping goes unanswered. What was being answered is the kernel's to find out.
        answer = outcome(waits)
        assert answer is not None
        assert (answer.status, answer.json["reason"]) == (502, "tunnel_lost")
        assert watched.told("edge", waiting) == (502, "tunnel_lost")
        answer = installation.request("ext", watched.path("well"), "alice")
        assert (answer.status, answer.json["reason"]) == (503, "no_internal_connection")
        with pytest.raises(OSError):
            while reads.recv(65536):
                pass
    assert watched.told("edge", reading) == (200, "tunnel_lost")
    assert watched.told("inside", reading) == (200, "client_gone")
    network.mend()
    watched.check()


def test_a_caller_whom_nothing_reaches(installation: Installation, liar: Liar, network: Network) -> None:
    watched = Watched(installation, liar)
    path = watched.path("large")
    with installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, method="GET"))
        assert sock.recv(12) == b"HTTP/1.1 200"
        network.drop(installation.address("ext")[1])
        assert watched.told("edge", path) == watched.told("inside", path) == (200, "client_gone")
        network.mend()
    watched.check()
