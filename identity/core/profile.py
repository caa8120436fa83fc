"""One certificate by itself → whether it may stand in a path, or what is wrong with it, in words.

What RFC 5280, section 4, wants of its shape, and which keys and signatures are strong enough. Who issued it, when,
and for which names is `chains`, `path_rules` and `constraints`.

RFC 5280 is taken at its word wherever an attack could hide: an extension that must be critical and is not is one
that other programs pass over. What old authorities leave out and nobody can gain by stays lawful: alternative names,
key identifiers, key usage, and of a client's certificate the whole of version 3.
"""

from collections.abc import Callable
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from identity.core import der
from identity.core.certificates import Certificate

MIN_RSA_BITS = 2048
MIN_CURVE_BITS = 256
MAX_SERIAL_BITS = 159  # 20 octets with the sign (RFC 5280, section 4.1.2.2)
STRONG_HASHES = frozenset({"SHA256", "SHA384", "SHA512", "SHA3-256", "SHA3-384", "SHA3-512"})
HASH_NAMES = {"SHA1": "SHA-1"}
_NETSCAPE_TYPE = "2.16.840.1.113730.1.1"
_POLICY_MAPPINGS = "2.5.29.33"
_FIRST_GENERALIZED_YEAR = 2050

# Extensions that are understood here or in a neighbour, so that they may be critical.
_UNDERSTOOD = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    )
) | {_POLICY_MAPPINGS, _NETSCAPE_TYPE}
# Names for what must be critical, and for what must not (RFC 5280, section 4.2).
_MUST_BE_CRITICAL = {
    ExtensionOID.NAME_CONSTRAINTS.dotted_string: "name constraints",
    ExtensionOID.POLICY_CONSTRAINTS.dotted_string: "policy constraints",
    ExtensionOID.INHIBIT_ANY_POLICY.dotted_string: "inhibit any policy",
}
_MUST_NOT_BE_CRITICAL = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER.dotted_string: "authority key identifier",
    ExtensionOID.SUBJECT_KEY_IDENTIFIER.dotted_string: "subject key identifier",
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS.dotted_string: "authority information access",
    ExtensionOID.SUBJECT_INFORMATION_ACCESS.dotted_string: "subject information access",
    ExtensionOID.FRESHEST_CRL.dotted_string: "freshest CRL",
}


class Place(Enum):
    """Where in a path the certificate stands. A client's own that the truststore holds is `PINNED`."""

    CLIENT = "client"
    PINNED = "pinned"
    INTERMEDIATE = "intermediate"
    ANCHOR = "anchor"

    @property
    def issues(self) -> bool:
        return self in (Place.INTERMEDIATE, Place.ANCHOR)

    @property
    def held(self) -> bool:
        """Whether the truststore has it: it is believed for its key, not for who signed it."""
        return self in (Place.PINNED, Place.ANCHOR)


def fault(certificate: Certificate, place: Place) -> str | None:
    """What keeps it out of every path, in words that follow its title; None where nothing does. Never raises."""
    try:
        return next((words for check in _CHECKS if (words := check(certificate, place))), None)
    except (ValueError, IndexError, TypeError):  # the parser reads some parts only when they are asked for
        return "it cannot be read whole: what is in it is damaged"


def fault_of_anchor(certificate: Certificate) -> str | None:
    """Why a truststore gains nothing by it, and what would be right, as sentences; None where it does."""
    words = fault(certificate, Place.ANCHOR if certificate.is_authority else Place.PINNED)
    if words is None:
        return None
    what = "nothing that it issues is" if certificate.is_authority else "it is not"
    right = "Add an authority with a stronger key."
    if not words.startswith("its key is"):
        right = "Ask for a certificate of the same name and key without that fault; what it issued leads to it as well."
    return f"{certificate.title} is of no use here, and {what} believed: {words}. {right}"


def _key(certificate: Certificate, place: Place) -> str | None:
    match certificate.parsed.public_key():
        case rsa.RSAPublicKey(key_size=bits):
            return f"its key is RSA {bits}; RSA below {MIN_RSA_BITS} is refused" if bits < MIN_RSA_BITS else None
        case ec.EllipticCurvePublicKey(curve=curve) as key:
            if curve.key_size < MIN_CURVE_BITS:
                return f"its key is on the curve {curve.name}; curves below {MIN_CURVE_BITS} bits are refused"
            # A curve given by its parameters is one that the sender chose (CVE-2020-0601).
            if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) not in _parts(certificate).whole:
                return "its key does not name its curve"
            return None
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return None
    return f"its key is {certificate.key}, a kind that is not accepted; use RSA, EC or Ed25519"


