"""Test invokes: a request executed by the running node exactly as after a handshake with a given certificate.

The request's bytes go into the same connection class that a client's would; only the socket below it is
replaced by memory, and its proof says `test`, which the far side may refuse.
"""

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import MessageError
from gateway.core.explain import lane
from gateway.core.headers import Fields
from gateway.core.snapshot import Port, PortType
from gateway.relay import builtin
from gateway.relay.connection import ServerConnection
from gateway.relay.exchange import Exchange
from gateway.relay.response_parser import Answer, ResponseParser
from gateway.relay.runtime import Runtime
from identity.core.assertions import Proof
from identity.core.certificates import Certificate

MAX_BODY = 64 * 1024  # bytes of the answer's body that are shown
PEER = "127.0.0.1"  # where a test comes from, as the port's ip_access sees it


@dataclass(frozen=True, slots=True)
class Invoke:
    """What to send, and as whom. `timeout`: seconds for the whole."""

    port: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    certificate: Certificate | None
    chain: tuple[Certificate, ...]
    username: str | None
    password: str | None
    timeout: float


async def invoke(node: Runtime, asked: Invoke) -> dict[str, Any]:
    """Run it, and tell all of it: status, headers, body, trace of both nodes, or `error` in words."""
    port = node.snapshot.ports.get(asked.port)
    if port is None or port.type not in (PortType.EXTERNAL, PortType.REGULAR):
        return {"error": f"Node {node.snapshot.node} has no external or regular port {asked.port!r} in force."}
    if asked.certificate is not None and port.truststore is None:
        return {"error": f"Port {port.name} asks nobody for a certificate (client_auth: password)."}
    try:
        request = _request_bytes(asked)
    except ValueError as error:
        return {"error": str(error)}
    collector = _Collector(asked.method)
    connection = _TestConnection(node, port, collector)
    collector.connection = connection
    if asked.certificate is not None:
        connection.certificate, connection.intermediates = asked.certificate, asked.chain
        connection.proof = Proof.TEST
    began = time.perf_counter()
    connection.data_received(request)
    try:
        async with asyncio.timeout(asked.timeout):
            await collector.done
    except TimeoutError:
        connection.eof_received()  # nobody waits for it any more
        return {"error": f"No answer within {asked.timeout:.0f} s."}
    except MessageError as error:
        return {"error": f"The answer cannot be read: {error.words}"}
    finally:
        connection.abort()
    exchange = connection.seen
    lanes: list[dict[str, Any]] = []
    if exchange is not None and exchange.decision is not None:
        lanes = [lane(node.snapshot.node, port.name, exchange.decision), *exchange.lanes]
    return {
        "status": collector.status,
        "reason": exchange.reason.value if exchange is not None and exchange.reason is not None else None,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in collector.fields],
        "body": base64.b64encode(bytes(collector.body)).decode(),
        "body_size": collector.size,
        "trace_id": exchange.trace_id if exchange is not None else "",
        "seconds": time.perf_counter() - began,
        "lanes": lanes,
    }


def _request_bytes(asked: Invoke) -> bytes:
    """Raises ValueError for what no client could send."""
    if not asked.method.isalpha() or not asked.method.isupper():
        raise ValueError(f"{asked.method!r} is no method.")
    if not asked.target or any(c <= " " or c == "\x7f" for c in asked.target):
        raise ValueError("The path has a blank or a control character; encode it (%20).")
    lines = [f"{asked.method} {asked.target} HTTP/1.1"]
    names = {name.lower() for name, _ in asked.headers}
    for name, value in asked.headers:
        if any(c in "\r\n\0" for c in name + value) or not name or ":" in name or " " in name:
            raise ValueError(f"The header {name!r} cannot be sent.")
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise ValueError(f"{name} follows from the body; leave it out.")
        lines.append(f"{name}: {value}")
    if "host" not in names:
        lines.append("Host: localhost")
    if asked.username is not None:
        if "authorization" in names:
            raise ValueError("Give a user and password, or an Authorization header, not both.")
        lines.append(f"Authorization: {builtin.basic(asked.username, asked.password or '').decode()}")
    if asked.body:
        lines.append(f"Content-Length: {len(asked.body)}")
    return ("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode("latin-1", "replace") + asked.body


class _TestConnection(ServerConnection):
    """A client's connection without a socket; asks for the far side's trace too."""

    def __init__(self, node: Runtime, port: Port, transport: "_Collector") -> None:
        super().__init__(node, port, transport, PEER, secure=port.keystore is not None)
        self.tracing = True
        self.seen: Exchange | None = None

    def exchange_done(self, exchange: Exchange) -> None:
        self.seen = exchange
        super().exchange_done(exchange)


class _Collector:
    """Stands where the socket would: parses what the connection writes."""

    def __init__(self, method: str) -> None:
        self.connection: _TestConnection | None = None
        self.status = 0
        self.fields: Fields = []
        self.body = bytearray()
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = ResponseParser(self)
        self._parser.expect(method)

    # as a transport

    def write(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            self._parser.feed(data)
        except MessageError as error:
            self.done.set_exception(error)

    def close(self) -> None:
        self._parser.eof()
        self._cut()

    def abort(self) -> None:
        self._cut()

    def _cut(self) -> None:
        if not self.done.done():
            self.done.set_exception(MessageError("the connection was cut in the middle of it"))
            self.done.exception()  # looked at, for nobody may be waiting any more

    def get_extra_info(self, name: str) -> None:
        """There is no socket to tell of."""

    def is_closing(self) -> bool:
        return self.done.done()

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    # as a handler of the answer

    def response(self, answer: Answer, body: bytes) -> None:
        self.response_head(answer.status, answer.fields, answer.length, answer.keep_alive)
        self.response_data(body)
        self.response_end([])

    def response_head(self, status: int, fields: Fields, length: int | None, keep_alive: bool) -> None:
        self.status, self.fields = status, fields

    def response_data(self, data: bytes) -> None:
        self.size += len(data)
        self.body += data[: MAX_BODY - len(self.body)]

    def switched(self, fields: Fields, rest: bytes) -> None: ...

    def response_end(self, trailers: Fields) -> None:
        if not self.done.done():
            self.done.set_result(None)
