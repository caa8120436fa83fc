"""Where links come in: what is under way when it closes ends with it, and what is inside stays."""

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.relay import link
from gateway.relay.entrance import Entrance
from identity.core import authority
from identity.core.authority import Pair
from tests.ports import free_port

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Entered = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


def own() -> Pair:
    key = authority.new_key()
    return Pair(authority.self_made(key, "edge", authority.utc_now()), key)


def run(work: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own, which is closed: what is left open then is an error."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def open_entrance(pair: Pair, entered: Entered) -> tuple[Entrance, int]:
    port = free_port()
    return Entrance.at(f"127.0.0.1:{port}", link.context(pair, pair.certificate, server=True, ask=False), entered), port


def begin(port: int) -> tuple[socket.socket, Callable[[], None]]:
    """A client that has said its hello, and what finishes its handshake once the server's answer is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    layer = context.wrap_bio(came, goes)
    sock = socket.create_connection(("127.0.0.1", port))
    with pytest.raises(ssl.SSLWantReadError):
        layer.do_handshake()
    sock.sendall(goes.read())

    def finish() -> None:
        while True:
            try:
                layer.do_handshake()
            except ssl.SSLWantReadError:
                came.write(sock.recv(65536))
            else:
                sock.sendall(goes.read())
                return

    return sock, finish


def test_a_handshake_that_is_finished_while_it_closes_leaves_nothing_open() -> None:
    entered: list[Streams] = []

    async def work() -> None:
        entrance, port = open_entrance(own(), lambda *streams: entered.append(streams))
        sock, finish = await asyncio.to_thread(begin, port)
        answered = asyncio.Event()
        asyncio.get_running_loop().add_reader(sock, answered.set)
        await answered.wait()
        asyncio.get_running_loop().remove_reader(sock)
        finish()  # it lies there to be read, and no turn of the loop has read it
        await entrance.close()
        sock.close()

    run(work())
    assert entered == []


def test_who_says_nothing_is_let_go_with_it() -> None:
    async def work() -> None:
        entrance, port = open_entrance(own(), lambda *_: pytest.fail("nobody came in"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await entrance.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    run(work())


@pytest.mark.parametrize("kind", ["port", "file"])
def test_who_is_inside_stays_and_others_come_while_one_is_slow(kind: str, tmp_path: Path) -> None:
    pair, inside = own(), asyncio.Queue[Streams]()
    path = tmp_path / "entrance"

    async def work() -> None:
        tls = link.context(pair, pair.certificate, server=True)
        client = link.context(pair, pair.certificate, server=False)
        port = free_port()

        def entered(*streams: Any) -> None:
            inside.put_nowait(streams)

        async def dial(**options: Any) -> Streams:
            if kind == "file":
                return await asyncio.open_unix_connection(path, **options)
            return await asyncio.open_connection("127.0.0.1", port, **options)

        if kind == "file":
            entrance = Entrance.in_file(path, tls, entered)
        else:
            entrance = Entrance.at(f"127.0.0.1:{port}", tls, entered)
        _, slow = await dial()
        named = {"server_hostname": ""} if kind == "file" else {}
        reader, writer = await dial(ssl=client, **named)
        theirs = await inside.get()
        await entrance.close()
        await link.send(theirs[1], {"still": "here"})
        message, _ = await link.receive(reader)
        assert message == {"still": "here"}
        for one in (slow, writer, theirs[1]):
            await link.closed(one)

    run(work())


def test_a_process_without_a_file_left_takes_them_in_when_it_has(caplog: pytest.LogCaptureFixture) -> None:
    pair, inside = own(), asyncio.Event()

    async def work() -> None:
        entrance, port = open_entrance(pair, lambda _, writer: (writer.close(), inside.set()))
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))  # nothing beside what is open
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
            async with asyncio.timeout(10):
                while "nobody can be taken in: Too many open files" not in caplog.text:
                    await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        client = link.context(pair, pair.certificate, server=False)
        _, writer = await asyncio.open_connection(sock=sock, ssl=client, server_hostname="")
        await inside.wait()
        await link.closed(writer)
        await entrance.close()

    run(work())
