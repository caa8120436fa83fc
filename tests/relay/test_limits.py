"""The limits of a port, each over real sockets: who goes beyond one is told which, and nobody else notices."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Installation
from tests.relay.liar import Liar
from tests.relay.test_leaks import head, settled
from tests.relay.test_messages import Caller

LIMITS = {
    "header_bytes": 2000, "header_fields": 12, "target_bytes": 200, "body_bytes": 1000,
    "connections_per_address": 6, "requests": 2,
}  # fmt: skip
SHORT = {"handshake_timeout": 2.0, "idle_timeout": 2.0}  # of a port of its own: nobody else is to hurry


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    backend = Liar()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, liar: Liar) -> Iterator[Installation]:
    topology = forum_topology(liar.port)
    topology["services"][2]["timeout"] = "30s"
    ext = topology["ports"][0]
    topology["ports"].append(ext | {"name": "brief", "bind": f"127.0.0.1:{free_port()}", "limits": SHORT})
    ext["limits"] = LIMITS
    installation = Installation(tmp_path_factory.mktemp("limits"), forum_pki(), topology)
    try:
        installation.start("edge", "inside")
        yield installation.ready()
    finally:
        installation.close()


@pytest.fixture
def installation(standing: Installation) -> Iterator[Installation]:
    standing.until(lambda: settled(standing), "nobody is there")
    yield standing
    assert standing.request("ext", "/orders", "alice").status == 200


@pytest.mark.parametrize(
    ("target", "headers", "body", "status", "reason"),
    [
        pytest.param("/orders", {"X-Long": "x" * 3000}, b"", 431, "headers_too_large", id="bytes-of-a-head"),
        pytest.param("/orders", {f"X-{n}": "1" for n in range(15)}, b"", 431, "headers_too_large", id="fields"),
        pytest.param("/orders?" + "x" * 300, {}, b"", 414, "uri_too_long", id="target"),
        pytest.param("/submit/well/sized", {}, b"x" * 1001, 413, "body_too_large", id="body"),
    ],
)
def test_a_message_beyond_a_limit(
    installation: Installation, target: str, headers: dict[str, str], body: bytes, status: int, reason: str
) -> None:
    answer = installation.request("ext", target, "alice", method="POST" if body else "GET", headers=headers, body=body)
    assert (answer.status, answer.json["reason"]) == (status, reason)


def test_a_body_whose_length_is_not_told_is_counted_as_it_comes(installation: Installation, liar: Liar) -> None:
    with installation.connection("ext", "alice") as sock:
        caller = Caller(sock)
        piece = b"1f4\r\n" + b"x" * 500 + b"\r\n"
        caller.say("POST /submit/well/chunked HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", piece * 3)
        answer = caller.answer()
    assert (answer.status, answer.json["reason"]) == (413, "body_too_large")
    assert liar.whole["/submit/well/chunked"] == 0


def test_requests_in_flight(installation: Installation, liar: Liar) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(2):
            sock = stack.enter_context(installation.connection("ext", "alice"))
            sock.sendall(head(f"/submit/hangs/{number}", method="GET"))
            installation.until(lambda number=number: liar.begun[f"/submit/hangs/{number}"] == 1, "it is in flight")
        answer = installation.request("ext", "/orders", "alice")
        assert (answer.status, answer.json["reason"]) == (503, "overloaded")
        assert answer.headers["retry-after"]
    installation.until(lambda: settled(installation), "they are let go")


def test_connections_of_one_address(installation: Installation) -> None:
    limit = LIMITS["connections_per_address"]
    with contextlib.ExitStack() as stack:
        for _ in range(int(limit)):
            stack.enter_context(installation.connection("ext", "alice"))
        answer = installation.request("ext", "/orders", "alice")
        assert (answer.status, answer.json["reason"]) == (503, "overloaded")
        assert answer.headers["retry-after"]
        with socket.socket() as plain:  # another address has room
            plain.bind(("127.0.3.1", 0))
            plain.connect(installation.address("ext"))
            with installation.context("alice").wrap_socket(plain, server_hostname="localhost") as sock:
                caller = Caller(sock)
                assert caller.is_kept()
                caller.stream.close()


def test_a_handshake_that_does_not_come(installation: Installation) -> None:
    with socket.create_connection(installation.address("brief"), 30) as plain:
        assert plain.recv(1) == b"", "ended by the node"


def test_a_connection_that_is_idle(installation: Installation) -> None:
    with installation.connection("brief", "alice") as sock:
        caller = Caller(sock)
        assert caller.is_kept()
        assert caller.stream.read() == b"", "ended by the node, and properly"
        caller.stream.close()
