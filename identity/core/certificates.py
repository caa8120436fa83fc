"""DER and PEM → Certificate, a value; what is wrong with a file, in words.

Knows nothing of trust: whether a certificate is believed is `chains`, whom it means is `mapping`.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.core import names
from identity.core.names import DistinguishedName

MAX_FILE = 1024 * 1024  # bytes of one upload; a partner's certificate has two thousand
MAX_CERTIFICATES = 1000  # in one file
MAX_CRL = 16 * 1024 * 1024  # bytes; a large authority's list has a few million
MAX_DER = 64 * 1024  # bytes of one certificate

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----")
_KEY_BLOCKS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "DSA PRIVATE KEY")
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_NO_KEY_HERE = (
    "holds a private key, which does not belong here: send the certificate alone. "
    "Consider that key exposed if it was sent to you."
)
_FROM_PKCS7 = "Take the certificates out first: openssl pkcs7 -inform {} -print_certs -in FILE -out FILE.pem"
# What people send in place of a certificate, and what would be right.
_OTHER_BLOCKS = {
    "CERTIFICATE REQUEST": "It asks for a certificate; send the one that the authority made of it.",
    "NEW CERTIFICATE REQUEST": "It asks for a certificate; send the one that the authority made of it.",
    "X509 CRL": "A revocation list belongs into a truststore.",
    "PUBLIC KEY": "A public key alone names nobody; send the certificate.",
    "PKCS7": _FROM_PKCS7.format("PEM"),
}
# The same in DER, by how the outermost value begins.
_OTHER_DER = (
    (b"\x02\x01\x00", f"The file {_NO_KEY_HERE}"),
    (b"\x02\x01\x01", f"The file {_NO_KEY_HERE}"),
    (
        b"\x02\x01\x03",
        "This is a PKCS#12 file, which may hold a private key. Take the certificate out first: "
        "openssl pkcs12 -nokeys -clcerts -in FILE -out FILE.pem",
    ),
    (bytes.fromhex("06092a864886f70d010702"), f"This is a PKCS#7 file. {_FROM_PKCS7.format('DER')}"),
)
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


def from_file(data: bytes) -> tuple[Certificate, ...]:
    """Every certificate of a PEM file (in its order) or the one of a DER file.

    Raises:
        CertificateError: empty, too large, trailing bytes, a private key where a certificate belongs, or
            anything that is not a certificate; the message says which and what would be right.
    """
    if not data.strip():
        raise CertificateError("The file is empty; a certificate in PEM or DER is needed.")
    if len(data) > MAX_FILE:
        raise CertificateError(
            f"The file has {len(data):,} bytes; at most {MAX_FILE:,} are accepted. Is it a certificate?"
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CertificateError("The text is in UTF-16; save it as plain text (ASCII or UTF-8).")
    data = data.removeprefix(b"\xef\xbb\xbf")  # what some editors put before UTF-8
    if b"-----BEGIN " not in data:
        return (_from_bare_der(data),)
    blocks = list(_PEM.finditer(data))
    rest = _PEM.sub(b"", data)
    if any(block[1].decode() in _KEY_BLOCKS for block in blocks) or b"PRIVATE KEY-----" in rest:
        raise CertificateError(f"The file {_NO_KEY_HERE}")
    if b"-----BEGIN" in rest or b"-----END" in rest:
        raise CertificateError(
            "A PEM block is damaged: its BEGIN and END lines do not match or its text is not base64."
        )
    if any(byte >= 0x80 or (byte < 0x20 and byte not in b"\t\r\n") for byte in rest):
        raise CertificateError("The file has bytes around its PEM blocks that are not text; remove them.")
    if blocks and not _commentary(data[blocks[-1].end() :]):
        raise CertificateError("Something follows the last certificate; remove what stands after its END line.")
    if len(blocks) > MAX_CERTIFICATES:
        raise CertificateError(f"The file has {len(blocks)} certificates; at most {MAX_CERTIFICATES} are accepted.")
    found: list[Certificate] = []
    for number, block in enumerate(blocks, 1):
        label = block[1].decode()
        if label not in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"):
            what = _OTHER_BLOCKS.get(label, "Only CERTIFICATE blocks belong here.")
            raise CertificateError(f"Block {number} is a {label}. {what}")
        try:
            der = _base64(block[2])
        except ValueError as error:
            raise CertificateError(f"Block {number} is damaged: its text is not base64.") from error
        try:
            found.append(from_der(der))
        except CertificateError as error:
            raise CertificateError(f"Block {number}: {error}" if len(blocks) > 1 else str(error)) from error
    if not found:
        raise CertificateError("The file has no certificate; a PEM file has a line BEGIN CERTIFICATE.")
    return tuple(found)


def _commentary(tail: bytes) -> bool:
    """What `openssl` may print around certificates is allowed before them; after the last nothing is."""
    return not tail.strip()


def _base64(text: bytes) -> bytes:
    import base64

    return base64.b64decode(b"".join(text.split()), validate=True)


def _from_bare_der(data: bytes) -> Certificate:
    if data[:4] == b"\xfe\xed\xfe\xed":
        raise CertificateError(
            "This is a Java keystore (JKS). Convert it first: "
            "keytool -importkeystore -srckeystore FILE.jks -destkeystore FILE.p12 -deststoretype PKCS12"
        )
    if data[:1] != b"\x30":
        raise CertificateError("This is not a certificate: neither PEM (text with BEGIN CERTIFICATE) nor DER.")
    length, header = _der_length(data)
    for beginning, words in _OTHER_DER:
        if data.startswith(beginning, header):
            raise CertificateError(words)
    if length is not None and len(data) < header + length:
        raise CertificateError("The file ends in the middle: part of it was lost on the way. Send it again.")
    if length is not None and len(data) > header + length:
        try:
            from_der(data[: header + length])
        except CertificateError:
            raise CertificateError("This is not a certificate, although it begins like DER.") from None
        raise CertificateError(
            f"{len(data) - header - length} bytes follow the certificate; the file must end where it ends."
        )
    return from_der(data)


def _der_length(data: bytes) -> tuple[int | None, int]:
    """Content length and header size of the first DER value; None where it cannot be told."""
    if len(data) < 2:
        return None, 0
    first = data[1]
    if first < 0x80:
        return first, 2
    size = first & 0x7F
    if not 1 <= size <= 4 or len(data) < 2 + size:
        return None, 0
    return int.from_bytes(data[2 : 2 + size], "big"), 2 + size


def crl_from_file(data: bytes) -> bytes:
    """The DER of the one revocation list in a PEM or DER file. Raises CertificateError."""
    if len(data) > MAX_CRL:
        raise CertificateError(f"The revocation list has {len(data):,} bytes; at most {MAX_CRL:,} are accepted.")
    try:
        load = x509.load_pem_x509_crl if b"-----BEGIN" in data else x509.load_der_x509_crl
        return load(data).public_bytes(serialization.Encoding.DER)
    except Exception as error:
        raise CertificateError("This is not a revocation list (CRL) in DER or PEM.") from error


def one_from_file(data: bytes) -> Certificate:
    """The only certificate of a file, or the first when the others are its issuers in order.

    Raises:
        CertificateError: as `from_file`, and where the others do not lead up from the first.
    """
    first, *rest = from_file(data)
    below = first
    for above in rest:
        if below.issuer != above.subject:
            raise CertificateError(
                f"The file has {len(rest) + 1} certificates that are no chain: {above.title} did not issue "
                f"{below.title}. Send one certificate, or a leaf followed by its issuers."
            )
        below = above
    return first


def key_from_file(data: bytes, password: str | None = None) -> serialization.PrivateFormat | object:
    """The private key of a PEM or DER file.

    Raises:
        CertificateError: no key, a wrong or missing pass phrase, or a kind that TLS cannot use. Never quotes the file.
    """
    if len(data) > MAX_FILE:
        raise CertificateError(f"The key file has {len(data):,} bytes; at most {MAX_FILE:,} are accepted.")
    secret = password.encode() if password else None
    if b"BEGIN CERTIFICATE" in data and b"PRIVATE KEY" not in data:
        raise CertificateError("This is a certificate; the private key is needed here.")
    load = serialization.load_pem_private_key if b"-----BEGIN" in data else serialization.load_der_private_key
    try:
        key = load(data, secret)
    except TypeError as error:
        if secret is None:
            raise CertificateError("The key is encrypted; give its pass phrase.") from error
        raise CertificateError("The key is not encrypted; leave the pass phrase empty.") from error
    except Exception as error:
        encrypted = b"ENCRYPTED" in data
        if encrypted:
            raise CertificateError("The pass phrase does not open this key.") from error
        raise CertificateError("This is not a private key; PEM (PKCS#8 or traditional) or DER is needed.") from error
    if not isinstance(
        key,
        rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey,
    ):
        raise CertificateError("TLS cannot use this kind of key; use RSA, EC or Ed25519.")
    return key


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
