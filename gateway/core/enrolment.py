"""How a node and the console come to know each other: a bundle that is used once, and proofs of its secret.

The bundle pins the installation's authority for the node; the secret tells the console which node asks. A proof is
bound to the certificates of both ends of the connection that it is given on, so it is worth nothing on another.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

PREFIX = "postern-enrolment-1."
LIFETIME = 3600  # seconds for which a bundle can be used


class EnrolmentError(ValueError):
    """The bundle or a proof is not right; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What the console hands to whoever sets up a node.

    Attributes:
        authority: PEM of the installation's authority; of both while one is exchanged for another.
        expires: seconds since 1970-01-01 UTC, by the console's clock.
        consoles: where the console takes links (HOST:PORT); the node dials one of them, unless it is an edge.
        listen: of an edge: where it waits for the console.
    """

    node: str
    role: str
    authority: str
    expires: int
    consoles: tuple[str, ...] = ()
    listen: str = ""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def key(self) -> bytes:
        return key_of(self.secret)

    def text(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")


def read_bundle(text: str) -> Bundle:
    """Raises EnrolmentError."""
    text = "".join(text.split())
    if not text.startswith(PREFIX):
        raise EnrolmentError(f"This is no bundle: one begins with {PREFIX}. Copy it whole from the node's page.")
    body = text.removeprefix(PREFIX)
    try:
        said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return Bundle(**said | {"consoles": tuple(said["consoles"])})
    except (binascii.Error, ValueError, TypeError, KeyError) as error:
        raise EnrolmentError("The bundle is cut short or was changed. Copy it whole from the node's page.") from error


def key_of(secret: str) -> bytes:
    """What both sides prove; the secret itself is nowhere but in the bundle, and has 256 bits."""
    return hashlib.sha256(b"postern enrolment\0" + secret.encode()).digest()


def proof(key: bytes, who: str, node: str, *seen: bytes) -> str:
    """Of `who` (node or console). `seen`: what both ends know of their connection, and what is asked on it."""
    parts = [b"postern enrolment", who.encode(), node.encode(), *seen]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def check_proof(given: object, wanted: str) -> None:
    """Raises EnrolmentError."""
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise EnrolmentError("the other side does not know the bundle's secret")
