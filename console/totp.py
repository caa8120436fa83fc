"""Codes of authenticator apps: TOTP (RFC 6238) as every app reads it: SHA-1, six digits, 30 seconds.

Knows no rows and no clock: secret and time come in.
"""

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote, urlencode

DIGITS, STEP = 6, 30  # seconds
SLACK = 1  # steps by which the app's clock may differ
_SECRET = 20  # bytes: as long as the hash, RFC 4226, section 4


def new_secret() -> bytes:
    return secrets.token_bytes(_SECRET)


def code(secret: bytes, step: int) -> str:
    """RFC 4226, section 5.3."""
    digest = hmac.new(secret, step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_of(secret: bytes, given: str, *, now: float, after: int) -> int | None:
    """The step whose code was given; None for a wrong one.

    Args:
        now: seconds since 1970-01-01 UTC.
        after: the step of the last code that was taken: that one and those before it are worth nothing any more.
    """
    current = int(now) // STEP
    found = None
    for step in range(current - SLACK, current + SLACK + 1):
        if hmac.compare_digest(code(secret, step).encode(), given.encode()) and step > after:
            found = step
    return found


def text_of(secret: bytes) -> str:
    """As it is typed into an app, in groups of four."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def address_of(secret: bytes, issuer: str, name: str) -> str:
    """What the QR code says (the Key URI format that apps read)."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return f"otpauth://totp/{quote(f'{issuer}:{name}')}?{urlencode({'secret': text, 'issuer': issuer})}"
