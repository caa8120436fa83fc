"""Certificate, truststore, revocation lists, time → trusted, or why not.

One function for both nodes and for the console's preview. Path building and signatures are `cryptography`'s
(RFC 5280, section 6); purposes, validity in words, revocation and what old enterprise certificates lack are
decided here. The TLS handshake before it is only a first filter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from identity.core import names
from identity.core.certificates import Certificate, from_der
from identity.core.reasons import IdentityReason

MAX_INTERMEDIATES = 10  # that a peer may send; a longer list only costs time
MAX_DEPTH = 8
MIN_RSA_BITS = 2048
_REMEMBERED = 4096  # verdicts kept per truststore


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A CRL whose signature was checked against the authority it speaks for (by key)."""

    issuer_spki_sha256: str
    next_update: float | None  # seconds since 1970-01-01 UTC
    revoked: frozenset[int]  # serial numbers


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` None: trusted. `chain`: the verified issuers, nearest first, the anchor last.

    It holds from `since` until `until` (seconds since 1970-01-01 UTC), when something in it begins or ends.
    """

    reason: IdentityReason | None
    words: str
    chain: tuple[Certificate, ...] = ()
    until: float = float("inf")
    since: float = float("-inf")


@dataclass(slots=True, eq=False)
class Truststore:
    """Anchors and revocation lists. Immutable but for a memory of verdicts, which nobody can see."""

    name: str
    anchors: tuple[Certificate, ...]
    crls: tuple[RevocationList, ...] = ()
    hard: bool = True
    _store: Store | None = field(default=None, repr=False)
    _verdicts: dict[tuple[str, tuple[str, ...]], Verdict] = field(default_factory=dict, repr=False)

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = Store([anchor.parsed for anchor in self.anchors])
        return self._store


def judge(
    certificate: Certificate, intermediates: tuple[Certificate, ...], truststore: Truststore, now: float
) -> Verdict:
    """Whether `certificate` is a client's that `truststore` believes at `now`. Total: never raises.

    Args:
        intermediates: what the peer sent besides, in any order; believed for nothing but their signatures.
        now: seconds since 1970-01-01 UTC.
    """
    key = (certificate.sha256, tuple(above.sha256 for above in intermediates))
    known = truststore._verdicts.get(key)
    if known is not None and known.since <= now < known.until:  # a clock may be set back
        return known
    verdict = replace(_judge(certificate, intermediates, truststore, now), since=now)
    if len(truststore._verdicts) >= _REMEMBERED:
        truststore._verdicts.clear()
    truststore._verdicts[key] = verdict
    return verdict


def _judge(
    certificate: Certificate, intermediates: tuple[Certificate, ...], truststore: Truststore, now: float
) -> Verdict:
    untrusted = IdentityReason.CERTIFICATE_UNTRUSTED
    if not truststore.anchors:
        return Verdict(untrusted, f"truststore {truststore.name} is empty and trusts nobody")
    if certificate.is_authority:
        return Verdict(untrusted, "it is an authority's certificate; an authority is no client")
    if not certificate.for_client_authentication:
        return Verdict(untrusted, f"it is for {', '.join(certificate.purposes or ())}, not for client authentication")
    if len(intermediates) > MAX_INTERMEDIATES:
        return Verdict(
            untrusted,
            f"{len(intermediates)} intermediates came with it; at most {MAX_INTERMEDIATES} are read",
        )
    public_key = certificate.parsed.public_key()
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < MIN_RSA_BITS:
        return Verdict(untrusted, f"its RSA key has {public_key.key_size} bits; at least {MIN_RSA_BITS} are needed")
    if now < certificate.not_before:
        return Verdict(
            IdentityReason.CERTIFICATE_EXPIRED,
            f"not valid before {_date(certificate.not_before)}",
            until=certificate.not_before,
        )
    if now > certificate.not_after:
        return Verdict(IdentityReason.CERTIFICATE_EXPIRED, f"expired on {_date(certificate.not_after)}")
    try:
        chain = _path(certificate, intermediates, truststore, now)
    except VerificationError as error:
        return _why_no_path(certificate, intermediates, truststore, now, str(error))
    return _check_revocation((certificate, *chain), truststore, now)


# Subject alternative name and authority key identifier may be missing: certificates of older authorities lack
# them. What an authority's certificate must have stays as RFC 5280 and the web's rules want it.
_LEAF_POLICY = ExtensionPolicy.permit_all()
_AUTHORITY_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, lambda policy, cert, ext: _is_authority(ext))
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, lambda policy, cert, ext: _may_sign(ext))
)


def _is_authority(constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("an issuer in the chain is no authority")


def _may_sign(usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an issuer in the chain may not sign certificates")


def _path(
    certificate: Certificate, intermediates: tuple[Certificate, ...], truststore: Truststore, now: float
) -> tuple[Certificate, ...]:
    """The issuers of one path to an anchor, nearest first. Raises VerificationError."""
    verifier = (
        PolicyBuilder()
        .store(truststore.store)
        .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        .max_chain_depth(MAX_DEPTH)
        .extension_policies(ca_policy=_AUTHORITY_POLICY, ee_policy=_LEAF_POLICY)
        .build_client_verifier()
    )
    verified = verifier.verify(certificate.parsed, [above.parsed for above in intermediates])
    return tuple(from_der(link.public_bytes(Encoding.DER)) for link in verified.chain[1:])


def _why_no_path(
    certificate: Certificate,
    intermediates: tuple[Certificate, ...],
    truststore: Truststore,
    now: float,
    said: str,
) -> Verdict:
    """The verifier's no, in the words of who has to act on it."""
    for above in (*intermediates, *truststore.anchors):
        issued = above.subject == certificate.issuer
        if issued and not above.not_before <= now <= above.not_after:
            return Verdict(
                IdentityReason.CERTIFICATE_EXPIRED,
                f"its issuer {above.title} is valid {_date(above.not_before)} to {_date(above.not_after)} only",
            )
    if not any(certificate.issuer == above.subject for above in (*intermediates, *truststore.anchors)):
        said = f"its issuer {certificate.issuer} is not in truststore {truststore.name}"
    else:
        why = said.removeprefix("validation failed: ")
        said = f"no path leads to an authority of truststore {truststore.name} ({why})"
    return Verdict(IdentityReason.CERTIFICATE_UNTRUSTED, said)


def _check_revocation(path: tuple[Certificate, ...], truststore: Truststore, now: float) -> Verdict:
    """`path`: leaf first, anchor last. Each link is asked of the list of the authority above it."""
    until = min(link.not_after for link in path)
    for below, above in pairwise(path):
        lists = [crl for crl in truststore.crls if crl.issuer_spki_sha256 == above.spki_sha256]
        if any(below.serial in crl.revoked for crl in lists):
            return Verdict(IdentityReason.CERTIFICATE_REVOKED, f"{above.title} has revoked {below.title}", path[1:])
        for crl in lists:
            if crl.next_update is None:
                continue
            if now > crl.next_update:
                if truststore.hard:
                    return Verdict(
                        IdentityReason.REVOCATION_UNKNOWN,
                        f"the revocation list of {above.title} ran out on {_date(crl.next_update)}",
                        path[1:],
                    )
            else:
                until = min(until, crl.next_update)
    anchor = path[-1]
    return Verdict(
        None,
        f"trusted by truststore {truststore.name} through {anchor.title}, valid to {_date(path[0].not_after)}",
        path[1:],
        until,
    )


def load_crl(der: bytes, authorities: Iterable[Certificate]) -> RevocationList:
    """A CRL, checked against the one of `authorities` that signed it.

    Raises:
        ValueError: not a CRL, of nobody among `authorities`, or with a signature that is not theirs.
    """
    try:
        crl = x509.load_der_x509_crl(der)
        issuer = names.from_x509(crl.issuer)
    except Exception as error:
        raise ValueError("This is not a revocation list (CRL) in DER or PEM.") from error
    named = [authority for authority in authorities if authority.subject == issuer]
    for authority in named:
        if crl.is_signature_valid(authority.parsed.public_key()):  # type: ignore[arg-type]
            return RevocationList(
                authority.spki_sha256,
                crl.next_update_utc.timestamp() if crl.next_update_utc else None,
                frozenset(entry.serial_number for entry in crl),
            )
    if named:
        raise ValueError(f"The revocation list names {issuer} as its issuer and is not signed by it.")
    raise ValueError(f"The truststore has no authority {issuer}, which issued this revocation list.")


def _date(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "a time beyond the calendar"
