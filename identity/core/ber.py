"""BER and DER taken apart as far as somebody has to look before a parser is let at them.

A walk is bounded in values and in nesting, whatever the bytes say. Knows no format: what a value means is its caller's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_VALUES = 50_000  # looked at in one walk, which takes them a twentieth of a second
MAX_DEPTH = 32  # values inside values; a PKCS#12 file has a dozen

INTEGER, BIT_STRING, OCTET_STRING, NULL, OBJECT, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x05, 0x06, 0x30, 0x31
CONTEXT_0 = 0xA0  # [0], constructed
_CONSTRUCTED, _LONG_TAG = 0x20, 0x1F


class BERError(ValueError):
    """Not BER; or more of it than is looked at."""


@dataclass(slots=True)
class _Budget:
    values: int = MAX_VALUES

    def spend(self) -> None:
        self.values -= 1
        if self.values < 0:
            raise BERError(f"more than {MAX_VALUES:,} values")


@dataclass(frozen=True, slots=True)
class Value:
    """One value. `tag`: its identifier octet. `encoded`: all of it, `content`: without tag and length."""

    tag: int
    encoded: memoryview = field(repr=False)
    content: memoryview = field(repr=False)
    depth: int
    _budget: _Budget = field(repr=False)

    def __iter__(self) -> Iterator["Value"]:
        """The values inside a constructed one. Raises BERError."""
        if not self.tag & _CONSTRUCTED:
            raise BERError("a value that was to hold others holds none")
        at = 0
        while at < len(self.content):
            value, at = _read(self.content, at, self.depth + 1, self._budget)
            yield value

    def inside(self) -> "Value":
        """What an octet string has in it, read as one value. Raises BERError."""
        value, _ = _read(memoryview(self.octets()), 0, self.depth + 1, self._budget)
        return value

    def octets(self) -> bytes:
        """The bytes of an octet string; BER may hand them out in pieces. Raises BERError."""
        if not self.tag & _CONSTRUCTED:
            return bytes(self.content)
        return b"".join(piece.octets() for piece in self)

    def number(self) -> int:
        """Raises BERError where it is no integer, or one that nobody needs."""
        if self.tag != INTEGER or not 1 <= len(self.content) <= 16:
            raise BERError("a number was expected")
        return int.from_bytes(self.content, signed=True)

    def object_id(self) -> bytes:
        """The encoded content of an object identifier; b"" of any other value."""
        return bytes(self.content) if self.tag == OBJECT else b""


def first(data: bytes) -> tuple[Value, int]:
    """The value that `data` begins with, and how many bytes it has. Raises BERError."""
    return _read(memoryview(data), 0, 0, _Budget())


def _read(data: memoryview, at: int, depth: int, budget: _Budget) -> tuple[Value, int]:
    """The value at `at`, and where the next begins."""
    budget.spend()
    if depth > MAX_DEPTH:
        raise BERError(f"values nested more than {MAX_DEPTH} deep")
    if at + 2 > len(data):
        raise BERError("it ends in the middle")
    tag, length, begin = data[at], data[at + 1], at + 2
    if tag & _LONG_TAG == _LONG_TAG:
        raise BERError("a tag of more than one byte")
    if length == 0x80:
        return _read_indefinite(data, at, depth, budget)
    if length > 0x80:
        size = length & 0x7F
        if size > 4 or begin + size > len(data):
            raise BERError("a length that cannot be")
        length, begin = int.from_bytes(data[begin : begin + size]), begin + size
    end = begin + length
    if end > len(data):
        raise BERError("it ends in the middle")
    return Value(tag, data[at:end], data[begin:end], depth, budget), end


def _read_indefinite(data: memoryview, at: int, depth: int, budget: _Budget) -> tuple[Value, int]:
    """One whose end is two zero bytes after the last value in it (X.690, section 8.1.3.6)."""
    if not data[at] & _CONSTRUCTED:
        raise BERError("a length that cannot be")
    end = at + 2
    while bytes(data[end : end + 2]) != b"\0\0":
        _, end = _read(data, end, depth + 1, budget)
    return Value(data[at], data[at : end + 2], data[at + 2 : end], depth, budget), end + 2
