"""Whatever breaks: the caller gets a right answer or a cut connection, nothing runs twice, nothing of it stays, and
the reason stands in log and metrics. One fault, one test, over real sockets."""

import contextlib
import json
import signal
import socket
import ssl
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.relay.control import call
from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Answer, Installation, read_answer
from tests.relay.liar import Liar
from tests.relay.test_leaks import head, open_files, settled, vanish

NODES = ("edge", "inside")
UPLOAD = 3_000_000  # bytes; more than all buffers on the way hold together
Told = tuple[int, str | None]  # status and reason

_numbers = count()


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    backend = Liar()
    yield backend
    backend.close()


def installed(folder: Path, liar: Liar) -> Installation:
    """Short timeouts, and a port without TLS or certificates beside the usual ones. Nothing runs yet."""
    topology = forum_topology(liar.port)
    topology["services"][2]["timeout"] = "1s"
    ext = next(port for port in topology["ports"] if port["name"] == "ext")
    ext["limits"] = {"header_timeout": 1.0, "body_timeout": 1.0}
    plain = ext | {"name": "plain", "bind": f"127.0.0.1:{free_port()}", "client_auth": "password"}
    del plain["tls"]
    topology["ports"].append(plain)
    topology["services"].append(topology["services"][2] | {"name": "lies", "path": "/lies", "execute_acl": "Anonymous"})
    return Installation(folder, forum_pki(), topology)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, liar: Liar) -> Iterator[Installation]:
    """Both nodes, with access logs. Whoever ends a node starts it again."""
    installation = installed(tmp_path_factory.mktemp("breaks"), liar)
    try:
        for node in NODES:
            start(installation, node)
        yield installation.ready()
    finally:
        installation.close()


def start(installation: Installation, node: str) -> None:
    installation.start(node, options=("--access-log", str(installation.folder / f"{node}.access")))


class Watched:
    """What a test looks at before and after its fault."""

    def __init__(self, installation: Installation, liar: Liar) -> None:
        self.installation, self.liar = installation, liar
        installation.until(lambda: settled(installation), "nothing is in flight before")
        assert installation.request("ext", self.path("well"), "alice").status == 200
        installation.until(lambda: settled(installation), "nothing is in flight before")
        self.files = open_files(installation)
        self.killed: set[str] = set()

    @staticmethod
    def path(way: str) -> str:
        """A path that no request had before."""
        return f"/submit/{way}/{next(_numbers)}"

    def kill(self, node: str) -> None:
        self.installation.stop(node, signal.SIGKILL)
        self.killed.add(node)

    def told(self, node: str, path: str) -> Told:
        """Status and reason in the node's access log, which its metrics count too."""
        log = self.installation.folder / f"{node}.access"
        found: list[dict[str, Any]] = []

        def lines() -> bool:
            found[:] = [line for line in map(json.loads, log.read_text().splitlines()) if line["path"] == path]
            return bool(found)

        self.installation.until(lines, f"{node} has logged {path}")
        assert len(found) == 1, "a request is one line"
        line = found[0]
        counted = call(self.installation.state_dir, node, {"op": "metrics"})["metrics"]["requests"]
        assert any(
            [row[0], row[2], row[3]] == [line["port"], line["status"], line["reason"] or ""] for row in counted
        ), counted
        return line["status"], line["reason"]

    def check(self) -> None:
        """All is as it was, and nobody gets what was another's."""
        installation = self.installation
        for node in self.killed:
            start(installation, node)
        installation.ready()
        installation.until(lambda: settled(installation), "nothing is in flight afterwards")
        for who in ("alice", "below"):
            path = self.path("well")
            answer = installation.request("ext", path, who)
            assert (answer.status, answer.json) == (200, {"path": path, "user": who, "size": 0})
        assert all(times == 1 for times in self.liar.begun.values()), "nothing runs twice"
        if not self.killed:
            installation.until(
                lambda: all(files <= self.files[node] + 3 for node, files in open_files(installation).items()),
                f"no more files are open than before: {self.files}, {open_files(installation)}",
            )


@pytest.fixture
def watched(standing: Installation, liar: Liar) -> Iterator[Watched]:
    watched = Watched(standing, liar)
    yield watched
    watched.check()


def outcome(sock: ssl.SSLSocket) -> Answer | None:
    """A whole answer; None where the connection was cut before there was one."""
    try:
        return read_answer(sock.makefile("rb"))
    except (OSError, ValueError):
        return None


# --- a node is killed ---


