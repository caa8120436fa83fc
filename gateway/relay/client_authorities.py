"""The authorities that a port names when it asks for a certificate (RFC 8446, section 4.2.4; RFC 5246, section 7.4.4).

Clients with several certificates choose by that list, and webMethods Integration Server sends none when it is empty.
Python's `ssl` leaves it empty, whatever was loaded to verify with, and has no call for it. OpenSSL has, and is
already there: this asks it directly, by the pointer that a context begins with in every CPython that we support. Where
that cannot be done the list stays empty, and `problem` says so.
"""

import ctypes
import ssl
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from identity.core.certificates import Certificate

# Bytes of names on the wire. OpenSSL would take 64 KiB, but Java refuses a handshake message of more than 32.
MAX_NAMES = 24 * 1024
_PYTHONS = range(11, 15)  # of Python 3: the ones whose contexts were looked at


def problem() -> str:
    """Why no port can name its authorities here; "" where each can."""
    return _library()[1]


def too_many(anchors: Iterable[Certificate]) -> bool:
    """Whether their names are more than a client can be told, so that it is told none, which means any."""
    return sum(len(name) + 2 for name in _names(anchors)) > MAX_NAMES


def _names(anchors: Iterable[Certificate]) -> dict[bytes, Certificate]:
    """Each subject once, as it is encoded."""
    return {anchor.parsed.subject.public_bytes(): anchor for anchor in anchors}


def name(context: ssl.SSLContext, anchors: tuple[Certificate, ...]) -> bool:
    """Have handshakes under `context` name these authorities; whether they do."""
    library, trouble = _library()
    if trouble or too_many(anchors):
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    for anchor in _names(anchors).values():
        data = ctypes.c_char_p(anchor.der)
        certificate = library.d2i_X509(None, ctypes.byref(data), len(anchor.der))
        if not certificate:
            return False
        try:
            if library.SSL_CTX_add_client_CA(pointer, certificate) != 1:  # takes a copy of the name
                return False
        finally:
            library.X509_free(certificate)
    return True


@cache
def _library() -> tuple[Any, str]:
    """The OpenSSL that `ssl` itself uses, and what is in the way of using it."""
    if sys.implementation.name != "cpython" or sys.version_info.minor not in _PYTHONS:
        return None, f"Python {sys.version.split()[0]} keeps its TLS contexts in a way that is not known here"
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)  # finds what that module was linked with
        library.d2i_X509.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
        library.d2i_X509.restype = ctypes.c_void_p
        library.X509_free.argtypes, library.X509_free.restype = [ctypes.c_void_p], None
        library.SSL_CTX_add_client_CA.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        library.SSL_CTX_add_client_CA.restype = ctypes.c_int
    except (ImportError, AttributeError, OSError) as error:
        return None, f"the OpenSSL of this Python cannot be asked: {error}"
    return library, ""