def _signature(certificate: Certificate, place: Place) -> str | None:
    """The anchor's own signature proves nothing, and so it is not looked at."""
    inner, outer = der.read(_parts(certificate).content), der.read(der.read(certificate.der)[0].content)
    if inner[2 if inner[0].tag == 0xA0 else 1].whole != outer[1].whole:
        return "it names two different signature algorithms"
    if place.held or not certificate.signature or certificate.signature in STRONG_HASHES:
        return None
    name = HASH_NAMES.get(certificate.signature, certificate.signature)
    return f"it is signed with {name}; {name} is refused"


def _version(certificate: Certificate, place: Place) -> str | None:
    """Of version 1 old tools make what has no extensions; version 2 nobody ever made, and the parser refuses it."""
    if certificate.parsed.version is x509.Version.v1 and len(certificate.parsed.extensions):
        return "it is of version 1 and has extensions, which version 3 alone has"
    return None


def _serial(certificate: Certificate, place: Place) -> str | None:
    """Old tools numbered their own root 0; nobody else may."""
    if place.held or (certificate.serial > 0 and certificate.serial.bit_length() <= MAX_SERIAL_BITS):
        return None
    if certificate.serial > 0:
        return "its serial number has more than 20 octets"
    return "its serial number is negative" if certificate.serial else "its serial number is zero"


def _names(certificate: Certificate, place: Place) -> str | None:
    if not certificate.issuer.rdns:
        return "its issuer has no name"
    if place.issues and not certificate.subject.rdns:
        return "it has no subject, and an authority needs one"
    alternative = certificate.extension(x509.SubjectAlternativeName)
    if alternative is not None and not len(alternative.value):
        return "its subject alternative name is empty"
    if certificate.subject.rdns:
        return None
    if alternative is None:
        return "it has neither a subject nor a subject alternative name"
    return None if alternative.critical else "its subject is empty, and its subject alternative name is not critical"


def _validity(certificate: Certificate, place: Place) -> str | None:
    """One moment has one encoding (RFC 5280, section 4.1.2.5)."""
    parts = der.read(_parts(certificate).content)
    times = der.read(parts[4 if parts[0].tag == 0xA0 else 3].content)
    moments = certificate.parsed.not_valid_before_utc, certificate.parsed.not_valid_after_utc
    for moment, value in zip(moments, times, strict=True):
        right = der.UTC_TIME if moment.year < _FIRST_GENERALIZED_YEAR else der.GENERALIZED_TIME
        if value.tag != right:
            return "its validity is not encoded as RFC 5280 wants it"
    return None


def _criticality(certificate: Certificate, place: Place) -> str | None:
    for extension in certificate.parsed.extensions:
        oid = extension.oid.dotted_string
        if extension.critical and (name := _MUST_NOT_BE_CRITICAL.get(oid)):
            return f"its {name} is marked critical, which it must not be"
        if extension.critical and oid not in _UNDERSTOOD:
            return f"it has a critical extension that is not understood here: {oid}"
        if not extension.critical and (name := _MUST_BE_CRITICAL.get(oid)):
            return f"its {name} must be marked critical, and {'are' if name.endswith('s') else 'is'} not"
    return None


def _constraints(certificate: Certificate, place: Place) -> str | None:
    basic = certificate.extension(x509.BasicConstraints)
    usage = certificate.extension(x509.KeyUsage)
    if not place.issues:
        if certificate.extension(x509.NameConstraints) is not None:
            return "it has name constraints, which an authority alone may have"
        if usage is not None and usage.value.key_cert_sign:
            return "its key usage says that it signs certificates, and it is no authority"
        return None
    if basic is None or not basic.value.ca:
        return "it is no authority, and issued what is below it"
    if not basic.critical:
        return "its basic constraints must be marked critical, and are not"
    if usage is not None and not usage.value.key_cert_sign:
        return "its key usage does not let it sign certificates"
    return None


def _usage(certificate: Certificate, place: Place) -> str | None:
    """What a client signs with in the handshake is a digital signature; purposes of an authority limit those below."""
    if not certificate.for_client_authentication:
        return f"it is for {', '.join(certificate.purposes or ()) or 'nothing'}, not for client authentication"
    if place.issues:
        return None
    usage = certificate.extension(x509.KeyUsage)
    if usage is not None and not usage.value.digital_signature:
        return "its key usage does not name digital signature, which a client needs"
    for extension in certificate.parsed.extensions:
        if extension.oid.dotted_string == _NETSCAPE_TYPE and isinstance(extension.value, x509.UnrecognizedExtension):
            bits = der.read(extension.value.value)[0].content
            if len(bits) < 2 or not bits[1] & 0x80:
                return "its Netscape certificate type does not name SSL client"
    return None


_CHECKS: tuple[Callable[[Certificate, Place], str | None], ...] = (
    _key,
    _signature,
    _version,
    _serial,
    _names,
    _validity,
    _criticality,
    _constraints,
    _usage,
)


def _parts(certificate: Certificate) -> der.Value:
    """What is signed (TBSCertificate)."""
    return der.read(certificate.parsed.tbs_certificate_bytes)[0]
