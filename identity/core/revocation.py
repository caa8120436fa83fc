"""Revocation lists (CRLs, RFC 5280, section 5): read and checked once, asked often.

A list speaks for the authority that signed it, known by its key. Lists that are only part of the truth are refused
where they are read: changes to another list (delta), entries of other authorities (indirect), some reasons alone.
One that is for clients or authorities alone, or for one distribution point, is asked about those alone.

Who signed a list is proved where it is read, by the authorities that are known there; or, for an authority that
callers send, where it stands in a verified path (`proved_by`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from identity.core import names
from identity.core.certificates import Certificate
from identity.core.profile import HASH_NAMES, STRONG_HASHES

_UNDERSTOOD = frozenset(
    {ExtensionOID.CRL_NUMBER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.ISSUING_DISTRIBUTION_POINT}
)
_UNDERSTOOD_IN_ENTRIES = frozenset({CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE})


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL, and by which key it is signed.

    Attributes:
        issuer_spki_sha256: of the authority that it speaks for; "" where that is still to be proved.
        next_update, this_update: seconds since 1970-01-01 UTC; without a next update it never runs out.
        number: that its issuer counts by; -1 where it does not.
        clients, authorities: whether it speaks of certificates of these.
        points: URIs of the distribution points that it speaks for; empty: all.
    """

    issuer_spki_sha256: str
    issuer: names.DistinguishedName = field(compare=False)
    next_update: float | None
    revoked: frozenset[int]  # serial numbers
    this_update: float = 0.0
    number: int = -1
    clients: bool = True
    authorities: bool = True
    points: frozenset[str] = frozenset()
    _unproved: x509.CertificateRevocationList | None = field(default=None, compare=False, repr=False)

    def proved_by(self, authority: Certificate) -> "RevocationList | None":
        """This list as that authority's, if it has signed it."""
        if self._unproved is None:
            return self if self.issuer_spki_sha256 == authority.spki_sha256 else None
        if self.issuer != authority.subject or not _may_sign(authority) or not _signed(self._unproved, authority):
            return None
        return replace(self, issuer_spki_sha256=authority.spki_sha256, _unproved=None)

    @property
    def scope(self) -> str:
        """What part of its authority's certificates it speaks of, in words; "" for all. Two lists of one scope are
        one list at two times."""
        part = "" if self.clients and self.authorities else "clients" if self.clients else "authorities"
        return " ".join((part, *sorted(self.points))).strip()

    @property
    def age(self) -> tuple[float, int]:
        """Greater is newer."""
        return self.this_update, self.number

    def covers(self, certificate: Certificate) -> bool:
        if not (self.authorities if certificate.is_authority else self.clients):
            return False
        return not self.points or not self.points.isdisjoint(points_of(certificate))


def points_of(certificate: Certificate) -> frozenset[str]:
    """URIs where its issuer says that lists about it are."""
    try:
        found = certificate.extension(x509.CRLDistributionPoints)
    except ValueError:
        return frozenset()
    points = found.value if found is not None else ()
    return frozenset(uri for point in points for uri in _uris(point.full_name))


def _uris(general: Iterable[x509.GeneralName] | None) -> Iterable[str]:
    return (name.value for name in general or () if isinstance(name, x509.UniformResourceIdentifier))


def newest(lists: Iterable[RevocationList]) -> tuple[RevocationList, ...]:
    """Of each authority and scope the newest alone."""
    found: dict[tuple[str, str], RevocationList] = {}
    for each in lists:
        key = each.issuer_spki_sha256, each.scope
        if key not in found or found[key].age < each.age:
            found[key] = each
    return tuple(found.values())


