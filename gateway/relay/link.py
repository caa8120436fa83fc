"""The link between console and node: the console asks, the node answers, whoever dialled.

Frames over TLS with a certificate of the installation's own authority at both ends. A message is an object with an
`id`, which its answer has too; where it says `attached`, so many bytes follow it. On an edge the link comes by its
registration port, as an upgraded connection inside which that TLS is spoken; so the edge opens nothing inwards.
"""

import asyncio
import contextlib
import itertools
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from cryptography import x509

from gateway.core.errors import MessageError
from gateway.relay import frames
from gateway.relay.frames import FrameError, Message
from gateway.relay.heads import Head
from gateway.relay.tls import load_pair
from identity.core.authority import Pair

log = logging.getLogger(__name__)

PATH = "/.well-known/postern-node"
PROTOCOL = "postern-link/1"
MAX_HEAD = 4096  # bytes of the upgrade's answer
MAX_MESSAGE = 32 * 1024 * 1024  # bytes without a body; what a node tells of 1,000 refusals is the largest
MAX_STRANGER = 16 * 1024  # bytes of what somebody without a certificate may say; nothing may be attached
PING_SECONDS = 5.0  # between two questions of the console to an idle node
SILENCE = 20.0  # seconds without a word after which a link counts as dead
CLOSE_TIMEOUT = 2.0  # seconds for the other side's goodbye
DIAL_TIMEOUT = 10.0  # seconds for a link to stand

ENDED = (OSError, asyncio.IncompleteReadError)  # how a link ends; what TLS and frames raise is among it


class LinkError(ConnectionError):
    """The other side cannot be asked, or is not who it should be; the message is fit for a page."""


def words_of(error: Exception) -> str:
    """Why it broke, for a log and a page; many exceptions say nothing of themselves, and none is false for that."""
    if said := str(error):
        return said
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def context(pair: Pair | None, authority: str, *, server: bool, ask: bool = True) -> ssl.SSLContext:
    """TLS of a link. Names are not compared: whom a certificate of the authority stands for is read from it.

    `pair`: our own; None for a node that has none yet. `ask`: whether a client without one is turned away.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED if ask else ssl.CERT_OPTIONAL
    made.load_verify_locations(cadata=authority)
    made.set_alpn_protocols([PROTOCOL])
    if server:
        made.num_tickets = 0
    if pair is not None:
        load_pair(made, pair.certificate.encode() + pair.key.encode())
    return made


def unverified(pair: Pair) -> ssl.SSLContext:
    """For dialling an edge's registration port: what counts is the TLS inside, whose both ends are proved."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([PROTOCOL, "http/1.1"])  # the first is chosen by a node that has no such port
    load_pair(made, pair.certificate.encode() + pair.key.encode())
    return made


def is_direct(writer: asyncio.StreamWriter) -> bool:
    """Whether what was dialled speaks of links at once, and is no registration port."""
    tls = writer.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() == PROTOCOL


def peer_of(writer: asyncio.StreamWriter) -> x509.Certificate | None:
    """The certificate that the other side proved; None where it showed none."""
    tls = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return x509.load_der_x509_certificate(der) if der else None


def upgrade(host: str) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode("ascii")


def upgraded() -> bytes:
    return f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode("ascii")


def check_upgraded(head: bytes) -> None:
    """Raises LinkError."""
    status = re.match(rb"HTTP/1\.1 ([0-9]{3})", head)
    if status is None:
        raise LinkError("what answers there is no registration port")
    if status[1] != b"101" or PROTOCOL.encode() not in head:
        reason = re.search(rb"(?i)postern-reason: *([a-z_]+)", head)
        words = f"{status[1].decode()} {reason[1].decode() if reason else ''}".strip()
        raise LinkError(f"the registration port refused the console: {words}")


async def send(writer: asyncio.StreamWriter, message: Message, body: bytes | None = None) -> None:
    if body is not None:
        message = message | {"attached": len(body)}
    writer.write(frames.encode(message))
    if body:
        writer.write(body)
    await writer.drain()


async def receive(reader: asyncio.StreamReader, limit: int = MAX_MESSAGE) -> tuple[Message, bytes]:
    """The next message and what is attached. Raises FrameError, LinkError at the end."""
    try:
        message = await frames.read(reader, limit)
        size = message.get("attached", 0)
        if not isinstance(size, int) or not 0 <= size <= (frames.MAX_FRAME if limit == MAX_MESSAGE else 0):
            raise FrameError(f"{size!r} bytes attached")
        return message, await reader.readexactly(size) if size else b""
    except asyncio.IncompleteReadError as error:
        where = "in the middle of a message" if error.partial else "and said nothing"
        raise LinkError(f"the other side ended the link {where}") from error


