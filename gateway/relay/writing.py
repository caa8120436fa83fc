"""Messages as bytes (RFC 9112): request and status lines, fields, chunks, and the line that carries the trace."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from itertools import chain
from random import randbytes

from gateway.core.headers import Fields

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


def write_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def request_line(method: str, target: str) -> bytes:
    return f"{method} {target} HTTP/1.1\r\n".encode("latin-1")


TRACE_BYTES = 72  # of `trace_line`
TRACE_LINE = re.compile(rb"traceparent: 00-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-01\r\n\r\n")


def trace_line(trace_id: str, parent: str) -> bytes:
    """The last line of every head that goes on, and its end (W3C Trace Context, section 3.2).

    `trace_id`: 32 hexadecimal digits; `parent`: 16; neither all zeros.
    """
    return f"traceparent: 00-{trace_id}-{parent}-01\r\n\r\n".encode("ascii")


def random_digits(count: int) -> Iterator[str]:
    """Without end: `count` hexadecimal digits, never all zeros; for ids of traces, not for secrets.

    Drawn many at a time, for a draw and its formatting for each request cost more than reading its head does.
    """

    def draw() -> Iterator[list[str]]:
        zeros = "0" * count
        while True:
            digits = randbytes(128 * count).hex()  # noqa: S311 - ids, not secrets
            yield [part for at in range(0, len(digits), count) if (part := digits[at : at + count]) != zeros]

    return chain.from_iterable(draw())


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, PHRASES.get(status, b""))


def answer_head(status: int, fields: Fields, length: int | None, *, chunked: bool = False, more: bytes = b"") -> bytes:
    """`length`: None where it is not told; `more`: lines that are written already."""
    lines = [status_line(status), write_fields(fields)]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None and status != 204:
        lines.append(b"Content-Length: %d\r\n" % length)
    lines += (more, b"\r\n")
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body (RFC 9112, section 7.1)."""
    return b"0\r\n%b\r\n" % write_fields(trailers) if trailers else b"0\r\n\r\n"


SWITCH = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
