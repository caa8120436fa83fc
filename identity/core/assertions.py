"""The signed statement that carries an identity across the tunnel: a JWS in compact form (RFC 7515).

Written and read here alone, so the reader takes exactly what the writer makes: one header per kind of key, in
one spelling, base64url without padding and without slack bits, every claim present and no other.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from identity.core.certificates import Certificate

MAX_LIFETIME = 60  # seconds
MAX_TOKEN = 4 * 1024  # bytes; RSA-4096 makes about 1,100
SKEW = 5.0  # seconds by which the edge's idea of our clock may be off; granted at both ends

_CURVES = {
    "secp256r1": ("ES256", hashes.SHA256(), 32),
    "secp384r1": ("ES384", hashes.SHA384(), 48),
    "secp521r1": ("ES512", hashes.SHA512(), 66),
}
_CLAIMS = {"iss", "aud", "cnf", "prf", "iat", "exp"}


class Proof(StrEnum):
    """How the edge came to know the certificate."""

    TLS = "tls"  # a handshake at one of its ports proved the key; signed by the registration port's key
    KEY = "key"  # the certificate's own key signed the token
    TEST = "test"  # an operator's test invoke; nobody proved anything; signed by the registration port's key


class AssertionInvalid(ValueError):
    """`field` names what is wrong, `problem` tells what was found and what is accepted."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes:
        issuer: name of the registration port that the tunnel is registered at.
        audience: `REGISTRATION#NONCE`; the nonce is the internal node's and new whenever it starts.
        sha256: of the certificate's DER, hex (RFC 8705, section 3.1 has it base64url in `cnf`).
        issued_at, expires_at: whole seconds since 1970-01-01 UTC in the internal node's clock (RFC 7519, NumericDate).
    """

    issuer: str
    audience: str
    sha256: str
    proof: Proof
    issued_at: int
    expires_at: int


def audience(registration: str, nonce: str) -> str:
    return f"{registration}#{nonce}"


def algorithm(public_key: object) -> str:
    """The one algorithm for a kind of key; it is never read from the token.

    Raises:
        AssertionInvalid: a kind of key that signs nothing here.
    """
    match public_key:
        case ec.EllipticCurvePublicKey() if public_key.curve.name in _CURVES:
            return _CURVES[public_key.curve.name][0]
        case rsa.RSAPublicKey() if public_key.key_size >= 2048:
            return "PS256"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"  # RFC 9864
    raise AssertionInvalid("key", "neither EC P-256, P-384 or P-521, nor RSA of 2048 bits, nor Ed25519")


def sign(claims: Claims, private_key: object) -> bytes:
    """The token. Raises AssertionInvalid for a key that signs nothing here."""
    head = _header(algorithm(private_key.public_key()))  # type: ignore[attr-defined]
    payload = {
        "iss": claims.issuer,
        "aud": claims.audience,
        "cnf": {"x5t#S256": _encode(bytes.fromhex(claims.sha256)).decode()},
        "prf": claims.proof.value,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
    }
    signed = head + b"." + _encode(json.dumps(payload, separators=(",", ":")).encode())
    return signed + b"." + _encode(raw_signature(signed, private_key))


def verify(
    token: bytes, *, tunnel_key: object, certificate: Certificate, issuer: str, audience: str, now: float
) -> Claims:
    """What `token` says, if it was made for this tunnel, for `certificate`, by whom its proof needs.

    Args:
        tunnel_key: public key of the certificate that the registration port showed in this tunnel's handshake.
        certificate: the one that came with the token; proof `key` is checked against its key.
        issuer: the registration port's name, as this node's configuration has it.
        now: this node's wall clock, seconds since 1970-01-01 UTC.
    Raises:
        AssertionInvalid: anything else.
    """
    if len(token) > MAX_TOKEN:
        raise AssertionInvalid("token", f"{len(token)} bytes; at most {MAX_TOKEN} are read")
    parts = token.split(b".")
    if len(parts) != 3:
        raise AssertionInvalid("token", f"{len(parts)} parts; a compact JWS has 3")
    claims = _read(_decode(parts[1], "payload"))
    key = certificate.parsed.public_key() if claims.proof is Proof.KEY else tunnel_key
    if parts[0] != _header(algorithm(key)):
        raise AssertionInvalid("header", "not the one header that goes with the signer's key")
    _check_signature(parts[0] + b"." + parts[1], _decode(parts[2], "signature"), key)
    if claims.issuer != issuer:
        raise AssertionInvalid("iss", f"made at {claims.issuer!r}; this tunnel is registered at {issuer!r}")
    if claims.audience != audience:
        raise AssertionInvalid("aud", "made for another registration, or for one of an earlier start")
    if claims.sha256 != certificate.sha256:
        raise AssertionInvalid("cnf", "names another certificate than the one that came with it")
    check_times(claims, now=now)
    return claims


def check_times(claims: Claims, *, now: float, skew: float = SKEW) -> None:
    """Refuse a token that is not yet valid, over, or longer-lived than any that we sign.

    Raises:
        AssertionInvalid
    """
    lifetime = claims.expires_at - claims.issued_at
    if not 0 < lifetime <= MAX_LIFETIME:
        raise AssertionInvalid("exp", f"{lifetime} s after iat; 1 to {MAX_LIFETIME} are accepted")
    if claims.issued_at > now + skew:
        raise AssertionInvalid("iat", f"{claims.issued_at - now:.0f} s ahead of this node; compare the clocks")
    if claims.expires_at <= now - skew:  # at `exp` itself it is over already (RFC 7519, section 4.1.4)
        raise AssertionInvalid("exp", f"over for {now - claims.expires_at:.0f} s; {skew:.0f} s are granted")


def _header(name: str) -> bytes:
    return _encode(b'{"alg":"%s","typ":"postern-assertion+jwt"}' % name.encode())


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes, field: str) -> bytes:
    """Raises AssertionInvalid for anything but the one spelling that `_encode` makes."""
    try:
        data = base64.b64decode(text.translate(_FROM_URL) + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise AssertionInvalid(field, "not base64url") from error
    if _encode(data) != text:
        raise AssertionInvalid(field, "not in its one base64url spelling")
    return data


_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")  # `+` and `/` are no base64url and must not pass


def _read(payload: bytes) -> Claims:
    try:
        found = json.loads(payload, object_pairs_hook=_unique)
        if not isinstance(found, dict) or set(found) != _CLAIMS or set(found["cnf"]) != {"x5t#S256"}:
            raise AssertionInvalid("payload", "other claims than iss, aud, cnf, prf, iat, exp")
        times = found["iat"], found["exp"]
        texts = found["iss"], found["aud"], found["prf"], found["cnf"]["x5t#S256"]
        if not all(type(t) is int for t in times) or not all(type(t) is str for t in texts):
            raise AssertionInvalid("payload", "a claim of the wrong type")
        thumbprint = _decode(texts[3].encode("ascii"), "cnf")
        if len(thumbprint) != hashlib.sha256().digest_size:
            raise AssertionInvalid("cnf", "not a SHA-256 thumbprint")
        return Claims(texts[0], texts[1], thumbprint.hex(), Proof(texts[2]), *times)
    except AssertionInvalid:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise AssertionInvalid("payload", "cannot be read") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise AssertionInvalid("payload", "a claim is given twice")
    return found


def raw_signature(signed: bytes, key: object) -> bytes:
    """The signature as JWS wants it (RFC 7518, section 3; RFC 8037). Raises AssertionInvalid for other keys."""
    match key:
        case ec.EllipticCurvePrivateKey():
            _, digest, size = _CURVES[key.curve.name]
            r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        case rsa.RSAPrivateKey():
            return key.sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        case ed25519.Ed25519PrivateKey():
            return key.sign(signed)
    raise AssertionInvalid("key", "cannot sign")


def _check_signature(signed: bytes, signature: bytes, key: object) -> None:
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                _, digest, size = _CURVES[key.curve.name]
                if len(signature) != 2 * size:
                    raise AssertionInvalid("signature", f"{len(signature)} bytes; {2 * size} are needed")
                r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
                key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
            case rsa.RSAPublicKey():
                key.verify(signature, signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
            case ed25519.Ed25519PublicKey():
                key.verify(signature, signed)
            case _:
                raise AssertionInvalid("key", "verifies nothing here")
    except InvalidSignature as error:
        raise AssertionInvalid("signature", "not by the key that this proof needs") from error