class Asker:
    """The console's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._ids = itertools.count(1)
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Hand out answers until the link ends. Raises one of ENDED."""
        try:
            while True:
                message, _ = await receive(self._reader)
                waiting = self._waiting.pop(message.get("id", 0), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(LinkError("the link ended before an answer came"))
                    waiting.exception()  # looked at, for nobody may be waiting any more
            self._waiting.clear()

    async def ask(self, message: Message, body: bytes | None = None, *, timeout: float) -> Message:
        """Raises LinkError: no answer came, or not within `timeout` seconds."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                async with self._sending:
                    await send(self._writer, message | {"id": number}, body)
                told: Message = await answer
                return told
        except TimeoutError as error:
            raise LinkError(f"no answer within {timeout:.0f} s") from error
        except LinkError:
            raise
        except ENDED as error:
            raise LinkError(f"the link ended: {error}") from error
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        self._writer.close()


Answer = Callable[[Message, bytes], Awaitable[Message]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Answer) -> None:
    """The node's end, until the link ends or is silent. Raises one of ENDED, TimeoutError."""
    sending = asyncio.Lock()
    tasks: set[asyncio.Task[None]] = set()

    async def one(message: Message, body: bytes) -> None:
        try:
            told = await handle(message, body)
        except Exception as error:  # a question that this node cannot answer must not end the link
            log.exception("a question of the console cannot be answered")
            told = {"error": f"the node failed: {error}"}
        with contextlib.suppress(*ENDED):
            async with sending:
                await send(writer, told | {"id": message.get("id", 0)})

    try:
        while True:
            async with asyncio.timeout(SILENCE):
                message, body = await receive(reader)
            task = asyncio.create_task(one(message, body))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def shaken(sock: socket.socket, tls: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The server's end of TLS on a connection that stands; it is closed where this fails. Raises one of ENDED."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, sock, ssl=tls, ssl_handshake_timeout=DIAL_TIMEOUT
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close, and see it done."""
    writer.close()
    with contextlib.suppress(*ENDED, TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), CLOSE_TIMEOUT)


class Splice:
    """Stands above an upgraded connection: what comes goes into a socket pair, in whose other end TLS is spoken."""

    LIMIT = 256 * 1024  # bytes that wait on either way before the other side is asked to pause

    def __init__(self, transport: Any, gone: Callable[[], None]) -> None:
        """`gone` is told once, when the connection has ended."""
        self._transport, self._gone = transport, gone
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._early: list[bytes] = []

    async def run(self, sock: Any) -> None:
        """Carry bytes both ways until either side ends."""
        try:
            self._reader, self._writer = await asyncio.open_connection(sock=sock)
            for data in self._early:
                self._writer.write(data)
            while data := await self._reader.read(64 * 1024):
                await self._writable.wait()
                self._transport.write(data)
        except ENDED as error:
            log.debug("link: %s", error)
        finally:
            self._transport.close()
            if self._writer is not None:
                await closed(self._writer)

    # as an application above TLS

    def data_received(self, data: bytes) -> None:
        if self._writer is None:
            self._early.append(data)
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > self.LIMIT:
            self._transport.pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._drained())

    async def _drained(self) -> None:
        assert self._writer is not None
        with contextlib.suppress(*ENDED):
            await self._writer.drain()
        self._transport.resume_reading()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._writable.set()
        self._end()
        self._gone()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        else:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()


class Taker(Protocol):
    """Who takes links that come by a registration port."""

    @property
    def authority(self) -> str:
        """Of the console's certificate, PEM: the port's handshake lets it pass."""

    def links_changed(self) -> None:
        """The folder tells another authority or certificate than before."""

    def admits(self, der: bytes) -> bool:
        """Whether a certificate that was proved at a registration port is the console's."""

    def take_over(self, transport: Any, gone: Callable[[], None]) -> Splice:
        """An upgraded connection of the console's; `gone` is told when it has ended."""


def read_upgrade(head: Head) -> None:
    """Raises MessageError where the request is for the link's path, and no upgrade to it."""
    if head.method != "POST" or head.upgrade.lower() != PROTOCOL.encode() or head.length:
        raise MessageError(f"the console asks for its link by an empty POST with Upgrade: {PROTOCOL}")
