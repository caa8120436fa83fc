"""WebSocket through the tunnel, with a real library at both ends."""

import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.relay.installation import Installation


@pytest.fixture
def echoing() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A WebSocket server's port, and the heads that it saw."""
    seen: list[dict[str, str]] = []

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(dict(connection.request.headers))
        for message in connection:
            if message == "close":
                connection.close(4000, "as asked")
                return
            connection.send(message)

    with serve(handle, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1], seen
        server.shutdown()
        thread.join()


@pytest.fixture
def installation(fresh: Callable[..., Installation], echoing: tuple[int, list[dict[str, str]]]) -> Installation:
    return fresh(lambda topology: topology["services"][2].update(backend=f"http://127.0.0.1:{echoing[0]}"))


def open_socket(installation: Installation, who: str | None = "alice") -> ClientConnection:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if who:
        context.load_cert_chain(installation.folder / "pki" / f"{who}.pem", installation.folder / "pki" / f"{who}.key")
    host, port = installation.address("ext")
    return connect(f"wss://{host}:{port}/submit/chat", ssl=context, max_size=None, open_timeout=30, ping_interval=None)


def test_messages_pings_and_the_close_go_through(
    installation: Installation, echoing: tuple[int, list[dict[str, str]]]
) -> None:
    with open_socket(installation) as sock:
        for message in ("hello", b"\x00\x01", "x" * 3_000_000):
            sock.send(message)
            assert sock.recv(timeout=30) == message
        assert sock.ping().wait(30), "a ping is answered by the far end"
        sock.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            sock.recv(timeout=30)
    assert closed.value.rcvd is not None and (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as asked")
    assert echoing[1][0]["x-forwarded-user"] == "alice", "the backend is told who it is"
    installation.until(lambda: installation.state("edge")["in_flight"] == 0, "the edge has let go")
    installation.until(lambda: installation.state("inside")["in_flight"] == 0, "the internal node has let go")
    installation.ready()
    assert installation.request("ext", "/orders", "alice").status == 200


def test_a_client_that_vanishes_takes_its_tunnel_along(installation: Installation) -> None:
    sock = open_socket(installation)
    sock.socket.close()
    for node in ("edge", "inside"):
        installation.until(lambda node=node: installation.state(node)["in_flight"] == 0, f"{node} has let go")


def test_who_may_not_call_may_not_open_one_either(installation: Installation) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(installation, "stranger")
    assert refused.value.response.status_code == 403


def test_another_protocol_is_not_switched_to(installation: Installation) -> None:
    asked = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    answer = installation.request("ext", "/orders", "alice", headers=asked)
    assert answer.status == 200, "an ordinary request, as if it had not asked"
