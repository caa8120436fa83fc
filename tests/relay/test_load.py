"""Many callers at once: who they are stays theirs, tunnels grow and shrink, limits are told."""

import contextlib
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.minting import mint
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import PATIENCE, Answer, Backend, Installation, read_answer

Fresh = Callable[..., Installation]
CALLERS = 12
LEAK_SECONDS = 60.0


@pytest.mark.timeout(LEAK_SECONDS + 120)
def test_an_identity_never_reaches_another_request(tmp_path: Path, backend: Backend) -> None:
    """A minute of callers with different certificates, kept, pipelined and fresh connections, over few tunnels."""
    pki, topology = forum_pki(), forum_topology(backend.port)
    names = [f"caller{number}" for number in range(CALLERS)]
    for name in names:
        pki[name] = mint(f"CN={name},O=Partner One", pki["partner-ca"])
        topology["users"].append({"name": name, "groups": ["Partners"]})
        topology["certificates"].append({"name": name, "certificate": f"pki/{name}.pem", "user": name})
    topology["ports"][2]["connections"] = {"min": 1, "spare": 1, "max": 3}
    installation = Installation(tmp_path, pki, topology)
    wrong: list[str] = []
    asked = [0] * 3
    end = time.monotonic() + LEAK_SECONDS
    enough = 100  # requests of each worker, however long they take

    def work(worker: int) -> None:
        chance = random.Random(worker)
        while (time.monotonic() < end or asked[worker] < enough) and not wrong:
            who = chance.choice([*names, None])
            with installation.connection("ext", who) as sock:
                stream = sock.makefile("rb")
                for _ in range(chance.randint(1, 12)):
                    requests = [
                        chance.choice([b"/orders", b"/open", b"/submit/x"]) for _ in range(chance.randint(1, 3))
                    ]
                    sock.sendall(b"".join(_request(target, chance) for target in requests))
                    for target in requests:
                        wrong.extend(_judge(read_answer(stream), target, who))
                        asked[worker] += 1

    try:
        installation.start("edge", "inside")
        installation.ready()
        workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        installation.close()
    assert not wrong
    assert min(asked) >= enough


def _request(target: bytes, chance: random.Random) -> bytes:
    more = b"X-Number: %d\r\n" % chance.randint(0, 3) if chance.random() < 0.5 else b""
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (target, more)


def _judge(answer: Answer, target: bytes, who: str | None) -> list[str]:
    """What is wrong with an answer to `who`."""
    if who is None and target != b"/open":
        right = answer.status == 401
    elif target == b"/submit/x":
        headers = dict(json.loads(answer.body)["headers"])
        right = headers["x-forwarded-user"] == who
    else:
        right = answer.json["user"] == (who or "Default")
    return [] if right else [f"{who} asked for {target!r} and got {answer.status} {answer.body[:200]!r}"]


@pytest.mark.timeout(180)
def test_tunnels_grow_with_the_load_and_shrink_when_it_is_over(fresh: Fresh, backend: Backend) -> None:
    """Sixty calls over `min: 1`, none of which ends before all of them have come to the backend at once."""
    calls = 60

    def change(topology: dict[str, Any]) -> None:
        topology["ports"][2]["connections"] = {"min": 1, "spare": 1, "max": 128}
        topology["ports"][0]["wait"] = "60s"
        topology["services"][2]["timeout"] = "60s"

    installation = fresh(change)
    original, all_there = backend.answer, threading.Barrier(calls)

    def together(handler: Any) -> None:
        all_there.wait(PATIENCE)
        original(handler)

    backend.answer = together  # type: ignore[method-assign]
    statuses: list[int] = []
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(installation.connection("ext", "alice")) for _ in range(calls)]
        try:
            for sock in sockets:
                sock.sendall(b"GET /submit/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            statuses = [read_answer(sock.makefile("rb")).status for sock in sockets]
        finally:
            backend.answer = original  # type: ignore[method-assign]
    assert statuses == [200] * calls, "each of them got a tunnel while the others had theirs"

    def tunnels() -> int:
        return sum(t["idle"] + t["busy"] for t in installation.state("edge")["tunnels"])

    installation.until(lambda: tunnels() <= 3, "surplus closes")
    assert installation.request("ext", "/orders", "alice").status == 200


def test_beyond_the_limit_on_connections_callers_are_told(fresh: Fresh) -> None:
    installation = fresh(lambda topology: topology["ports"][0].update(limits={"connections": 2}))
    with installation.connection("ext", "alice"), installation.connection("ext", "alice"):
        refused = installation.request("ext", "/orders", "alice")
        assert (refused.status, refused.json["reason"]) == (503, "overloaded")
        assert refused.headers["retry-after"] and refused.headers["connection"] == "close"
    installation.until(lambda: installation.request("ext", "/orders", "alice").status == 200, "there is room again")


def test_who_says_nothing_gives_way(fresh: Fresh) -> None:
    installation = fresh(lambda topology: topology["ports"][0].update(limits={"connections": 5}))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(installation.address("ext"), 30)) for _ in range(5)]
        installation.until(lambda: installation.request("ext", "/orders", "alice").status == 200, "one gives way")
        silent[0].settimeout(30)
        assert silent[0].recv(1) == b"", "the one that was silent for longest"


def test_a_request_that_takes_too_long_in_all_is_ended(fresh: Fresh, backend: Backend) -> None:
    installation = fresh(
        lambda topology: (
            topology["ports"][0].update(limits={"total_timeout": 1.0}),
            topology["services"][2].update(timeout="30s"),
        )
    )
    backend.release.clear()
    answer = installation.request("ext", "/submit/hang", "alice")
    backend.release.set()
    assert (answer.status, answer.json["reason"]) == (504, "backend_timeout")


def test_an_edge_that_takes_tunnels_and_drops_them_is_put_off(tmp_path: Path, backend: Backend) -> None:
    """Accepted with 101 and closed at once, again and again: seen, and put off. How long is `test_dialler`'s."""
    topology = forum_topology(backend.port)
    installation = Installation(tmp_path, forum_pki(), topology)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(installation.folder / "pki/edge-server.pem", installation.folder / "pki/edge-server.key")
    dialled: list[object] = []
    with socket.create_server(installation.address("reg")) as listening:
        listening.settimeout(0.2)
        stopping = threading.Event()

        def drop() -> None:
            while not stopping.is_set():
                with contextlib.suppress(OSError):
                    plain, _ = listening.accept()
                    with context.wrap_socket(plain, server_side=True) as sock:
                        sock.recv(4096)
                        sock.sendall(
                            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n"
                        )
                        dialled.append(plain)

        thread = threading.Thread(target=drop)
        thread.start()
        try:
            installation.start("inside")
            installation.until(lambda: len(dialled) >= 3, "it is dialled again")
            ended = "the registration port ended the tunnel as soon as it stood"
            assert ended in (installation.folder / "inside.log").read_text()
        finally:
            stopping.set()
            thread.join()
            installation.close()
