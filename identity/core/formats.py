"""Which format a file that is no text is in, told by its first values; and what lies in a PKCS#7 envelope.

BER is looked at without trust in it: a file that is damaged further on is still told for what it began as.
"""

from identity.core import ber
from identity.core.ber import BERError, Value

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_ENVELOPED_DATA = bytes.fromhex("2a864886f70d010703")


class FormatError(ValueError):
    """The message goes on from the file's kind: "is encrypted; …"."""


def _parts(data: bytes) -> list[Value]:
    """The values in the first one; as many as can be read."""
    found = []
    try:
        for part in ber.first(data)[0]:
            found.append(part)
    except BERError:
        pass
    return found


def is_pkcs12(data: bytes) -> bool:
    """SEQUENCE { version 3, … (RFC 7292, section 4); told by its beginning, so that a damaged one is told too."""
    return data[:1] == b"\x30" and data[header(data) :].startswith(b"\x02\x01\x03")


def is_pkcs7(data: bytes) -> bool:
    return data[:1] == b"\x30" and data[header(data) :].startswith(b"\x06\x09" + _SIGNED_DATA[:-1])


def header(data: bytes) -> int:
    """Bytes before the content of the first value."""
    size = data[1] & 0x7F if len(data) > 1 and data[1] > 0x80 else 0
    return 2 + size


def is_key(data: bytes) -> bool:
    """PKCS#8, RSA or EC in the clear, which begin with a version of 0 or 1; or PKCS#8 encrypted."""
    parts = _parts(data)
    if parts and parts[0].tag == ber.INTEGER and bytes(parts[0].content) in (b"\0", b"\1"):
        return True
    return [part.tag for part in parts] == [ber.SEQUENCE, ber.OCTET_STRING]


def in_signed_data(data: bytes) -> tuple[list[memoryview], int]:
    """The certificates of a PKCS#7 file as DER, and the bytes that it takes (RFC 5652, section 5.1).

    Raises:
        FormatError: it is damaged, or no signed data.
    """
    try:
        outer, size = ber.first(data)
        kind, *rest = outer
        if kind.object_id() == _ENVELOPED_DATA:
            raise FormatError("is encrypted; send its certificates as they are.")
        if kind.object_id() != _SIGNED_DATA or len(rest) != 1:
            raise BERError("no signed data")
        (signed,) = rest[0]
        return [each.encoded for part in signed if part.tag == ber.CONTEXT_0 for each in part], size
    except FormatError:
        raise
    except ValueError as error:  # a BERError is one
        raise FormatError("cannot be read: what is in it is damaged.") from error
