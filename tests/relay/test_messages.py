"""Messages of every kind through both nodes, byte for byte: what callers get, and what backends are sent."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Answer, Installation, read_answer
from tests.relay.liar import Liar


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    backend = Liar()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, liar: Liar) -> Iterator[Installation]:
    topology = forum_topology(liar.port)
    topology["services"][2]["trailers"] = ["X-Sum"]
    installation = Installation(tmp_path_factory.mktemp("messages"), forum_pki(), topology)
    try:
        installation.start("edge", "inside")
        yield installation.ready()
    finally:
        installation.close()


class Caller:
    """One kept connection, seen byte by byte."""

    def __init__(self, sock: Any) -> None:
        self.sock, self.stream = sock, sock.makefile("rb")

    def say(self, lines: str, body: bytes = b"") -> None:
        self.sock.sendall(lines.strip().replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    def head(self) -> list[str]:
        """The lines of the next head."""
        lines = []
        while (line := self.stream.readline()) not in (b"\r\n", b""):
            lines.append(line.decode().rstrip("\r\n"))
        return lines

    def answer(self, method: str = "GET") -> Answer:
        return read_answer(self.stream, method)

    def is_kept(self) -> bool:
        """Whether the next request on the connection is answered, and by its own answer."""
        self.say("GET /orders HTTP/1.1\nHost: localhost")
        answer = self.answer()
        return answer.status == 200 and answer.json["user"] == "alice"

    def ended(self) -> bool:
        with contextlib.suppress(OSError):
            return self.stream.read(1) == b""
        return True


@pytest.fixture
def caller(installation: Installation) -> Iterator[Caller]:
    with installation.connection("ext", "alice") as sock:
        yield Caller(sock)


def test_the_body_is_asked_for_once_somebody_takes_it(caller: Caller, liar: Liar) -> None:
    caller.say("POST /submit/well/continue HTTP/1.1\nHost: localhost\nContent-Length: 5\nExpect: 100-continue")
    assert caller.head() == ["HTTP/1.1 100 Continue"]
    assert liar.whole["/submit/well/continue"] == 0
    caller.sock.sendall(b"hello")
    assert caller.answer().json["size"] == 5
    assert caller.is_kept()


def test_the_body_of_a_refused_request_is_not_asked_for(installation: Installation) -> None:
    with installation.connection("ext", "stranger") as sock:
        caller = Caller(sock)
        caller.say("POST /submit/well/refused HTTP/1.1\nHost: localhost\nContent-Length: 5\nExpect: 100-continue")
        assert caller.head()[0].startswith("HTTP/1.1 100 "), (
            "the edge asks for it: it is the internal node that decides"
        )
        caller.sock.sendall(b"hello")
        assert caller.answer().status == 403


def test_trailers_that_a_service_lists_go_through_both_ways(caller: Caller) -> None:
    caller.say(
        "POST /submit/as-it-came/trailers HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\nTE: trailers",
        b"5\r\nhello\r\n0\r\nX-Sum: 7\r\nX-Other: 8\r\nX-Forwarded-User: eve\r\n\r\n",
    )
    head = caller.head()
    assert head[0] == "HTTP/1.1 200 OK" and "Transfer-Encoding: chunked" in head
    size = int(caller.stream.readline(), 16)
    body = caller.stream.read(size)
    assert b'"trailers": "X-Sum: 7\\r\\n"' in body, "to the backend"
    assert caller.stream.readline() == b"\r\n"
    assert [caller.stream.readline() for _ in range(3)] == [b"0\r\n", b"X-Sum: 1\r\n", b"\r\n"], "and back"
    assert caller.is_kept()


@pytest.mark.parametrize("which", ["sized", "chunked"])
def test_an_answer_to_head_has_no_body(caller: Caller, which: str) -> None:
    caller.say(f"HEAD /submit/headless/{which} HTTP/1.1\nHost: localhost")
    head = caller.head()
    assert head[0] == "HTTP/1.1 200 OK"
    if which == "sized":
        assert "Content-Length: 1000" in head
    assert caller.is_kept()


def test_no_content_has_no_length_and_no_body(caller: Caller) -> None:
    caller.say("GET /submit/no-content/1 HTTP/1.1\nHost: localhost")
    head = caller.head()
    assert head[0] == "HTTP/1.1 204 No Content"
    assert not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in head)
    assert caller.is_kept()


def test_not_modified_keeps_its_length_and_has_no_body(caller: Caller) -> None:
    caller.say('GET /submit/not-modified/1 HTTP/1.1\nHost: localhost\nIf-None-Match: "1"')
    head = caller.head()
    assert head[0] == "HTTP/1.1 304 Not Modified" and 'ETag: "1"' in head
    assert "Content-Length: 1000" in head, "of what was not sent (RFC 9110, section 8.6)"
    assert caller.is_kept()


def test_what_a_backend_says_in_between_is_not_the_answer(caller: Caller) -> None:
    caller.say("GET /submit/hints-first/1 HTTP/1.1\nHost: localhost")
    assert caller.answer().json == {"path": "/submit/hints-first/1"}
    assert caller.is_kept()


def test_requests_with_bodies_may_be_pipelined(caller: Caller) -> None:
    one = "POST /submit/well/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    two = "POST /submit/well/{} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    kinds = [(one, 3), (two, 2), (one, 3), (two, 2)]
    caller.sock.sendall("".join(text.format(f"pipe{number}") for number, (text, _) in enumerate(kinds)).encode())
    for number, (_, size) in enumerate(kinds):
        answer = caller.answer().json
        assert (answer["path"], answer["size"]) == (f"/submit/well/pipe{number}", size)


def test_http_1_0_ends_the_connection_unless_it_asks_otherwise(installation: Installation) -> None:
    with installation.connection("ext", "alice") as sock:
        caller = Caller(sock)
        caller.say("GET /orders HTTP/1.0\nHost: localhost\nConnection: keep-alive")
        answer = caller.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")
        caller.say("GET /orders HTTP/1.0\nHost: localhost")
        assert caller.answer().headers["connection"] == "close"
        assert caller.ended()


def test_an_answer_of_unknown_length_to_http_1_0_ends_with_the_connection(caller: Caller) -> None:
    caller.say("GET /submit/as-it-came/old HTTP/1.0\nHost: localhost\nConnection: keep-alive")
    head = caller.head()
    assert "Connection: close" in head
    assert not any(line.lower().startswith("transfer-encoding") for line in head)
    assert caller.stream.read().startswith(b'{"headers"')
