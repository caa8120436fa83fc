"""The installation's own small authority: what its nodes and its console prove themselves to each other with.

It has nothing to do with callers or with registrations: whom it certifies may speak on the link between console
and node, and nowhere else. No files, no rows; time and randomness of keys come from outside or from the library.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONSOLE = "urn:postern:console"
_NODE = "urn:postern:node:"

AUTHORITY_DAYS = 20 * 365
CERTIFICATE_DAYS = 90
RENEW_BEFORE_DAYS = 30  # of the end: two months of trying, if need be
_BACKDATED = timedelta(days=1)  # a clock that is behind is no reason to refuse

Key = ec.EllipticCurvePrivateKey
Authorities = tuple[x509.Certificate, ...]  # those that are believed; several while one is exchanged for another


class AuthorityError(ValueError):
    """A request or a certificate is not what it should be; the message says what."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both as PEM."""

    certificate: str
    key: str = field(repr=False)

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())

    @property
    def private_key(self) -> Key:
        key = serialization.load_pem_private_key(self.key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key


def new_key() -> str:
    """PKCS#8 PEM."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def new_authority(now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Postern nodes {x509.random_serial_number():x}"[:40])])
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def request(key: str, node: str) -> str:
    """What a node asks its certificate with: its public key, and the proof that it has the private one."""
    private = Pair("", key).private_key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:64])])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(private, hashes.SHA256())
    return asked.public_bytes(serialization.Encoding.PEM).decode()


def certify_node(authority: Pair, asked: str, node: str, now: datetime) -> str:
    """The node's certificate, in PEM: its name is the one that we give it, whatever the request says.

    Raises:
        AuthorityError: the request is none, or not signed by the key that it names.
    """
    try:
        request = x509.load_pem_x509_csr(asked.encode())
        key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"no certificate request: {error}") from error
    if not proven or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityError("the request is not signed by the P-256 key that it names")
    return _certify(authority, key, node, _NODE + node, now)


def certify_console(authority: Pair, now: datetime) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    return Pair(_certify(authority, key.public_key(), "console", CONSOLE, now), _key_pem(key))


def self_made(key: str, node: str, now: datetime) -> str:
    """What an edge shows before it has a certificate; it proves nothing but that it has its key."""
    private = Pair("", key).private_key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:64])])
    return _pem(_builder(name, name, private.public_key(), now, 1).sign(private, hashes.SHA256()))


def read_authorities(pem: str) -> Authorities:
    """Raises ValueError where there is none."""
    return tuple(x509.load_pem_x509_certificates(pem.encode()))


def fingerprint_of(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def issuer_of(certificate: x509.Certificate, authorities: Authorities) -> x509.Certificate:
    """The one that signed it.

    Raises:
        AuthorityError: none of them did.
    """
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return authority
    raise AuthorityError("the certificate is not from this installation's authority")


def role_of(certificate: x509.Certificate, authorities: Authorities) -> str:
    """`urn:postern:console` or `urn:postern:node:NAME`: what the authority says that the holder is.

    Whether it is in its validity is for the handshake, or for nobody: a snapshot stays signed.

    Raises:
        AuthorityError: the authority says nothing of the kind.
    """
    issuer_of(certificate, authorities)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise AuthorityError("the certificate does not say whose it is") from error
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(found) != 1:
        raise AuthorityError("the certificate does not say whose it is")
    return found[0]


def require_console(certificate: x509.Certificate, authorities: Authorities) -> None:
    """Raises AuthorityError unless the certificate is the console's."""
    if (role := role_of(certificate, authorities)) != CONSOLE:
        raise AuthorityError(f"the certificate is that of {role}, and not the console's")


def node_of(certificate: x509.Certificate, authorities: Authorities) -> str:
    """The name of the node whose certificate it is. Raises AuthorityError."""
    role = role_of(certificate, authorities)
    if not role.startswith(_NODE):
        raise AuthorityError(f"the certificate is that of {role}, and not a node's")
    return role.removeprefix(_NODE)


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is to be renewed."""
    return certificate.not_valid_after_utc - now < timedelta(days=RENEW_BEFORE_DAYS)


def from_der(der: bytes) -> x509.Certificate:
    """Raises AuthorityError."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise AuthorityError(f"no certificate: {error}") from error


def serial_of(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def utc_now() -> datetime:
    return datetime.now(UTC)


def _certify(authority: Pair, key: ec.EllipticCurvePublicKey, common: str, uri: str, now: datetime) -> str:
    issuer = authority.parsed
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = (
        _builder(name, issuer.subject, key, now, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_public(issuer)), critical=False)
    )
    return _pem(builder.sign(authority.private_key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=False,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _public(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: Key) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
