"""DER (X.690) taken apart as far as the shape of a certificate needs it, where the parser keeps that to itself.

Knows no meaning: tags, contents, and where a value ends.
"""

from typing import NamedTuple

SEQUENCE, OID, UTC_TIME, GENERALIZED_TIME = 0x30, 0x06, 0x17, 0x18


class Value(NamedTuple):
    """One value. `whole`: with its tag and length."""

    tag: int
    content: bytes
    whole: bytes


def read(data: bytes) -> list[Value]:
    """The values that stand one after the other in `data`.

    Raises:
        ValueError: it is no DER, or ends in the middle.
    """
    found: list[Value] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
            raise ValueError("not DER")
        start, size = at + 2, data[at + 1]
        if size >= 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[at + 2 : start])
        if start + size > len(data):
            raise ValueError("DER that ends in the middle")
        found.append(Value(data[at], data[start : start + size], data[at : start + size]))
        at = start + size
    return found
