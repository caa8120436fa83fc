"""Certificates and keys for tests, minted on the spot: no test ships one."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.core.certificates import Certificate, from_der

PURPOSES = {
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "both": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
    "none": [],
}
KEYS = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
}


@dataclass(frozen=True)
class Minted:
    """A certificate with its key. `above`: its issuers but for the root, nearest first."""

    x509: x509.Certificate
    key: Any = field(repr=False)
    above: tuple["Minted", ...] = ()

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return self.x509.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def chain_pem(self) -> str:
        return self.pem + "".join(link.pem for link in self.above)

    @property
    def certificate(self) -> Certificate:
        return from_der(self.der)

    @property
    def key_pem(self) -> str:
        return self.key_pem_with(None)

    def key_pem_with(self, pass_phrase: str | None) -> str:
        encryption = (
            serialization.BestAvailableEncryption(pass_phrase.encode()) if pass_phrase else serialization.NoEncryption()
        )
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        ).decode()


def mint(
    subject: str,
    issuer: Minted | None = None,
    *,
    purpose: str = "client",
    authority: bool = False,
    san: Sequence[str] = (),
    key: str = "ec",
    same_key_as: Minted | None = None,
    days: tuple[float, float] = (-1, 30),
) -> Minted:
    """`subject`: RFC 4514 text. `days`: when its validity begins and ends, from now."""
    own = same_key_as.key if same_key_as else KEYS[key]()
    name, now = x509.Name.from_rfc4514_string(subject), datetime.datetime.now(datetime.UTC)
    signer = issuer.key if issuer else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.x509.subject if issuer else name)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not authority and PURPOSES[purpose]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(PURPOSES[purpose]), critical=False)
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in san]), critical=False)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    above = () if issuer is None else ((issuer,) if issuer.x509.issuer != issuer.x509.subject else ()) + issuer.above
    return Minted(builder.sign(signer, algorithm), own, above)


def authority(subject: str = "CN=Partner CA,O=Acme", issuer: Minted | None = None, **more: Any) -> Minted:
    return mint(subject, issuer, authority=True, **more)


def crl(issuer: Minted, revoked: Sequence[Minted] = (), *, days: tuple[float, float] = (-1, 7)) -> bytes:
    """A revocation list in DER."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.x509.subject)
        .last_update(now + datetime.timedelta(days=days[0]))
        .next_update(now + datetime.timedelta(days=days[1]))
    )
    for victim in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(victim.x509.serial_number).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def crl_pem(issuer: Minted, revoked: Sequence[Minted] = (), **more: Any) -> bytes:
    """The same in PEM."""
    return x509.load_der_x509_crl(crl(issuer, revoked, **more)).public_bytes(serialization.Encoding.PEM)


def _general(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    return {
        "dns": x509.DNSName,
        "email": x509.RFC822Name,
        "uri": x509.UniformResourceIdentifier,
        "ip": lambda v: x509.IPAddress(ipaddress.ip_address(v)),
    }[kind](value)
