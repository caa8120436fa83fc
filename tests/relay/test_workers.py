"""A node on its own machine in several processes: one enrolment, one link, one configuration; the work is shared."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import Statement
from gateway.core.difference import difference
from gateway.relay import frames, link
from gateway.relay.control import call, socket_path
from gateway.relay.link import Asker
from gateway.relay.siblings import Siblings
from gateway.relay.statefolder import StateFolder
from identity.core.authority import Pair
from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.console import Console, document
from tests.relay.installation import Backend
from tests.relay.remote import POSTERN_NODE, RemoteInstallation

pytestmark = pytest.mark.timeout(240)  # several processes are started, one after the other

LINKS = 24  # which worker a connection comes to is the kernel's choice: of so many, every one gets some


@pytest.fixture
def make(backend: Backend) -> Iterator[Callable[[], RemoteInstallation]]:
    """Edge and internal node are enrolled; the edge runs in three processes, the other in two."""
    made: list[RemoteInstallation] = []
    with tempfile.TemporaryDirectory(prefix="postern-") as folder:  # paths short enough for sockets

        def one() -> RemoteInstallation:
            made.append(RemoteInstallation(Path(folder), forum_pki(), forum_topology(backend.port)))
            made[-1].start_courier()
            for name, workers in (("edge", "3"), ("inside", "2")):
                made[-1].enrol(name)
                made[-1].run(name, options=("--workers", workers))
            return made[-1]

        yield one
        for installation in made:
            installation.close()


def children(installation: RemoteInstallation, name: str) -> list[int]:
    parent = installation.nodes[name].pid
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def all_reached(installation: RemoteInstallation, least: int) -> bool:
    """Either worker inside has a tunnel to each of the edge's."""
    told = call(installation.folder_of("edge"), "edge", {"op": "state"})
    return sum(tunnel["idle"] + tunnel["busy"] for tunnel in told["tunnels"]) >= least


def lacking(status: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://{status}/readyz", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        told = json.load(error)
        assert error.code == 503
        error.close()
    missing: list[str] = told["missing"]
    return missing


def test_workers_of_a_remote_node_share_its_ports_and_its_configuration(
    make: Callable[[], RemoteInstallation],
) -> None:
    installation = make().linked("edge", "inside")
    assert (len(children(installation, "edge")), len(children(installation, "inside"))) == (2, 1)
    installation.until(lambda: all_reached(installation, 6), "either worker inside has a tunnel to each of the three")
    # Told to open its access log anew a node that writes none does nothing, and above all does not end.
    for pid in (installation.nodes["edge"].pid, *children(installation, "edge")):
        os.kill(pid, signal.SIGHUP)
    for _ in range(LINKS):
        answer = installation.request("ext", "/orders", "alice")
        assert (answer.status, answer.json["user"]) == (200, "alice")
    # A change comes to the first alone, and is in force in all of them.
    stored = next(row for row in installation.topology["certificates"] if row["name"] == "stranger")
    stored["user"] = "alice"
    before = installation.revision("edge")
    installation.apply()
    installation.until(
        lambda: all(installation.revision(name) not in (None, before) for name in ("edge", "inside")),
        "the change is in force",
    )  # the least of its workers' is what a node tells
    assert {installation.request("ext", "/orders", "stranger").status for _ in range(LINKS)} == {200}
    # Without a console they start again from what the first keeps.
    installation.stop_courier(signal.SIGKILL)
    status = f"127.0.0.1:{free_port()}"
    for name, more in (("edge", ("--status", status)), ("inside", ())):
        assert installation.stop(name) == 0, installation.logs()
        installation.run(name, options=("--workers", "2", *more))

    def serves() -> bool:
        try:
            return all(installation.request("ext", "/orders", "stranger").status == 200 for _ in range(LINKS))
        except OSError:
            return False

    installation.until(serves, "all workers serve by the last good configuration")
    installation.until(lambda: all_reached(installation, 4), "all reach each other again")
    # Ready is a node that is in each of its workers.
    assert lacking(status) == []
    (sibling,) = children(installation, "edge")
    os.kill(sibling, signal.SIGSTOP)
    assert lacking(status) == ["worker 1: it does not answer"]
    os.kill(sibling, signal.SIGCONT)
    assert lacking(status) == []
    # Each keeps its connection to the backend, and closes it when it stops: what is left open is an error there.
    answers = [installation.request("ext", "/submit", "alice") for _ in range(LINKS)]
    assert {answer.status for answer in answers} == {200}, answers
    assert [installation.stop(name) for name in ("edge", "inside")] == [0, 0], installation.logs()


_CONSOLE = """
import json
from gateway.models import Authority
row = Authority.objects.get()
print(json.dumps([row.certificate, row.console.certificate, row.console.key]))
"""


def test_the_console_s_link_may_come_to_any_worker(make: Callable[[], RemoteInstallation]) -> None:
    installation = make().linked("edge", "inside")
    authority, *pair = json.loads(installation.manage("shell", "-v0", "-c", _CONSOLE))
    console = Pair(*pair)
    host, port = installation.address("reg")

    async def one() -> int:
        reader, writer = await asyncio.open_connection(host, port, ssl=link.unverified(console))
        writer.write(link.upgrade(host))
        link.check_upgraded(await reader.readuntil(b"\r\n\r\n"))
        await writer.start_tls(link.context(console, authority, server=False))
        asker = Asker(reader, writer)
        reading = asyncio.create_task(asker.run())
        try:
            return int((await asker.ask({"op": "hello", "revision": 0}, timeout=30))["revision"])
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await link.closed(writer)

    async def scene() -> set[int]:
        return {await one() for _ in range(LINKS)}

    assert asyncio.run(scene()) == {installation.revision("edge")}, "it is the first that answers"


@pytest.mark.parametrize("which", [0, 1], ids=["a-sibling", "the-last-sibling"])
def test_a_worker_that_dies_ends_the_node_so_that_it_is_started_again(
    make: Callable[[], RemoteInstallation], which: int
) -> None:
    installation = make().linked("edge", "inside")
    os.kill(children(installation, "edge")[which], signal.SIGKILL)
    assert installation.nodes.pop("edge").wait(20) == 1
    assert f"worker {which + 1} has ended" in (installation.folder / "edge.log").read_text()


def test_siblings_end_with_the_first(make: Callable[[], RemoteInstallation]) -> None:
    """Killed, it can ask nobody to stop: the end of the feed does."""
    installation = make().linked("edge", "inside")
    siblings = children(installation, "edge")
    installation.nodes["edge"].kill()
    installation.nodes.pop("edge").wait(20)
    installation.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in siblings), "they are gone")


