"""A backend that does wrong in the way that a request's path names, and notes what came to it."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Liar:
    """`/submit/NAME/…` is answered as the method NAME has it.

    Attributes:
        begun, whole: requests by path, of which the head came, and all of it.
        connections: how many are open.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.whole: Counter[str] = Counter()
        self.connections = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stopping, self._loop = asyncio.Event(), asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _connected(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # whoever asked is gone
        finally:
            self.connections -= 1
            writer.close()

    async def _answer(self, reader: Reader, writer: Writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.splitlines()
        path = line.split()[1]
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self.begun[path] += 1
        way: Callable[..., Awaitable[bool]] = getattr(self, path.split("/")[2].replace("-", "_"))
        return await way(reader, writer, path, headers)

    async def _read(self, reader: Reader, path: str, headers: dict[str, str]) -> int:
        """The length of the body, once it is whole."""
        size = 0
        if headers.get("transfer-encoding") == "chunked":
            while count := int(await reader.readuntil(b"\r\n"), 16):
                size += len(await reader.readexactly(count + 2)) - 2
            await reader.readuntil(b"\r\n")
        else:
            size = len(await reader.readexactly(int(headers.get("content-length", 0))))
        self.whole[path] += 1
        return size

    async def well(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        size = await self._read(reader, path, headers)
        await say(writer, {"path": path, "user": headers.get("x-forwarded-user"), "size": size})
        return True

    async def hangs(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        await reader.read()  # until whoever asks gives up
        return False

    async def hangs_up(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        return False

    async def begins(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        """Half of an answer, and no more."""
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        await reader.read()
        return False

    async def begins_chunked(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.read()
        return False

    async def too_short(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        return False

    async def too_long(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}and more of it")
        await reader.read()
        return False

    async def twice(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        """An answer, and one to a request that nobody made."""
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" * 2)
        await reader.read()
        return False

    async def broken_chunk(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n")
        await reader.read()
        return False

    async def no_http(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"220 mail.example ready\r\n")
        await reader.read()
        return False

    async def endless_head(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000)
        await reader.read()
        return False

    async def answers_early(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        """Before it has read the body, none of which it reads."""
        await say(writer, {"path": path})
        await asyncio.sleep(0)
        writer.close()
        return False

    async def answers_early_and_reads(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await say(writer, {"path": path})
        await self._read(reader, path, headers)
        return True

    async def as_it_came(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        """Right, and as long as the head and the trailers that came: a chunked answer with trailers of its own."""
        trailers = b""
        if headers.get("transfer-encoding") == "chunked":
            while count := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(count + 2)
            while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                trailers += line
        else:
            await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.dumps({"headers": headers, "trailers": trailers.decode()}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(body), body))
        writer.write(b"X-Sum: 1\r\nX-Other: 2\r\nX-Forwarded-User: eve\r\n\r\n")
        return True

    async def no_content(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        return True

    async def not_modified(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 1000\r\n\r\n')
        return True

    async def hints_first(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        await say(writer, {"path": path})
        return True

    async def headless(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        """An answer to HEAD, which tells how long one to GET would be."""
        await self._read(reader, path, headers)
        length = b"Transfer-Encoding: chunked" if path.endswith("chunked") else b"Content-Length: 1000"
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % length)
        return True

    async def large(self, reader: Reader, writer: Writer, path: str, headers: dict[str, str]) -> bool:
        await self._read(reader, path, headers)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
        return True


async def say(writer: Writer, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()
