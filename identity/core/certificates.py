"""DER → Certificate, a value.

Knows nothing of files and their kinds, which is `files`, nor of trust: whether a certificate is believed is `chains`,
whom it means is `mapping`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.core import names
from identity.core.names import DistinguishedName

MAX_DER = 64 * 1024  # bytes of one certificate

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_PURPOSES = {
    ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string: "client authentication",
    ExtendedKeyUsageOID.SERVER_AUTH.dotted_string: "server authentication",
    ExtendedKeyUsageOID.CODE_SIGNING.dotted_string: "code signing",
    ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string: "e-mail protection",
    ExtendedKeyUsageOID.TIME_STAMPING.dotted_string: "time stamping",
    ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string: "OCSP signing",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string: "any purpose",
}

_T = TypeVar("_T", bound=x509.ExtensionType)
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class CertificateError(ValueError):
    """What was given is not what was asked for; the message says what it is and what would be right."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One parsed certificate. Equal when the DER is equal.

    Attributes:
        sha256: of the DER, 64 hex digits: what an exact mapping names.
        spki_sha256: of the public key (SubjectPublicKeyInfo), hex: what an authority is known by.
        not_before, not_after: seconds since 1970-01-01 UTC; both ends belong to the validity (RFC 5280, 4.1.2.5).
        alternative_names: `dns:…`, `email:…`, `uri:…`, `ip:…`.
        purposes: extended key usages in words; None when the certificate names none, which means any.
    """

    der: bytes = field(repr=False)
    sha256: str
    spki_sha256: str = field(compare=False)
    subject: DistinguishedName = field(compare=False)
    issuer: DistinguishedName = field(compare=False)
    serial: int = field(compare=False)
    not_before: float = field(compare=False)
    not_after: float = field(compare=False)
    alternative_names: tuple[str, ...] = field(compare=False)
    purposes: tuple[str, ...] | None = field(compare=False)
    is_authority: bool = field(compare=False)
    key: str = field(compare=False)
    signature: str = field(compare=False)
    parsed: x509.Certificate = field(compare=False, repr=False)

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def for_client_authentication(self) -> bool:
        return self.purposes is None or "client authentication" in self.purposes or "any purpose" in self.purposes

    @property
    def for_server_authentication(self) -> bool:
        return self.purposes is None or "server authentication" in self.purposes or "any purpose" in self.purposes

    def extension(self, kind: type[_T]) -> x509.Extension[_T] | None:
        try:
            return self.parsed.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
            return None

    @property
    def host_names(self) -> tuple[str, ...]:
        """Host names and addresses that a server with it answers for; `*.` stands for one label.

        The common name counts where there is no alternative name, as with certificates of older authorities.
        """
        kinds = ("dns:", "ip:")
        found = [name.partition(":")[2] for name in self.alternative_names if name.startswith(kinds)]
        if not self.alternative_names:
            found = [value.lower() for value in self.subject.values("CN")]
        return tuple(found)

    @property
    def self_issued(self) -> bool:
        return self.subject == self.issuer

    @property
    def ends(self) -> datetime:
        return datetime.fromtimestamp(self.not_after, UTC)

    @property
    def title(self) -> str:
        """The shortest words that a person knows it by."""
        return self.subject.text or next(iter(self.alternative_names), "") or f"serial {self.serial:x}"

    def pem(self) -> str:
        return self.parsed.public_bytes(serialization.Encoding.PEM).decode()


def _describe_key(key: object) -> str:
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case dsa.DSAPublicKey():
            return f"DSA {key.key_size}"
    return "unknown"


def _timestamp(moment: datetime) -> float:
    return moment.timestamp()


def from_der(der: bytes) -> Certificate:
    """One certificate from its DER, which must be all of it: what follows would be seen by others and not by us.

    Raises:
        CertificateError: not one certificate, more than one, or one that cannot be read.
    """
    if len(der) > MAX_DER:
        raise CertificateError(f"The certificate has {len(der):,} bytes; at most {MAX_DER:,} are accepted.")
    try:
        parsed = x509.load_der_x509_certificate(der)
        if parsed.public_bytes(serialization.Encoding.DER) != der:
            raise CertificateError("The certificate is not in its one exact encoding (DER).")
        extensions = parsed.extensions
        usages = _extension(extensions, x509.ExtendedKeyUsage)
        alternative = _extension(extensions, x509.SubjectAlternativeName)
        constraints = _extension(extensions, x509.BasicConstraints)
        key = parsed.public_key()
        return Certificate(
            der=der,
            sha256=hashlib.sha256(der).hexdigest(),
            spki_sha256=hashlib.sha256(
                key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            ).hexdigest(),
            subject=names.from_x509(parsed.subject),
            issuer=names.from_x509(parsed.issuer),
            serial=parsed.serial_number,
            not_before=_timestamp(parsed.not_valid_before_utc),
            not_after=_timestamp(parsed.not_valid_after_utc),
            alternative_names=names.alternative_names(alternative) if alternative else (),
            purposes=None if usages is None else tuple(_PURPOSES.get(u.dotted_string, u.dotted_string) for u in usages),
            is_authority=bool(constraints and constraints.ca),
            key=_describe_key(key),
            signature=parsed.signature_hash_algorithm.name.upper() if parsed.signature_hash_algorithm else "",
            parsed=parsed,
        )
    except CertificateError:
        raise
    except Exception as error:  # the parser raises a dozen kinds; each means the same to who uploaded the file
        raise CertificateError("This is not a certificate that can be read: what is in it is damaged.") from error


def _extension(extensions: x509.Extensions, kind: type[_T]) -> _T | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def issued(above: Certificate, below: Certificate) -> bool:
    """Whether one is signed with the other's key; to have the issuer's name is not enough."""
    if above == below or below.issuer != above.subject:
        return False
    try:
        below.parsed.verify_directly_issued_by(above.parsed)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def key_matches(key: object, certificate: Certificate) -> bool:
    """Whether `certificate` certifies the public half of the private `key`."""
    public = key.public_key().public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public).hexdigest() == certificate.spki_sha256


def key_pem(key: object) -> bytes:
    """PKCS#8, not encrypted: for sealing at once, never for a file."""
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem_of(chain: Iterable[Certificate]) -> str:
    return "".join(certificate.pem() for certificate in chain)
