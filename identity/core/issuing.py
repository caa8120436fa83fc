"""Keys that are made here, what is asked of an authority for them, and certificates that they sign themselves.

Knows nothing of where a key is kept. Time comes in as an argument; randomness is the operating system's.
"""

import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.core.certificates import Certificate, from_der
from identity.core.files import PrivateKey
from identity.core.names import x509_name

MAX_DAYS = 398  # of a certificate that signs itself; what browsers take of any (CA/Browser Forum, since 2020)
MAX_NAMES = 100  # alternative names in one certificate


class KeyKind(StrEnum):
    """What the form and the file of this noun call them."""

    EC_P256 = "ec-p256"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"


_MAKERS: dict[KeyKind, Callable[[], PrivateKey]] = {
    KeyKind.EC_P256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyKind.RSA_2048: lambda: rsa.generate_private_key(65537, 2048),
    KeyKind.RSA_3072: lambda: rsa.generate_private_key(65537, 3072),
    KeyKind.RSA_4096: lambda: rsa.generate_private_key(65537, 4096),
    KeyKind.ED25519: ed25519.Ed25519PrivateKey.generate,
}


def new_key(kind: KeyKind) -> PrivateKey:
    return _MAKERS[kind]()


def general_name(text: str) -> x509.GeneralName:
    """`dns:…`, `ip:…`, `email:…`, `uri:…`. Raises ValueError, saying what would be right."""
    kind, separator, value = text.partition(":")
    try:
        if separator and value and value.isascii() and value.isprintable() and " " not in value:
            match kind:
                case "dns":
                    return x509.DNSName(value.lower())
                case "ip":
                    return x509.IPAddress(ipaddress.ip_address(value))
                case "email" if "@" in value:
                    return x509.RFC822Name(value)
                case "uri" if ":" in value:
                    return x509.UniformResourceIdentifier(value)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no alternative name; write dns:gateway.example, ip:192.0.2.1, email:… or uri:…")


def request(key: PrivateKey, subject: str, names: Sequence[str]) -> str:
    """A certificate signing request (PKCS#10) in PEM.

    Args:
        subject: RFC 4514 text, or "".
        names: alternative names, as `general_name` reads them.

    Raises:
        ValueError: subject or a name cannot be read, or there is neither.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(subject, names))
    if names:
        builder = builder.add_extension(_alternative(names), critical=not subject)
    return builder.sign(key, _hash(key)).public_bytes(serialization.Encoding.PEM).decode()


def self_signed(key: PrivateKey, subject: str, names: Sequence[str], days: int, now: float) -> Certificate:
    """A certificate that vouches for itself, for servers and clients alike.

    Args:
        days: its validity from `now` on (seconds since 1970-01-01 UTC), 1 to `MAX_DAYS`.

    Raises:
        ValueError: as `request`, or `days` is beyond its bounds.
    """
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"{days} days; 1 to {MAX_DAYS} are accepted")
    name, begin, public = _subject(subject, names), datetime.fromtimestamp(int(now), UTC), key.public_key()
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(minutes=5))  # for clocks that are behind
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_usage(key), critical=True)
    )
    if names:
        builder = builder.add_extension(_alternative(names), critical=not subject)
    return from_der(builder.sign(key, _hash(key)).public_bytes(serialization.Encoding.DER))


def _subject(subject: str, names: Sequence[str]) -> x509.Name:
    if not subject and not names:
        raise ValueError("a certificate needs a subject or an alternative name")
    return x509_name(subject) if subject else x509.Name([])


def _alternative(names: Sequence[str]) -> x509.SubjectAlternativeName:
    if len(names) > MAX_NAMES:
        raise ValueError(f"{len(names)} alternative names; at most {MAX_NAMES} are accepted")
    return x509.SubjectAlternativeName([general_name(name) for name in names])


def _usage(key: PrivateKey) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPrivateKey), content_commitment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
