"""What OpenSSL can do for a port and Python's `ssl` has no call for.

To name the authorities whose certificates it asks for (RFC 8446, section 4.2.4; RFC 5246, section 7.4.4): clients with
several choose by that list, and webMethods Integration Server sends none when it is empty, as Python leaves it
whatever was loaded to verify with. And to keep no sessions: without tickets a TLS 1.2 client may still resume by
session id, and would find its connection closed for it.

The library is there already, so it is asked directly, by the pointer that a context begins with in every CPython that
we support. Where that cannot be done, `problem` says so.
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
_SET_SESSION_CACHE_MODE, _CACHE_OFF = 44, 0  # SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF (openssl/ssl.h)
_PYTHONS = range(11, 15)  # of Python 3: the ones whose contexts were looked at


def problem() -> str:
    """Why none of this can be done here; "" where it can."""
    return _library()[1]


def too_many(anchors: Iterable[Certificate]) -> bool:
    """Whether their names are more than a client can be told, so that it is told none, which means any."""
    return sum(len(name) + 2 for name in _names(anchors)) > MAX_NAMES


def _names(anchors: Iterable[Certificate]) -> dict[bytes, Certificate]:
    """Each subject once, as it is encoded."""
    return {anchor.parsed.subject.public_bytes(): anchor for anchor in anchors}


def name_authorities(context: ssl.SSLContext, anchors: tuple[Certificate, ...]) -> bool:
    """Have handshakes under `context` name these authorities; whether they do."""
    library, trouble = _library()
    if trouble or too_many(anchors):
        return False
    pointer = _pointer(context)
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


def keep_no_sessions(context: ssl.SSLContext) -> bool:
    """Have no handshake under `context` resume a session by its id; whether that was done."""
    library, trouble = _library()
    if trouble:
        return False
    library.SSL_CTX_ctrl(_pointer(context), _SET_SESSION_CACHE_MODE, _CACHE_OFF, None)
    return True


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    """To OpenSSL's own context (PySSLContext in CPython's Modules/_ssl.c)."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


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
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.SSL_CTX_ctrl.restype = ctypes.c_long
    except (ImportError, AttributeError, OSError) as error:
        return None, f"the OpenSSL of this Python cannot be asked: {error}"
    return library, ""
