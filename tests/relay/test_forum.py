"""The case that this project exists for, over real sockets: identity through reverse invoke."""

import asyncio
import base64
import io
import ssl

import pytest

from gateway.relay.control import call
from tests.relay.installation import Backend, Installation, read_answer


@pytest.mark.parametrize(
    ("port", "target", "user"),
    [
        pytest.param("https", "/orders", "alice", id="the-node-called-directly"),
        pytest.param("ext", "/orders", "alice", id="passed-through"),
        pytest.param("ext", "/gateway/direct", "api_gateway", id="an-API-called-directly"),
        pytest.param("ext", "/gateway/certificate", "api_gateway", id="the-same-API-through-reverse-invoke"),
        pytest.param("ext", "/gateway/caller", "alice", id="the-callers-own-certificate-handed-on"),
        pytest.param("ext", "/gateway/basic", "batch", id="a-stored-password"),
    ],
)
def test_whom_it_runs_as(forum: Installation, port: str, target: str, user: str) -> None:
    answer = forum.request(port, target, "alice")
    assert (answer.status, answer.json["user"]) == (200, user)


@pytest.mark.parametrize(
    ("target", "who", "basic", "status", "reason"),
    [
        pytest.param("/orders", None, None, 401, "authentication_required", id="nothing-shown"),
        pytest.param("/orders", "stranger", None, 403, "certificate_unmapped", id="mapped-to-nobody"),
        pytest.param("/orders", None, "batch:wrong", 401, "invalid_credentials", id="a-wrong-password-is-final"),
        pytest.param("/gateway/certificate", None, None, 401, "authentication_required", id="nobody-borrows-it"),
        pytest.param("/gateway/certificate", "stranger", None, 403, "certificate_unmapped", id="nor-does-a-stranger"),
        pytest.param("/gateway/anonymous", "alice", None, 502, "endpoint_refused", id="an-endpoint-without-identity"),
        pytest.param("/gateway/anonymous", "alice", "batch:correct horse battery", 502, "endpoint_refused",
                     id="a-password-sent-along-decides-nothing"),
        pytest.param("/nowhere", "alice", None, 404, "not_found", id="no-such-service"),
    ],
)  # fmt: skip
def test_why_it_is_refused(
    forum: Installation, target: str, who: str | None, basic: str | None, status: int, reason: str
) -> None:
    answer = forum.request("ext", target, who, basic=basic)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json) == {"type", "title", "status", "reason", "trace_id"}, "nothing else of the inside leaves"
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert not [name for name in answer.headers if name.startswith("postern-")]


def test_a_certificate_below_an_intermediate_is_judged_alike_on_both_nodes(forum: Installation) -> None:
    for port in ("ext", "https"):
        assert forum.request(port, "/orders", "below").json["user"] == "below"


def test_an_authority_of_the_same_name_fails_in_the_handshake(forum: Installation) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca|decrypt|bad.certificate"):
        forum.request("ext", "/orders", "rogue")


def test_the_backend_learns_who_calls_and_nothing_that_the_caller_made_up(
    forum: Installation, backend: Backend
) -> None:
    forged = {"Client-Cert": ":bm9ib2R5:", "X-Forwarded-User": "root", "X_Forwarded_User": "root",
              "Postern-Assertion": "x", "Remote-User": "root", "X-SSL-Client-Verify": "SUCCESS"}  # fmt: skip
    answer = forum.request("ext", "/submit/a?b=c", "alice", method="POST", body=b"{}", headers=forged)
    seen = dict(answer.json["headers"])
    assert answer.json["path"] == "/submit/a?b=c"
    assert seen["x-forwarded-user"] == "alice"
    assert base64.b64decode(seen["client-cert"].strip(":")) == forum.pki["alice"].der
    assert 'Subject="' in seen["x-forwarded-client-cert"]
    assert seen["forwarded"].startswith("for=127.0.0.1;proto=https;host=localhost")
    assert seen["traceparent"].startswith("00-")
    assert not [name for name in seen if name.startswith("postern") or name in ("remote-user", "x-ssl-client-verify")]
    assert len([name for name, _ in answer.json["headers"] if name == "x-forwarded-user"]) == 1


def test_no_password_reaches_a_backend_unasked(forum: Installation) -> None:
    answer = forum.request("ext", "/submit", None, basic="batch:correct horse battery")
    assert dict(answer.json["headers"])["x-forwarded-user"] == "batch"
    assert "authorization" not in dict(answer.json["headers"])


