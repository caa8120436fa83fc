"""User passwords at rest: scrypt (RFC 7914), so that a relay can check one without Django."""

import base64
import hashlib
import hmac
import os

_N, _R, _P = (
    2**15,
    8,
    3,
)  # 32 MiB, three passes: OWASP's equivalent of N=2^17, p=1 with a quarter of the memory
_MEMORY = 128 * _R * (_N + _P + 2)
MAX_LENGTH = 1024  # characters; longer ones only serve to keep a processor busy
_DUMMY = f"scrypt${_N}${_R}${_P}$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def hash_password(password: str, *, salt: bytes | None = None) -> str:
    """`scrypt$N$r$p$salt$hash`, both in base64."""
    salt = os.urandom(16) if salt is None else salt
    digest = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=32)
    return f"scrypt${_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def verify_password(password: str, stored: str) -> bool:
    """Whether `password` is the one that `stored` was made of. An empty `stored` takes as long and is never right."""
    known = stored or _DUMMY
    try:
        scheme, n, r, p, salt, digest = known.split("$")
        if scheme != "scrypt" or int(n) > 2**20 or int(r) > 32 or int(p) > 16:
            return False
        expected = base64.b64decode(digest)
        found = hashlib.scrypt(
            password[:MAX_LENGTH].encode("utf-8", "surrogateescape"),
            salt=base64.b64decode(salt),
            n=int(n),
            r=int(r),
            p=int(p),
            maxmem=256 * int(r) * (int(n) + int(p) + 2),
            dklen=len(expected),
        )
    except ValueError:
        return False
    return hmac.compare_digest(found, expected) and bool(stored) and len(password) <= MAX_LENGTH