@pytest.mark.parametrize("workers", ["0", "65", "two"])
def test_a_number_of_workers_that_cannot_be_is_refused(tmp_path: Path, workers: str) -> None:
    done = subprocess.run(
        [*POSTERN_NODE, "run", "--state", str(tmp_path), "--workers", workers], capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 2 and "--workers: give a number from 1 to 64" in done.stderr


def test_a_sibling_that_fell_behind_is_given_the_whole(tmp_path: Path) -> None:
    console, ended = Console(), asyncio.Event()
    folder = StateFolder(tmp_path)
    console.enrolled(folder)

    def statement(revision: int, stands_on: str, digest: str) -> Statement:
        return Statement("edge", revision, stands_on, digest, 0)

    def revision() -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(socket_path(tmp_path, "edge", 1)))
            sock.sendall(frames.encode({"op": "state"}))
            answer = frames.receive(sock)
        assert answer is not None
        return int(answer["revision"])

    async def scene() -> None:
        siblings = Siblings(tmp_path, "edge", 2, access_log="", ended=ended.set)
        await siblings.start()
        try:
            assert await siblings.give(document(1), "one") == ""
            assert await asyncio.to_thread(revision) == 1
            broken = document(2, services={"s": {"path": "/"}})
            said = await siblings.follow(json.dumps(broken).encode(), statement(2, "", "two"), broken)
            assert said.startswith("worker 1: services[s]") and await asyncio.to_thread(revision) == 1
            # The first took it, as it happens: what stands on it is not for this sibling.
            change = json.dumps(difference(document(2), document(3))).encode()
            made = statement(3, "two", "three")
            assert await siblings.follow(change, made, document(3)) == ""
            assert await asyncio.to_thread(revision) == 3
            siblings.summed_up(made.digest, "summed up")
            change = json.dumps(difference(document(3), document(4))).encode()
            assert await siblings.follow(change, statement(4, "summed up", "four"), document(1)) == ""
            assert await asyncio.to_thread(revision) == 4, "the difference came, not the whole"
        finally:
            siblings.stop()
            await siblings.closed()
        assert siblings.status == 0 and not ended.is_set()

    asyncio.run(scene())
