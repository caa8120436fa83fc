"""The reverse upgrade, both halves (`PTTH/1.0` of draft-lentczner-rhttp). No sockets.

Added to the draft: as which registration a node comes, its nonce and its clock; and which of the edge's workers
took it, for a worker can use the tunnels alone that came to it.
"""

import re
from dataclasses import dataclass

from gateway.core.errors import MessageError
from identity.core.names import is_name

PATH = "/.well-known/reverse-http"
PROTOCOL = "PTTH/1.0"
MAX_HEAD = 8 * 1024  # bytes, without the blank line
MAX_WORKERS = 64

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True, slots=True)
class Registering:
    """What an internal node says of itself: as which registration, its nonce, its clock (seconds since 1970)."""

    registration: str
    nonce: str
    time: float


def request(registering: Registering, host: str) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"
        f"Content-Length: 0\r\nPostern-Registration: {registering.registration}\r\n"
        f"Postern-Nonce: {registering.nonce}\r\nPostern-Time: {registering.time:.3f}\r\n\r\n"
    ).encode("ascii")


def read_registering(fields: dict[bytes, bytes]) -> Registering:
    """From the request's fields, by lower-case name. Raises MessageError."""
    try:
        name, nonce, moment = (
            fields[key].decode("ascii") for key in (b"postern-registration", b"postern-nonce", b"postern-time")
        )
        time = float(moment)
    except (KeyError, ValueError) as error:
        raise MessageError(f"a registration needs its name, a nonce and a time ({error})") from error
    if not is_name(name) or not _NONCE.fullmatch(nonce) or not 0 < time < 2**40:
        raise MessageError("a registration's name, nonce or time is none")
    return Registering(name, nonce, time)


def accepted(worker: int, workers: int) -> bytes:
    """The edge's answer: from here on it is the client."""
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"
        f"Postern-Worker: {worker}/{workers}\r\n\r\n"
    ).encode("ascii")


class HandshakeRefused(ConnectionError):
    """The registration port said no; `status` and `reason` are its."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the registration port refused: {status} {reason}".rstrip())
        self.status, self.reason = status, reason


@dataclass(frozen=True, slots=True)
class Accepted:
    """`rest`: already the first request, or its beginning. `worker` of `workers` of the edge has the tunnel."""

    rest: bytes
    worker: int = 0
    workers: int = 1


class Handshake:
    """Feed what the edge sent; get `Accepted` once. How the bytes were cut makes no difference."""

    def __init__(self) -> None:
        self._received = bytearray()

    def receive(self, data: bytes) -> Accepted | None:
        """None means: more bytes, please. Raises MessageError, HandshakeRefused; then close."""
        self._received += data
        end = self._received.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0 and len(self._received) < MAX_HEAD + 4:
            return None
        if end < 0:
            raise MessageError(f"the edge's answer has a head of more than {MAX_HEAD} bytes")
        status, fields = _parse_head(bytes(self._received[:end]))
        if status != 101 or fields.get("upgrade") != PROTOCOL:
            raise HandshakeRefused(status, fields.get("postern-reason", ""))
        return Accepted(bytes(self._received[end + 4 :]), *_worker(fields.get("postern-worker", "0/1")))


def _worker(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})", text)
    if match is None or not int(match[1]) < int(match[2]) <= MAX_WORKERS:
        raise MessageError("the edge's answer names no worker")
    return int(match[1]), int(match[2])


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 ([1-5][0-9]{2})(?: .*)?", lines[0])
    if match is None:
        raise MessageError("the edge's answer is not HTTP/1.1")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if not separator or not name or name != name.strip() or name.lower() in fields:
            raise MessageError("the edge's answer has a malformed field")
        fields[name.lower()] = value.strip()
    return int(match[1]), fields
