"""`Postern-Identity`: whom a request runs as, told to a backend as a JWT (RFC 7519) that it can check itself."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from identity.core.assertions import algorithm, raw_signature
from identity.core.certificates import Certificate


def key_id(certificate: Certificate) -> str:
    """What the token's header and the JWKS call a key: of the public key, so that a renewal keeps it."""
    return certificate.spki_sha256[:16]


def identity_token(
    key: Any,
    certificate: Certificate,
    *,
    issuer: str,
    audience: str,
    user: str,
    groups: list[str],
    now: int,
    lifetime: int,
) -> bytes:
    """`now`: seconds since 1970-01-01 UTC; `lifetime`: seconds. Raises AssertionInvalid for a key that cannot sign."""
    header = {"alg": algorithm(key.public_key()), "typ": "JWT", "kid": key_id(certificate)}
    claims = {"iss": issuer, "aud": audience, "sub": user, "groups": groups, "iat": now, "exp": now + lifetime}
    signed = b".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return signed + b"." + _encode(raw_signature(signed, key))


def jwk(certificate: Certificate) -> dict[str, str]:
    """The public key as a JSON Web Key (RFC 7517). Raises AssertionInvalid for a key that signs nothing here."""
    key = certificate.parsed.public_key()
    common = {"kid": key_id(certificate), "use": "sig", "alg": algorithm(key)}
    match key:
        case ec.EllipticCurvePublicKey():
            numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
            curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
            return common | {"kty": "EC", "crv": curve, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}
        case rsa.RSAPublicKey():
            public = key.public_numbers()
            return common | {"kty": "RSA", "n": _number(public.n), "e": _number(public.e)}
        case ed25519.Ed25519PublicKey():
            return common | {"kty": "OKP", "crv": "Ed25519", "x": _encode(key.public_bytes_raw()).decode()}
    raise AssertionError("algorithm() has refused every other kind")


def _number(value: int, size: int = 0) -> str:
    return _encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big")).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