def load_crl(der: bytes, authorities: Iterable[Certificate], *, of_others: bool = False) -> RevocationList:
    """A CRL, checked against the one of `authorities` that signed it.

    Args:
        of_others: whether it may be of an authority of another name; that is to be proved later.
    Raises:
        ValueError: not a CRL, of nobody among `authorities`, with a signature that is not theirs, or one that says
            less than all; the message tells which.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        issuer = names.from_x509(crl.issuer)
        extensions = crl.extensions
        hash_name = crl.signature_hash_algorithm.name.upper() if crl.signature_hash_algorithm else ""
    except Exception as error:
        raise ValueError("This is not a revocation list (CRL) in DER or PEM.") from error
    if hash_name and hash_name not in STRONG_HASHES:
        name = HASH_NAMES.get(hash_name, hash_name)
        raise ValueError(f"The revocation list of {issuer} is signed with {name}; {name} is refused.")
    authority = _signer(crl, issuer, authorities, of_others=of_others)
    if authority is not None and not _may_sign(authority):
        raise ValueError(f"The key usage of {issuer} does not let it sign revocation lists (cRLSign).")
    number = _value(extensions, x509.CRLNumber)
    part = _value(extensions, x509.IssuingDistributionPoint)
    _check_whole(extensions, part, str(issuer))
    return RevocationList(
        authority.spki_sha256 if authority is not None else "",
        issuer,
        crl.next_update_utc.timestamp() if crl.next_update_utc else None,
        frozenset(_serials(crl, str(issuer))),
        crl.last_update_utc.timestamp(),
        number.crl_number if number is not None else -1,
        clients=part is None or not part.only_contains_ca_certs,
        authorities=part is None or not part.only_contains_user_certs,
        points=frozenset(_uris(part.full_name)) if part is not None else frozenset(),
        _unproved=crl if authority is None else None,
    )


def _may_sign(authority: Certificate) -> bool:
    usage = authority.extension(x509.KeyUsage)
    return usage is None or usage.value.crl_sign


def _signed(crl: x509.CertificateRevocationList, authority: Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.parsed.public_key())  # type: ignore[arg-type]
    except TypeError:  # a key of a kind that signs nothing
        return False


def _signer(
    crl: x509.CertificateRevocationList,
    issuer: names.DistinguishedName,
    authorities: Iterable[Certificate],
    *,
    of_others: bool,
) -> Certificate | None:
    named = [authority for authority in authorities if authority.subject == issuer]
    for authority in named:
        if _signed(crl, authority):
            return authority
    if named:
        raise ValueError(f"The revocation list names {issuer} as its issuer and is not signed by it.")
    if of_others:
        return None
    raise ValueError(f"The truststore has no authority {issuer}, which issued this revocation list.")


def _value(extensions: x509.Extensions, kind: type[x509.ExtensionType]):  # type: ignore[no-untyped-def]
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _check_whole(extensions: x509.Extensions, part: x509.IssuingDistributionPoint | None, issuer: str) -> None:
    """Raises ValueError where the list tells not all that there is to tell, or in a way that is not understood."""
    for extension in extensions:
        if extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            raise ValueError(f"This revocation list of {issuer} has only changes to another (delta); give a whole one.")
        if extension.critical and extension.oid not in _UNDERSTOOD:
            oid = extension.oid.dotted_string
            raise ValueError(f"The revocation list of {issuer} has a critical extension that is not understood: {oid}.")
    if part is None:
        return
    if part.indirect_crl:
        raise ValueError(
            f"The revocation list of {issuer} speaks for other authorities too (indirect); give their own."
        )
    if part.only_some_reasons is not None:
        raise ValueError(f"The revocation list of {issuer} has some reasons alone; give one with all of them.")
    if part.only_contains_attribute_certs:
        raise ValueError(f"The revocation list of {issuer} is about attribute certificates, which nobody logs in with.")
    if part.relative_name is not None or (part.full_name and not any(_uris(part.full_name))):
        raise ValueError(
            f"The revocation list of {issuer} is for a distribution point without a URI; give a whole one."
        )


def _serials(crl: x509.CertificateRevocationList, issuer: str) -> Iterable[int]:
    for entry in crl:
        try:
            extensions = entry.extensions
        except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise ValueError(f"The revocation list of {issuer} is damaged: {error}") from error
        for extension in extensions:
            if extension.oid == CRLEntryExtensionOID.CERTIFICATE_ISSUER:
                raise ValueError(f"The revocation list of {issuer} has entries of other authorities (indirect).")
            if extension.critical and extension.oid not in _UNDERSTOOD_IN_ENTRIES:
                oid = extension.oid.dotted_string
                raise ValueError(f"The revocation list of {issuer} has an entry with a critical extension: {oid}.")
        yield entry.serial_number


@dataclass(frozen=True, slots=True)
class Finding:
    """What lists say of one certificate. `revoked` False: it cannot be told, for the reason in `words`."""

    revoked: bool
    words: str


def ask(
    below: Certificate,
    above: Certificate,
    own: Iterable[RevocationList],
    now: float,
    *,
    hard: bool,
    awaited: tuple[str, ...] = (),
) -> Finding | None:
    """Whether `above`, which issued `below`, has revoked it; None where nothing is known against it.

    Args:
        own: the lists of `above`, one for each scope, as `newest` leaves them.
        now: seconds since 1970-01-01 UTC.
        hard: whether a list that is not current, or is missing though others of its authority are there, matters.
        awaited: URLs from which no list has come yet: it may be that of `above`, if there is none.
    """
    own = tuple(own)
    if not own:
        if not hard or not awaited:
            return None
        return Finding(False, f"no list has come yet from {awaited[0]}; it may be that of {above.title}, who has none")
    covering = [crl for crl in own if crl.covers(below)]
    if any(below.serial in crl.revoked for crl in covering):
        return Finding(True, f"{above.title} has revoked {below.title}")
    if not hard:
        return None
    if not covering:
        return Finding(False, f"no revocation list of {above.title} that is here speaks of {below.title}")
    for crl in covering:
        if crl.next_update is not None and now > crl.next_update:
            return Finding(False, f"the revocation list of {above.title} ran out on {date(crl.next_update)}")
        if now < crl.this_update:
            return Finding(False, f"the revocation list of {above.title} begins on {date(crl.this_update)} only")
    return None


def date(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "a time beyond the calendar"
