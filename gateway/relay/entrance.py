"""Where links come in: a listener whose handshakes are ours to end.

A server of asyncio's speaks TLS by itself, and tells nobody of a handshake until it is through. Whoever stops while one
goes on would close the loop over it.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.core.addresses import parse_bind
from gateway.relay import link

log = logging.getLogger(__name__)

BACKLOG = 128
PAUSE = 1.0  # seconds before the next is taken where none can be: no file is left, mostly

Entered = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


class Entrance:
    """Open from the start. `entered` is called with each connection whose handshake is through; it is its owner."""

    def __init__(self, sockets: list[socket.socket], tls: ssl.SSLContext, entered: Entered) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets, self._tls, self._entered = sockets, tls, entered
        self._greeted: set[asyncio.Task[None]] = set()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for sock in sockets:
            sock.setblocking(False)
            self._watch(sock)

    @classmethod
    def at(cls, bind: str, tls: ssl.SSLContext, entered: Entered) -> "Entrance":
        """Raises OSError where the address cannot be had, ValueError where it is none."""
        host, port = parse_bind(bind)
        with contextlib.ExitStack() as undo:
            sockets = []
            for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                sockets.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
                undo.callback(sockets[-1].close)
            undo.pop_all()
        return cls(sockets, tls, entered)

    @classmethod
    def in_file(cls, path: Path, tls: ssl.SSLContext, entered: Entered) -> "Entrance":
        """Raises OSError where there is one already, or none can be made."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(path))
            path.chmod(0o600)
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return cls([sock], tls, entered)

    async def close(self) -> None:
        """Nobody new comes in, and whose handshake goes on does not. Those inside stay."""
        for pause in self._pauses.values():
            pause.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets = []
        for task in self._greeted:
            task.cancel()
        await asyncio.gather(*self._greeted, return_exceptions=True)

    def _watch(self, sock: socket.socket) -> None:
        self._loop.add_reader(sock, self._take, sock)

    def _take(self, sock: socket.socket) -> None:
        try:
            came, _ = sock.accept()
        except (BlockingIOError, ConnectionAbortedError):  # who came has gone
            return
        except OSError as error:  # would come again at once, for as long as somebody waits
            log.warning("link: nobody can be taken in: %s", error.strerror or error)
            self._loop.remove_reader(sock)
            self._pauses[sock] = self._loop.call_later(PAUSE, self._watch, sock)
            return
        came.setblocking(False)
        task = self._loop.create_task(self._greet(came))
        self._greeted.add(task)
        task.add_done_callback(partial(self._done, came))

    def _done(self, sock: socket.socket, task: "asyncio.Task[None]") -> None:
        self._greeted.discard(task)
        if task.cancelled():  # perhaps before its first step, when nobody else knew of the socket
            sock.close()

    async def _greet(self, sock: socket.socket) -> None:
        try:
            reader, writer = await link.shaken(sock, self._tls)
        except link.ENDED as error:
            log.info("link: no TLS with who came: %s", error)
            return
        self._entered(reader, writer)