def test_many_requests_on_one_connection_in_order(forum: Installation) -> None:
    with forum.connection("ext", "alice") as sock:
        paths = ["/orders", "/open", "/nowhere", "/gateway/certificate", "/orders"]
        sock.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths))
        stream = sock.makefile("rb")
        answers = [read_answer(stream) for _ in paths]
    assert [a.status for a in answers] == [200, 200, 404, 200, 200]
    assert [a.json.get("user") for a in answers] == ["alice", "alice", None, "api_gateway", "alice"]


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("path", ["/echo", "/submit"], ids=["echo", "backend"])
def test_large_bodies_are_streamed_both_ways(forum: Installation, path: str, chunked: bool) -> None:
    body = bytes(range(256)) * 20_000
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"

    async def both_ways() -> bytes:
        """All that comes back, read while the body is still written: no thread may share a TLS socket for that."""
        reader, writer = await asyncio.open_connection(*forum.address("ext"), ssl=forum.context("alice"))

        async def send() -> None:
            writer.write(head.encode())
            for start in range(0, len(body), 50_000):
                piece = body[start : start + 50_000]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
            if chunked:
                writer.write(b"0\r\n\r\n")

        try:
            async with asyncio.timeout(30):
                received, _ = await asyncio.gather(reader.read(), send())
        finally:
            writer.close()
        return received

    answer = read_answer(io.BytesIO(asyncio.run(both_ways())))
    assert answer.status == 200
    if path == "/echo":
        assert answer.body == body
    else:
        assert answer.json["size"] == len(body)


def test_a_large_answer_comes_whole(forum: Installation) -> None:
    assert len(forum.request("ext", "/submit/large", "alice").body) == 20_000_000


def test_head_has_no_body(forum: Installation) -> None:
    for path in ("/orders", "/submit"):
        answer = forum.request("ext", path, "alice", method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        pytest.param("/submit/hang", 504, "backend_timeout", id="a-backend-that-hangs"),
        pytest.param("/submit/cut", 502, "backend_protocol_error", id="a-backend-that-hangs-up"),
    ],
)
def test_a_backend_that_fails(forum: Installation, path: str, status: int, reason: str) -> None:
    answer = forum.request("ext", path, "alice")
    assert (answer.status, answer.json["reason"]) == (status, reason)


def test_an_answer_that_ends_too_soon_is_never_taken_for_whole(forum: Installation) -> None:
    with pytest.raises((ConnectionError, ssl.SSLError)):
        forum.request("ext", "/submit/short", "alice")


def test_a_registration_is_refused_without_the_certificate_of_one(forum: Installation) -> None:
    lines = [b"POST /.well-known/reverse-http HTTP/1.1", b"Host: localhost", b"Connection: Upgrade",
             b"Upgrade: PTTH/1.0",
             b"Content-Length: 0", b"Postern-Registration: inside-at-reg", b"Postern-Nonce: 0123456789abcdef",
             b"Postern-Time: 1800000000.000", b"", b""]  # fmt: skip
    with forum.connection("reg", "inside-server") as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        sock.sendall(b"\r\n".join(lines))  # a server's certificate is no client's
        read_answer(sock.makefile("rb"))
    with forum.connection("ext", "alice") as sock:
        sock.sendall(b"\r\n".join(lines))  # nor is the upgrade taken at any other kind of port
        assert read_answer(sock.makefile("rb")).status == 404


def invoke(forum: Installation, **more: object) -> dict[str, object]:
    message = {"op": "invoke", "port": "ext", "method": "GET", "target": "/orders", "headers": [], "body": "",
               "certificate": None, "chain": [], "username": None, "password": None, "timeout": 10}  # fmt: skip
    return call(forum.state_dir, "edge", message | more, timeout=30)


def test_a_test_invoke_needs_no_key_and_shows_both_nodes_checks(forum: Installation) -> None:
    alice = base64.b64encode(forum.pki["alice"].der).decode()
    result = invoke(forum, certificate=alice)
    assert result["status"] == 200
    edge, inside = result["lanes"]  # type: ignore[misc]
    assert (edge["node"], edge["outcome"], inside["node"], inside["user"]) == ("edge", "pass", "inside", "alice")
    assert [step["check"] for step in inside["steps"]][-1] == "ACL"


def test_a_test_invoke_shows_where_it_was_refused(forum: Installation) -> None:
    stranger = base64.b64encode(forum.pki["stranger"].der).decode()
    result = invoke(forum, certificate=stranger)
    assert (result["status"], result["reason"]) == (403, "certificate_unmapped")
    failed = [step for lane in result["lanes"] for step in lane["steps"] if not step["passed"]]  # type: ignore[attr-defined]
    assert [step["check"] for step in failed] == ["mapping"]


def test_a_test_invoke_of_an_untrusted_certificate_is_no_way_around_the_handshake(forum: Installation) -> None:
    rogue = base64.b64encode(forum.pki["rogue"].der).decode()
    result = invoke(forum, certificate=rogue)
    assert (result["status"], result["reason"]) == (403, "certificate_untrusted")


def test_the_local_door_is_closed_to_others(forum: Installation) -> None:
    folder = forum.state_dir / "nodes" / "edge"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "control.sock").stat().st_mode & 0o777 == 0o600


def test_no_private_key_lies_in_the_clear_where_nodes_keep_their_state(forum: Installation) -> None:
    for file in forum.state_dir.rglob("*"):
        if file.is_file():
            assert b"PRIVATE KEY" not in file.read_bytes()
