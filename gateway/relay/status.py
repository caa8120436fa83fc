"""`/metrics`, `/healthz` and `/readyz`, at an address of their own: for monitoring, not for callers."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.addresses import parse_bind
from gateway.core.errors import MessageError
from gateway.core.headers import Fields
from gateway.core.limits import Limits
from gateway.relay.heads import Head
from gateway.relay.metrics import CONTENT_TYPE
from gateway.relay.request_parser import RequestParser
from gateway.relay.writing import status_line, write_fields

log = logging.getLogger(__name__)

# Whoever monitors is few and says little.
LIMITS = Limits(header_bytes=8 * 1024, connections=32)
SILENCE = 10.0  # seconds

Answer = tuple[int, str, bytes]  # status, content type, body


class StatusServer:
    """Answers at one address.

    `readiness` tells why the node is not ready, in any of its workers, [] when it is; `configuration` how old what it
    works by is, where that is not another process's to know.
    """

    def __init__(
        self,
        address: str,
        metrics: Callable[[], Awaitable[bytes]],
        readiness: Callable[[], Awaitable[list[str]]],
        configuration: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """Raises ValueError: `address` is none to listen at."""
        self._host, self._port = parse_bind(address)
        self._metrics, self._readiness, self._configuration = metrics, readiness, configuration
        self._server: asyncio.Server | None = None
        self._open = 0

    async def open(self) -> None:
        """Raises OSError where the address cannot be had."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        log.info("status: listening at %s:%d", self._host, self._port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > LIMITS.connections:
                return
            asked = _Asked()
            parser = RequestParser(asked, LIMITS)
            async with asyncio.timeout(SILENCE):
                while asked.head is None and (data := await reader.read(4096)):
                    parser.feed(data)
                if asked.head is None:
                    return
                status, kind, body = await self._answer(asked.head)
                head = asked.head
                fields: Fields = [
                    (b"Content-Type", kind.encode()), (b"Content-Length", b"%d" % len(body)),
                    (b"Cache-Control", b"no-store"), (b"Connection", b"close"),
                ]  # fmt: skip
                writer.write(status_line(status) + write_fields(fields) + b"\r\n")
                if head.method != "HEAD":
                    writer.write(body)
                await writer.drain()
        except (MessageError, TimeoutError, ConnectionError) as error:
            log.debug("status: %s", error)
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, head: Head) -> Answer:
        if head.method not in ("GET", "HEAD"):
            return 405, "text/plain", b"GET or HEAD\n"
        match head.target.partition("?")[0]:
            case "/metrics":
                return 200, CONTENT_TYPE, await self._metrics()
            case "/healthz":  # the event loop turns, or there would be no answer
                return 200, "text/plain", b"ok\n"
            case "/readyz":
                missing = await self._readiness()
                document: dict[str, Any] = {"ready": not missing, "missing": missing}
                if self._configuration is not None:
                    document["configuration"] = self._configuration()
                return (503 if missing else 200), "application/json", json.dumps(document).encode() + b"\n"
        return 404, "text/plain", b"/metrics, /healthz and /readyz are here\n"


class _Asked:
    """Keeps the head of the one request."""

    def __init__(self) -> None:
        self.head: Head | None = None

    def request(self, head: Head, trace_id: str, body: bytes) -> None:
        self.head = head

    def request_head(self, head: Head) -> None:
        self.head = head

    def request_data(self, data: bytes) -> None: ...
    def request_end(self, trailers: Any) -> None: ...
