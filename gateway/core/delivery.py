"""A snapshot on its way: what the console signs, and what a node checks before it looks at anything else.

A statement names node, revision, what it stands on and the digest of the body, a whole document or a
difference. The digest in force is a chain: that of a whole document is of its bytes, that of a difference is of
the one that it stands on and of its bytes. So a statement cannot be used at another node, on another
document or in another order, and none of it costs more than the bytes that came.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from identity.core.authority import Authorities, AuthorityError, Pair, require_console

_CONTEXT = b"postern snapshot 1\0"


class DeliveryError(ValueError):
    """What came is not the console's word for this node; nothing of it was looked at. The message says why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`stands_on`: the digest that a difference needs in force; "" with a whole document. `sha256`: of the body."""

    node: str
    revision: int
    stands_on: str
    sha256: str
    issued: int  # seconds since 1970-01-01 UTC, by the console's clock; shown, never decided by

    @property
    def digest(self) -> str:
        """What is in force once this is."""
        if not self.stands_on:
            return self.sha256
        return hashlib.sha256(f"{self.stands_on}{self.sha256}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A statement as it is signed, with the console's certificate; and the body that it speaks of."""

    signed: str
    signature: str  # hexadecimal
    certificate: str  # PEM
    body: bytes

    def head(self) -> dict[str, Any]:
        return {"signed": self.signed, "signature": self.signature, "certificate": self.certificate}

    @classmethod
    def of(cls, head: dict[str, Any], body: bytes) -> "Delivery":
        """Raises DeliveryError."""
        signed, signature, certificate = (head.get(name) for name in ("signed", "signature", "certificate"))
        if not (isinstance(signed, str) and isinstance(signature, str) and isinstance(certificate, str)):
            raise DeliveryError("the delivery lacks its statement, signature or certificate")
        return cls(signed, signature, certificate, body)


def sign(console: Pair, *, node: str, revision: int, stands_on: str, body: bytes, now: float) -> Delivery:
    statement = Statement(node, revision, stands_on, hashlib.sha256(body).hexdigest(), int(now))
    signed = json.dumps(asdict(statement), separators=(",", ":"), sort_keys=True)
    signature = console.private_key.sign(_CONTEXT + signed.encode(), ec.ECDSA(hashes.SHA256()))
    return Delivery(signed, signature.hex(), console.certificate, body)


def verify(delivery: Delivery, authorities: Authorities, node: str) -> Statement:
    """The statement, where it is the console's, for this node, and of this body.

    Raises:
        DeliveryError
    """
    try:
        certificate = x509.load_pem_x509_certificate(delivery.certificate.encode())
        require_console(certificate, authorities)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise DeliveryError("the console's key is of another kind")
        key.verify(bytes.fromhex(delivery.signature), _CONTEXT + delivery.signed.encode(), ec.ECDSA(hashes.SHA256()))
        statement = Statement(**json.loads(delivery.signed))
    except InvalidSignature as error:
        raise DeliveryError("the signature is not the console's") from error
    except AuthorityError as error:
        raise DeliveryError(f"not signed by the console: {error}") from error
    except (ValueError, TypeError) as error:
        if isinstance(error, DeliveryError):
            raise
        raise DeliveryError(f"the statement cannot be read: {error}") from error
    if statement.node != node:
        raise DeliveryError(f"it is meant for node {statement.node}, and this is {node}")
    if hashlib.sha256(delivery.body).hexdigest() != statement.sha256:
        raise DeliveryError("the body is not the one that was signed: part of it is missing, or it was changed")
    return statement


def check_order(statement: Statement, revision: int, digest: str) -> None:
    """Raises DeliveryError where a statement may not follow on what is in force."""
    if statement.revision < revision:
        raise DeliveryError(
            f"revision {statement.revision} is older than {revision}, which is in force: nothing goes back but by a "
            "new revision"
        )
    if statement.stands_on and statement.stands_on != digest:
        raise DeliveryError("the difference stands on another document than the one in force")