@pytest.mark.parametrize("node", NODES)
def test_killed_while_idle(watched: Watched, node: str) -> None:
    installation = watched.installation
    with installation.connection("ext", "alice") as sock:
        sock.sendall(head("/orders", method="GET"))
        first = outcome(sock)
        assert first is not None and first.status == 200
        watched.kill(node)
        with contextlib.suppress(OSError):
            sock.sendall(head("/orders", method="GET"))
        answer = outcome(sock)
    if node == "edge":
        assert answer is None
    else:
        assert answer is not None
        assert (answer.status, answer.json["reason"]) in (
            (502, "tunnel_lost"),
            (503, "no_internal_connection"),
        )


@pytest.mark.parametrize("node", NODES)
def test_killed_in_the_middle_of_a_request(watched: Watched, liar: Liar, node: str) -> None:
    path = watched.path("hangs")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, method="GET"))
        watched.installation.until(lambda: liar.begun[path] == 1, "the backend was asked")
        watched.kill(node)
        answer = outcome(sock)
    if node == "inside":
        assert answer is not None
        assert (answer.status, answer.json["reason"]) == (502, "tunnel_lost")
        assert watched.told("edge", path) == (502, "tunnel_lost")
    else:
        assert answer is None
        assert watched.told("inside", path) == (499, "client_gone")


@pytest.mark.parametrize("way", ["begins", "begins-chunked"])
@pytest.mark.parametrize("node", NODES)
def test_killed_in_the_middle_of_an_answer(watched: Watched, node: str, way: str) -> None:
    path = watched.path(way)
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, method="GET"))
        assert sock.recv(12) == b"HTTP/1.1 200"
        watched.kill(node)
        with pytest.raises((OSError, ValueError)):
            read_answer(Rest(sock.makefile("rb")))
    if node == "inside":
        assert watched.told("edge", path) == (200, "tunnel_lost")
    else:
        assert watched.told("inside", path) == (200, "client_gone")


class Rest:
    """An answer of which the first twelve bytes were read."""

    def __init__(self, stream: Any) -> None:
        self.read, self._stream, self._first = stream.read, stream, b"HTTP/1.1 200"

    def readline(self) -> bytes:
        first, self._first = self._first, b""
        return first + self._stream.readline()


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("node", NODES)
def test_killed_in_the_middle_of_an_upload(watched: Watched, liar: Liar, node: str, chunked: bool) -> None:
    path = watched.path("well")
    framing = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {UPLOAD}\r\n"
    part = b"x" * 100_000
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, framing) + (b"%x\r\n%b\r\n" % (len(part), part) if chunked else part))
        watched.installation.until(lambda: liar.begun[path] == 1, "the backend was asked")
        watched.kill(node)
        answer = outcome(sock)
    if node == "inside":
        assert answer is not None
        assert (answer.status, answer.json["reason"]) == (502, "tunnel_lost")
        assert watched.told("edge", path) == (502, "tunnel_lost")
    else:
        assert answer is None
        assert watched.told("inside", path) == (499, "client_gone")
    assert liar.whole[path] == 0, "what was cut did not look whole to the backend"


# --- a backend does wrong ---


@pytest.mark.parametrize(
    ("way", "status", "reason"),
    [
        ("hangs", 504, "backend_timeout"),
        ("hangs-up", 502, "backend_protocol_error"),
        ("no-http", 502, "backend_protocol_error"),
        ("endless-head", 502, "backend_protocol_error"),
    ],
)
def test_a_backend_that_gives_no_answer(watched: Watched, way: str, status: int, reason: str) -> None:
    path = watched.path(way)
    answer = watched.installation.request("ext", path, "alice")
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert watched.told("inside", path) == watched.told("edge", path) == (status, reason)


