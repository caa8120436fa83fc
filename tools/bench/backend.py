"""A backend that takes large bodies, or its time: it reads all of what it is sent before it answers, and sends as much
as it is asked for, as late as it is asked to.

python -m tools.bench.backend PORT        GET /bulk?BYTES, GET /bulk?after=SECONDS, POST /bulk
"""

import asyncio
import sys

import httptools
import uvloop

PIECE = b"x" * (256 * 1024)
NOTHING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Bulk(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpRequestParser(self)
        self._received = self._left = 0
        self._paused = False
        self._url = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, data: bytes) -> None:
        self._received += len(data)

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            asked = self._url.partition(b"?")[2]
            if asked.startswith(b"after="):
                wait = float(asked.removeprefix(b"after="))
                asyncio.get_running_loop().call_later(wait, self.transport.write, NOTHING)
                return
            self._left = int(asked)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._left)
            self._go_on()
        else:
            body = b"%d" % self._received
            self._received = 0
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _go_on(self) -> None:
        while self._left and not self._paused and not self.transport.is_closing():
            piece = PIECE[: self._left]
            self._left -= len(piece)
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._go_on()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Bulk, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
