"""JSON messages over a local socket: four bytes of length, big-endian, then UTF-8 JSON."""

import asyncio
import json
import socket
import struct
from typing import Any

MAX_FRAME = 512 * 1024 * 1024  # bytes; a document of 100,000 certificates has about 20 million
_LENGTH = struct.Struct("!I")

Message = dict[str, Any]


class FrameError(ConnectionError):
    """Not a frame, too long, or cut off."""


def encode(message: Message) -> bytes:
    return framed(json.dumps(message, separators=(",", ":")).encode())


def framed(body: bytes) -> bytes:
    """A message that is JSON already."""
    return _LENGTH.pack(len(body)) + body


def _decode(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise FrameError("a message that is not JSON") from error
    if not isinstance(message, dict):
        raise FrameError("a message that is no object")
    return message


def _check(length: int, limit: int) -> int:
    if length > limit:
        raise FrameError(f"a message of {length} bytes; at most {limit} are read")
    return length


async def read(reader: asyncio.StreamReader, limit: int = MAX_FRAME) -> Message:
    """The next message. Raises FrameError, asyncio.IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return _decode(await reader.readexactly(_check(length, limit)))


def receive(sock: socket.socket, limit: int = MAX_FRAME) -> Message | None:
    """The next message of a blocking socket; None at its end. Raises FrameError, OSError."""
    head = _exactly(sock, _LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    return _decode(_exactly(sock, _check(length, limit)))


def _exactly(sock: socket.socket, count: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < count:
        piece = sock.recv(min(count - len(pieces), 1 << 20))
        if not piece:
            if not pieces:
                return b""
            raise FrameError("the other side ended in the middle of a message")
        pieces += piece
    return bytes(pieces)