@pytest.mark.parametrize("way", ["too-short", "broken-chunk"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_backend_whose_answer_is_not_whole(watched: Watched, way: str, version: str) -> None:
    path = watched.path(way)
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(f"GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        assert outcome(sock) is None
    assert watched.told("inside", path) == (200, "backend_protocol_error")
    assert watched.told("edge", path) == (200, "tunnel_lost")


def test_an_answer_that_ends_with_the_connection_is_never_cut_to_a_shorter_one(watched: Watched) -> None:
    """Where nothing but the connection's end tells the answer's, and no TLS says that it was not meant: a reset."""
    path = watched.path("broken-chunk").replace("/submit/", "/lies/")
    with socket.create_connection(watched.installation.address("plain"), 10) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            while sock.recv(65536):
                pass
    assert watched.told("edge", path) == (200, "tunnel_lost")


@pytest.mark.parametrize("way", ["too-long", "twice"])
def test_what_a_backend_sends_beyond_its_answer_reaches_nobody(watched: Watched, way: str) -> None:
    for who in ("alice", "below"):
        path = watched.path(way)
        answer = watched.installation.request("ext", path, who)
        assert (answer.status, answer.body) == (200, b"{}")
        assert watched.told("edge", path) == (200, None)


@pytest.mark.parametrize("way", ["answers-early", "answers-early-and-reads"])
def test_a_backend_that_answers_before_it_has_the_body(watched: Watched, way: str) -> None:
    path = watched.path(way)
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, f"Content-Length: {UPLOAD}\r\n") + b"x" * 50_000)
        answer = outcome(sock)
        assert answer is not None
        # One that closes at once may reset the connection under its own answer.
        allowed = [200] if way == "answers-early-and-reads" else [200, 502]
        assert answer.status in allowed
        with contextlib.suppress(OSError):
            sock.sendall(head("/orders", method="GET") * 10)
        assert outcome(sock) is None, "the rest of the body is nobody's request"
    told = watched.told("edge", path)
    assert told == ((200, None) if answer.status == 200 else (502, "backend_protocol_error"))


# --- a caller does wrong ---


def test_a_caller_that_vanishes_before_its_answer(watched: Watched, liar: Liar) -> None:
    path = watched.path("hangs")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, method="GET"))
        watched.installation.until(lambda: liar.begun[path] == 1, "the backend was asked")
        vanish(sock)
    assert watched.told("edge", path) == watched.told("inside", path) == (499, "client_gone")


def test_a_caller_that_vanishes_in_its_answer(watched: Watched) -> None:
    path = watched.path("large")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, method="GET"))
        sock.recv(12)
        vanish(sock)
    assert watched.told("edge", path) == watched.told("inside", path) == (200, "client_gone")


def test_a_caller_that_vanishes_in_its_upload(watched: Watched, liar: Liar) -> None:
    path = watched.path("well")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, f"Content-Length: {UPLOAD}\r\n") + b"x" * 100_000)
        watched.installation.until(lambda: liar.begun[path] == 1, "the backend was asked")
        vanish(sock)
    assert watched.told("edge", path) == watched.told("inside", path) == (499, "client_gone")
    assert liar.whole[path] == 0


def test_a_caller_that_sends_its_head_byte_by_byte(watched: Watched) -> None:
    """The time that a head may take is counted from its first byte: sending now and then does not lengthen it."""
    with watched.installation.connection("ext", "alice") as sock:
        sock.settimeout(0.1)
        received = b""
        for byte in head("/orders", "X-Long: " + "x" * 1000 + "\r\n", method="GET"):
            try:
                sock.sendall(bytes([byte]))
                received += sock.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if received:
                break
    assert received.startswith(b"HTTP/1.1 408 ") and b'"request_timeout"' in received


def test_a_caller_that_stops_in_its_body(watched: Watched) -> None:
    path = watched.path("well")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, f"Content-Length: {UPLOAD}\r\n") + b"x" * 100_000)
        answer = outcome(sock)
    assert answer is not None
    assert (answer.status, answer.json["reason"]) == (408, "request_timeout")
    assert watched.told("edge", path) == (408, "request_timeout")


def test_a_caller_that_never_reads(watched: Watched) -> None:
    path = watched.path("large")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, method="GET"))
        assert watched.told("edge", path) == (200, "client_gone")
        with pytest.raises((OSError, ValueError)):
            read_answer(sock.makefile("rb"))


@pytest.mark.parametrize(
    "started",
    [
        b"Content-Length: 10\r\n\r\nhello",
        b"Content-Length: 100000000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
    ids=["sized", "nothing-of-much", "chunked"],
)
def test_a_caller_that_breaks_off_in_the_beginning_reaches_nobody(watched: Watched, liar: Liar, started: bytes) -> None:
    path = watched.path("well")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + started)
    assert watched.told("edge", path) == (499, "client_gone")
    assert liar.begun[path] == 0


def test_a_body_that_comes_in_drops_goes_on_all_the_same(watched: Watched, liar: Liar) -> None:
    path = watched.path("well")
    with watched.installation.connection("ext", "alice") as sock:
        sock.sendall(head(path, "Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n")
        watched.installation.until(lambda: liar.begun[path] == 1, "it is not held for ever")
        sock.sendall(b"0\r\n\r\n")
        answer = outcome(sock)
    assert answer is not None and answer.json["size"] == 5
