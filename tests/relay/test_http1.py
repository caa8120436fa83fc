"""Messages from bytes: what is read, whichever way the bytes were cut, and what is refused."""

import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import MessageError
from gateway.core.headers import Fields
from gateway.core.limits import Limits
from gateway.core.reasons import GatewayReason
from gateway.relay.handshake import Accepted, Handshake, HandshakeRefused
from gateway.relay.heads import NOTHING, ON_TUNNEL, Head, new_memo
from gateway.relay.request_parser import RequestParser
from gateway.relay.response_parser import Answer, ResponseParser
from gateway.relay.writing import trace_line

HOST = b"Host: a.example\r\n"


class Seen:
    """Notes what a parser tells."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def request_head(self, head: Head) -> None:
        self.events.append((head.method, head.target, tuple(head.fields), head.length, head.keep_alive, head.host))

    def request_data(self, data: bytes) -> None:
        self._data(data)

    def request_end(self, trailers: Fields) -> None:
        self.events.append(("end", tuple(trailers)) if trailers else "end")

    def response_head(self, status: int, fields: Fields, length: int | None, keep_alive: bool) -> None:
        self.events.append((status, length, keep_alive))

    def response_data(self, data: bytes) -> None:
        self._data(data)

    def response_end(self, trailers: Fields) -> None:
        self.events.append(("end", tuple(trailers)) if trailers else "end")

    def request(self, head: Head, trace_id: str, body: bytes) -> None:
        self.request_head(head)
        if body:
            self.request_data(body)
        self.request_end([])

    def response(self, answer: Answer, body: bytes) -> None:
        self.response_head(answer.status, answer.fields, answer.length, answer.keep_alive)
        if body:
            self.response_data(body)
        self.response_end([])

    def switched(self, fields: Fields, rest: bytes) -> None:
        self.events.append(("switched", rest))

    def _data(self, data: bytes) -> None:
        if self.events and isinstance(self.events[-1], bytearray):
            self.events[-1] += data
        else:
            self.events.append(bytearray(data))


def read(*pieces: bytes, speaks: frozenset[bytes] = frozenset(), limits: Limits | None = None) -> list[Any]:
    seen = Seen()
    parser = RequestParser(seen, limits or Limits(), speaks)
    for piece in pieces:
        parser.feed(piece)
    return seen.events


def refusal(*pieces: bytes, **more: Any) -> object:
    with pytest.raises(MessageError) as caught:
        read(*pieces, **more)
    return caught.value.reason


requests = st.sampled_from([
    b"GET /a?b HTTP/1.1\r\n" + HOST + b"X: y\r\n\r\n",
    b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n",
    b"GET http://b.example/x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
])  # fmt: skip


@given(st.lists(requests, min_size=1, max_size=3).map(b"".join), st.lists(st.integers(0, 400), max_size=6).map(sorted))
def test_how_the_bytes_are_cut_makes_no_difference(message: bytes, cuts: list[int]) -> None:
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    assert read(*filter(None, pieces)) == read(message)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", GatewayReason.REQUEST_MALFORMED, id="no-host"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST * 2 + b"\r\n", GatewayReason.REQUEST_MALFORMED, id="two-hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", GatewayReason.REQUEST_MALFORMED, id="a-host-with-a-blank"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", GatewayReason.REQUEST_MALFORMED, id="a-host-with-a-user"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", GatewayReason.REQUEST_MALFORMED, id="space-before-colon"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", GatewayReason.REQUEST_MALFORMED,
                     id="folded"),
        pytest.param(b"GET / HTTP/1.1\n" + HOST + b"\r\n", GatewayReason.REQUEST_MALFORMED, id="bare-line-feed"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00\r\n\r\n", GatewayReason.REQUEST_MALFORMED, id="nul"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x01\r\n\r\n", GatewayReason.REQUEST_MALFORMED, id="control"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                     GatewayReason.REQUEST_MALFORMED, id="both-lengths"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
                     GatewayReason.REQUEST_MALFORMED, id="the-same-length-twice"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", GatewayReason.REQUEST_MALFORMED,
                     id="a-signed-length"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na", GatewayReason.REQUEST_MALFORMED,
                     id="a-list-of-lengths"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer_Encoding: chunked\r\n\r\n",
                     GatewayReason.REQUEST_MALFORMED, id="an-underscored-coding"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Content_Length: 3\r\n\r\n", GatewayReason.REQUEST_MALFORMED,
                     id="an-underscored-length"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
                     GatewayReason.NOT_IMPLEMENTED, id="another-coding"),
        pytest.param(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
                     GatewayReason.REQUEST_MALFORMED, id="a-bad-chunk-size"),
        pytest.param(b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
                     GatewayReason.REQUEST_MALFORMED, id="chunked-in-1.0"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Host\r\n\r\n", GatewayReason.REQUEST_MALFORMED,
                     id="connection-names-host"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Authorization\r\n\r\n",
                     GatewayReason.REQUEST_MALFORMED, id="connection-names-authorization"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: a\r\nAuthorization: b\r\n\r\n",
                     GatewayReason.REQUEST_MALFORMED, id="two-authorizations"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"Expect: cake\r\n\r\n", GatewayReason.EXPECTATION_FAILED,
                     id="another-expectation"),
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", GatewayReason.URI_TOO_LONG,
                     id="long-target"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 128 + b"\r\n", GatewayReason.HEADERS_TOO_LARGE,
                     id="many-fields"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 70_000, GatewayReason.HEADERS_TOO_LARGE,
                     id="a-large-field-that-does-not-end"),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_refused(message: bytes, reason: GatewayReason) -> None:
    assert refusal(message) is reason


def test_a_head_that_is_too_large_is_refused_however_it_comes() -> None:
    head = b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 3000 + b"\r\n\r\n"
    for cut in (0, 1, 40, 1500, len(head) - 1):
        pieces = filter(None, [head[:cut], head[cut:]])
        assert refusal(*pieces, limits=Limits(header_bytes=3000)) is GatewayReason.HEADERS_TOO_LARGE


def test_a_body_is_no_part_of_its_head_nor_of_the_next() -> None:
    post = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9000\r\n\r\n" + b"x" * 9000
    get = b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 800 + b"\r\n\r\n"
    limits = Limits(header_bytes=1000)
    assert read(post + get, limits=limits)[-1] == "end"
    assert read(post + get[:500], get[500:] + get, limits=limits).count("end") == 3
    assert read(post[:100], post[100:] + get[:500], get[500:], limits=limits).count("end") == 2


IDENTITY = ["Client-Cert", "client_cert", "X-Forwarded-Client-Cert", "X-Forwarded-User", "X_Forwarded_User",
            "X-SSL-Client-Verify", "ssl-client-cert", "Remote-User", "X-Client-Cert", "Postern-Assertion",
            "Postern-Peer", "postern_identity", "X-Amzn-Mtls-Clientcert", "Cf-Access-Jwt-Assertion",
            "X-ARR-ClientCert", "CloudFront-Viewer-Cert-Subject", "X.Forwarded.User",
            "wmIS-SAML2-Assertion"]  # fmt: skip


@pytest.mark.parametrize("name", IDENTITY)
def test_identity_fields_never_go_on(name: str) -> None:
    message = b"GET / HTTP/1.1\r\n" + HOST + name.encode() + b": forged\r\nX: y\r\n\r\n"
    ((_, _, fields, *_), _end) = read(message)
    assert fields == ((b"X", b"y"),)


def test_only_on_a_tunnel_do_they_speak_and_only_in_their_one_spelling() -> None:
    class Heads(Seen):
        def request_head(self, head: Head) -> None:
            self.events.append(head.spoken)

    seen = Heads()
    message = b"GET / HTTP/1.1\r\n" + HOST + b"Postern-Peer: 192.0.2.1\r\nPostern_Peer: 192.0.2.2\r\n\r\n"
    RequestParser(seen, Limits(), ON_TUNNEL).feed(message)
    assert seen.events[0] == {b"postern-peer": b"192.0.2.1"}
    twice = b"GET / HTTP/1.1\r\n" + HOST + b"Postern-Peer: a\r\n" * 2 + b"\r\n"
    assert refusal(twice, speaks=ON_TUNNEL) is GatewayReason.REQUEST_MALFORMED


def test_what_connection_names_is_taken_off() -> None:
    message = (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nKeep: 2\r\n\r\n"
    )
    ((_, _, fields, _, keep_alive, _), _end) = read(message)
    assert fields == ((b"Keep", b"2"),)
    assert keep_alive is False


def answers(method: str, *pieces: bytes, eof: bool = False) -> list[Any]:
    seen = Seen()
    parser = ResponseParser(seen)
    parser.expect(method)
    for piece in pieces:
        parser.feed(piece)
    if eof:
        seen.events.append(parser.eof())
    return seen.events


def test_answers_to_head_have_a_length_and_no_body() -> None:
    assert answers("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") == [(200, 5, True), "end"]
    assert answers("HEAD", b"HTTP/1.1 200 OK\r\n\r\n") == [(200, None, True), "end"]
    assert answers("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") == [(200, None, True), "end"]
    with pytest.raises(MessageError):
        answers("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    message = b"HTTP/1.1 200 OK\r\n\r\nhello"
    assert answers("GET", message, eof=True) == [(200, None, False), bytearray(b"hello"), "end", True]


def test_an_answer_that_ends_too_soon_is_none() -> None:
    message = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"
    assert answers("GET", message, eof=True)[-1] is False


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"hello",
    ],
    ids=["two-lengths", "more-than-its-length", "a-second-answer", "no-http"],
)
def test_answers_that_lie(message: bytes) -> None:
    with pytest.raises(MessageError):
        answers("GET", message)


def test_interim_answers_are_not_the_answer() -> None:
    message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    assert answers("GET", message) == [(204, None, True), "end"]


ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: PTTH/1.0\r\n\r\n"
upgrade_answers = st.binary(max_size=300) | st.binary(max_size=50).map(ACCEPTED.__add__) | st.just(b"x" * 9004)


def outcome(*pieces: bytes) -> Any:
    handshake = Handshake()
    rest = b""
    for number, piece in enumerate(pieces):
        try:
            accepted = handshake.receive(piece)
        except (MessageError, HandshakeRefused) as error:
            return type(error)
        if accepted is not None:
            rest = b"".join(pieces[number + 1 :])
            return Accepted(accepted.rest + rest)
    return None


@given(upgrade_answers, st.lists(st.integers(0, 9004), max_size=5).map(sorted))
def test_the_handshake_reads_any_cut_alike(answer: bytes, cuts: list[int]) -> None:
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    assert outcome(*pieces) == outcome(answer)


# --- heads that recur -------------------------------------------------------------------------------------

_NAMES = st.sampled_from([b"Accept", b"X-Request-Id", b"Cookie", b"User-Agent"])
_VALUES = st.text("abc 019", max_size=8).map(str.encode)


@st.composite
def _messages(draw: st.DrawFn, *, tunnel: bool) -> bytes:
    fields = b"".join(b"%b: %b\r\n" % pair for pair in draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=3)))
    body = draw(st.sampled_from([b"", b"a", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"]))
    framing = b"Content-Length: %d\r\n" % len(body) if body or draw(st.booleans()) else b""
    if body and draw(st.booleans()):
        framing, body = b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\nX-End: 1\r\n\r\n" % (len(body), body)
    end = trace_line(f"{draw(st.integers(1, 3)):032x}", f"{draw(st.integers(1, 3)):016x}") if tunnel else b"\r\n"
    return b"POST /%d HTTP/1.1\r\n" % draw(st.integers(0, 1)) + HOST + fields + framing + end + body


@pytest.mark.parametrize("speaks", [NOTHING, ON_TUNNEL])
@given(data=st.data())
def test_a_head_that_recurs_is_read_as_the_first_time(speaks: frozenset[bytes], data: st.DataObject) -> None:
    messages = data.draw(st.lists(_messages(tunnel=speaks is ON_TUNNEL), min_size=1, max_size=6))
    stream = b"".join(messages * 3)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=3)))
    whole = data.draw(st.booleans())
    pieces = messages * 3 if whole else [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    remembering, plain = Seen(), Seen()
    parser = RequestParser(remembering, Limits(), speaks, new_memo())
    other = RequestParser(plain, Limits(), speaks)
    for piece in filter(None, pieces):
        if not parser.recall(piece):
            parser.feed(piece)
        other.feed(piece)
    assert remembering.events == plain.events


def test_an_answer_that_recurs_is_read_as_the_first_time() -> None:
    heads = new_memo()
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\n" + body for body in (b"ab", b"cd", b"ef")]
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\n"
    seen = Seen()
    parser = ResponseParser(seen, heads)
    recalled = []
    for answer in answers:
        parser.expect("GET")
        recalled.append(parser.recall(answer))
        if not recalled[-1]:
            parser.feed(answer)
    assert recalled == [False, True, True]
    assert seen.events == [(200, 2, True), bytearray(b"ab"), "end", (200, 2, True), bytearray(b"cd"), "end",
                           (200, 2, True), bytearray(b"ef"), "end"]  # fmt: skip
    parser.expect("GET")
    assert not parser.recall(short), "its body is still to come"
    parser.expect("HEAD")
    assert not parser.recall(answers[0]), "there is no body in answer to HEAD"
    assert not ResponseParser(Seen(), heads).recall(answers[0]), "nobody asked"


def test_what_a_closed_parser_read_for_is_freed_without_the_collector() -> None:
    seen = Seen()
    seen.parser = parser = RequestParser(seen, Limits())  # type: ignore[attr-defined]  # as a connection has one
    parser.feed(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    freed = weakref.ref(seen)
    parser.close()
    del seen, parser
    assert freed() is None


def test_trailers_come_with_the_end_and_are_bounded() -> None:
    start = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    assert read(start + b"X-Sum: 1\r\nX-More: 2\r\n\r\n")[-1] == ("end", ((b"X-Sum", b"1"), (b"X-More", b"2")))
    assert refusal(start + b"X: 1\r\n" * 200 + b"\r\n") is GatewayReason.HEADERS_TOO_LARGE
    flood = [start, *[b"X-Long: " + b"a" * 30_000] + [b"a" * 30_000] * 3]
    assert refusal(*flood) is GatewayReason.HEADERS_TOO_LARGE
    extension = [start[:-3] + b"1;", *[b"x" * 30_000] * 3]
    assert refusal(*extension) is GatewayReason.HEADERS_TOO_LARGE


def test_protocols_are_switched_where_it_was_asked_for() -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    seen = Seen()
    parser = ResponseParser(seen)
    parser.expect("GET", switches=True)
    parser.feed(switching + b"\x81\x00")
    assert seen.events == [("switched", b"\x81\x00")]
    unasked = ResponseParser(Seen())
    unasked.expect("GET")
    with pytest.raises(MessageError, match="nobody asked for"):
        unasked.feed(switching)


def test_nothing_may_follow_a_request_to_switch_before_its_answer() -> None:
    asking = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert read(asking)[-1] == "end"
    assert refusal(asking + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") is GatewayReason.REQUEST_MALFORMED


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"]
)
@given(cut=st.integers(0, 200))
def test_the_body_of_a_request_that_would_switch_is_its_body_and_no_request(framing: bytes, cut: int) -> None:
    upgrading = b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + framing
    stream = upgrading + b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
    events = read(*filter(None, [stream[:cut], stream[cut:]]))
    assert [e if isinstance(e, str | bytearray) else e[1] for e in events] == [
        "/",
        bytearray(b"body"),
        "end",
        "/next",
        "end",
    ]


def test_nothing_is_served_after_connect() -> None:
    assert read(b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n")[0][4] is False, "the connection is not kept"
