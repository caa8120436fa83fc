"""Certificate, truststore, revocation lists, time → trusted, or why not.

One function for both nodes and for the console's preview; the TLS handshake before it is only a first filter. It
finds the path (RFC 5280, section 6): `profile` says which certificates may stand in one at all, `path_rules` and
`constraints` what may stand below what, `revocation` what was taken back. Parsing and signatures are
`cryptography`'s. Its verifier is not used, because it is made for the web: it refuses every authority with name
constraints on directory names and every Ed25519 key, and checks no policies, key sizes of clients and purposes of
authorities. The tests hold the two against each other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from identity.core import names, path_rules, profile, revocation
from identity.core.certificates import Certificate
from identity.core.profile import MIN_RSA_BITS, Place
from identity.core.reasons import IdentityReason
from identity.core.revocation import RevocationList, load_crl

__all__ = ["MAX_INTERMEDIATES", "MIN_RSA_BITS", "RevocationList", "Truststore", "Verdict", "judge", "load_crl"]

MAX_INTERMEDIATES = 10  # that a peer may send; a longer list only costs time
MAX_DEPTH = 8  # authorities between a client and its anchor, unless a truststore says otherwise
MAX_SIGNATURES = 64  # that are checked in search of a path; one with cycles could go on for ever
_REMEMBERED = 4096  # verdicts kept per truststore


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` None: trusted. `chain`: the verified issuers, nearest first.

    The anchor that made the path hold is among them, and after it come the anchors above it, as far as the path holds
    up to them too: whom a mapping rule means by an authority does not hang on whether one below it is an anchor.

    It holds from `since` until `until` (seconds since 1970-01-01 UTC), when something in it begins or ends.
    """

    reason: IdentityReason | None
    words: str
    chain: tuple[Certificate, ...] = ()
    until: float = float("inf")
    since: float = float("-inf")


@dataclass(slots=True, eq=False)
class Truststore:
    """Anchors and revocation lists. Immutable but for memories, which nobody can see.

    Attributes:
        hard: whether a revocation list that has run out refuses (`revocation_unknown`), or is passed over.
        max_intermediates: authorities that may stand between a client and an anchor.
        awaited: URLs from which a revocation list is to come and has never come yet.
    """

    name: str
    anchors: tuple[Certificate, ...]
    crls: tuple[RevocationList, ...] = ()
    hard: bool = True
    max_intermediates: int = MAX_DEPTH
    awaited: tuple[str, ...] = ()
    _lists: dict[tuple[str, names.DistinguishedName], tuple[RevocationList, ...]] = field(
        default_factory=dict, repr=False
    )
    _by_subject: dict[names.DistinguishedName, list[Certificate]] | None = field(default=None, repr=False)
    _verdicts: dict[tuple[str, tuple[str, ...]], Verdict] = field(default_factory=dict, repr=False)

    def lists_of(self, authority: Certificate) -> tuple[RevocationList, ...]:
        """Those that this authority of a verified path has signed: of each scope the newest."""
        key = authority.spki_sha256, authority.subject
        known = self._lists.get(key)
        if known is None:
            if len(self._lists) >= _REMEMBERED:
                self._lists.clear()
            proved = (crl.proved_by(authority) for crl in self.crls)
            known = self._lists[key] = revocation.newest(crl for crl in proved if crl is not None)
        return known

    def named(self, subject: names.DistinguishedName) -> list[Certificate]:
        """The anchors of that subject."""
        if self._by_subject is None:
            self._by_subject = {}
            for anchor in self.anchors:
                self._by_subject.setdefault(anchor.subject, []).append(anchor)
        return self._by_subject.get(subject, [])

    def holds(self, certificate: Certificate) -> bool:
        return certificate in self.named(certificate.subject)


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
    verdict = _judge(certificate, intermediates, truststore, math.floor(now))
    verdict = replace(verdict, since=now, until=_next_event(certificate, intermediates, truststore, now))
    if len(truststore._verdicts) >= _REMEMBERED:
        truststore._verdicts.clear()
    truststore._verdicts[key] = verdict
    return verdict


def vouch(stand_in: Certificate, truststore: Truststore, believed: bool) -> None:
    """Say beforehand how `truststore` judges what stands in for a certificate that nobody has seen.

    For questions what would follow if there were one, in the console; a relay asks none.
    """
    assert not stand_in.der, "a certificate that is there is judged"
    reason = None if believed else IdentityReason.CERTIFICATE_UNTRUSTED
    truststore._verdicts[stand_in.sha256, ()] = Verdict(reason, "taken for one that a mapping rule matches")


def _next_event(
    certificate: Certificate, intermediates: tuple[Certificate, ...], truststore: Truststore, now: float
) -> float:
    """When something that was judged next begins or ends. The last second of a validity is in it, whole."""
    moments = [
        moment
        for each in (certificate, *intermediates, *truststore.anchors)
        for moment in (each.not_before, each.not_after, each.not_after + 1)
    ]
    for crl in truststore.crls:
        moments.append(crl.this_update)
        if crl.next_update is not None:
            moments.append(crl.next_update + 1)
    return min((moment for moment in moments if moment > now), default=float("inf"))


def _judge(
    certificate: Certificate, intermediates: tuple[Certificate, ...], truststore: Truststore, now: int
) -> Verdict:
    """`now`: whole seconds, as certificates count (RFC 5280, section 4.1.2.5)."""
    untrusted = IdentityReason.CERTIFICATE_UNTRUSTED
    if not truststore.anchors:
        return Verdict(untrusted, f"truststore {truststore.name} is empty and trusts nobody")
    if certificate.is_authority:
        return Verdict(untrusted, "it is an authority's certificate; an authority is no client")
    if len(intermediates) > MAX_INTERMEDIATES:
        words = f"{len(intermediates)} intermediates came with it; at most {MAX_INTERMEDIATES} are read"
        return Verdict(untrusted, words)
    fault = profile.fault(certificate, Place.PINNED if truststore.holds(certificate) else Place.CLIENT)
    if fault is not None:
        return Verdict(untrusted, fault)
    if now < certificate.not_before:
        return Verdict(
            IdentityReason.CERTIFICATE_EXPIRED, f"not valid before {revocation.date(certificate.not_before)}"
        )
    if now > certificate.not_after:
        return Verdict(IdentityReason.CERTIFICATE_EXPIRED, f"expired on {revocation.date(certificate.not_after)}")
    return _Search(certificate, intermediates, truststore, now).verdict()


# Of several paths that fail the one is told that fails for the gravest reason.
_GRAVITY = (
    IdentityReason.CERTIFICATE_UNTRUSTED,
    IdentityReason.CERTIFICATE_EXPIRED,
    IdentityReason.REVOCATION_UNKNOWN,
    IdentityReason.CERTIFICATE_REVOKED,
)


class _Search:
    """For a path from one certificate to an anchor: depth first, anchors before intermediates, the first that holds."""

    def __init__(
        self, certificate: Certificate, intermediates: tuple[Certificate, ...], truststore: Truststore, now: int
    ) -> None:
        self._certificate, self._truststore, self._now = certificate, truststore, now
        self._intermediates: dict[names.DistinguishedName, list[Certificate]] = {}
        for above in intermediates:
            known = self._intermediates.setdefault(above.subject, [])
            if above not in known and not truststore.holds(above):
                known.append(above)
        self._signed: dict[tuple[str, str], bool] = {}
        self._why = ""  # the last link that did not hold

    def verdict(self) -> Verdict:
        worst: Verdict | None = None
        for path in self._paths((self._certificate,)):
            verdict = self._follow(path)
            if verdict.reason is None:
                return replace(verdict, chain=self._extended(path)[1:])
            if worst is None or _GRAVITY.index(verdict.reason) > _GRAVITY.index(worst.reason):
                worst = verdict
        return worst or self._no_path()

    def _paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Each way up to an anchor, link by link."""
        last = path[-1]
        if self._truststore.holds(last):
            yield path
            return
        for above in (*self._truststore.named(last.issuer), *self._intermediates.get(last.issuer, ())):
            if any((above.spki_sha256, above.subject) == (link.spki_sha256, link.subject) for link in path):
                continue  # a cycle
            if self._issued(above, last):
                yield from self._paths((*path, above))

    def _issued(self, above: Certificate, below: Certificate) -> bool:
        fault = profile.fault(above, Place.ANCHOR if self._truststore.holds(above) else Place.INTERMEDIATE)
        if fault is not None:
            self._why = f"{above.title}: {fault}"
            return False
        key = below.sha256, above.spki_sha256
        if key not in self._signed:
            if len(self._signed) >= MAX_SIGNATURES:
                self._why = f"the certificates that came with it make a maze of more than {MAX_SIGNATURES} links"
                return False
            self._signed[key] = signed_by(below, above)
        if not self._signed[key]:
            self._why = f"{below.title} names {above.title} as its issuer and is not signed by it"
        elif not _identifies(below, above):
            self._why = f"the authority key identifier of {below.title} names another key than that of {above.title}"
        else:
            return True
        return False

    def _follow(self, path: tuple[Certificate, ...]) -> Verdict:
        """What is to be said of a path whose links are right, each by itself."""
        for above in path[1:]:
            if not above.not_before <= self._now <= above.not_after:
                span = f"{revocation.date(above.not_before)} to {revocation.date(above.not_after)}"
                return Verdict(IdentityReason.CERTIFICATE_EXPIRED, f"its issuer {above.title} is valid {span} only")
        fault = path_rules.fault(path, self._truststore.max_intermediates)
        if fault is not None:
            return self._refusal(fault)
        return self._ask_lists(path)

    def _extended(self, path: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
        """The path, and the anchors above its end up to which it holds. Their lists have been asked already."""
        for _, above in self._above_anchor(path[-1]):
            longer, place = (*path, above), Place.INTERMEDIATE if len(path) > 1 else Place.CLIENT
            if not above.not_before <= self._now <= above.not_after or path_rules.fault(longer, len(longer)):
                break
            if profile.fault(path[-1], place) is not None:  # its signature had not counted before
                break
            path = longer
        return path

    def _ask_lists(self, path: tuple[Certificate, ...]) -> Verdict:
        """Each link is asked of the lists of the authority above it, and the anchor of those of anchors above it."""
        store = self._truststore
        for below, above in (*pairwise(path), *self._above_anchor(path[-1])):
            finding = revocation.ask(
                below, above, store.lists_of(above), self._now, hard=store.hard, awaited=store.awaited
            )
            if finding is not None:
                unknown, revoked = IdentityReason.REVOCATION_UNKNOWN, IdentityReason.CERTIFICATE_REVOKED
                return Verdict(revoked if finding.revoked else unknown, finding.words, path[1:])
        anchor, until = path[-1].title, revocation.date(path[0].not_after)
        return Verdict(None, f"trusted by truststore {store.name} through {anchor}, valid to {until}", path[1:])

    def _above_anchor(self, anchor: Certificate) -> Iterator[tuple[Certificate, Certificate]]:
        """A truststore may hold an intermediate, and beside it the authority that has issued it, or revoked it."""
        below, seen = anchor, {anchor.spki_sha256}
        while True:
            named = (above for above in self._truststore.named(below.issuer) if above.spki_sha256 not in seen)
            issuer = next((above for above in named if self._issued(above, below)), None)
            if issuer is None:
                return
            yield below, issuer
            below = issuer
            seen.add(issuer.spki_sha256)

    def _refusal(self, why: str) -> Verdict:
        words = f"no path leads to an authority of truststore {self._truststore.name} ({why})"
        return Verdict(IdentityReason.CERTIFICATE_UNTRUSTED, words)

    def _no_path(self) -> Verdict:
        if self._why:
            return self._refusal(self._why)
        issuer = self._certificate.issuer
        words = f"its issuer {issuer} is not in truststore {self._truststore.name}"
        if self._intermediates.get(issuer):
            words = f"no path leads from its issuer {issuer} to an authority of truststore {self._truststore.name}"
        return Verdict(IdentityReason.CERTIFICATE_UNTRUSTED, words)


def signed_by(below: Certificate, above: Certificate) -> bool:
    """Whether the key of `above` made the signature of `below`. Never raises."""
    parsed, key = below.parsed, above.parsed.public_key()
    try:
        parameters, tbs = parsed.signature_algorithm_parameters, parsed.tbs_certificate_bytes
        match key:
            case rsa.RSAPublicKey():
                key.verify(parsed.signature, tbs, parameters, parsed.signature_hash_algorithm)  # type: ignore[arg-type]
            case ec.EllipticCurvePublicKey():
                key.verify(parsed.signature, tbs, parameters)  # type: ignore[arg-type]
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                if parameters is not None:
                    return False
                key.verify(parsed.signature, tbs)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError, AttributeError):
        return False  # made by another key, or by one of another kind
    return True


def _identifies(below: Certificate, above: Certificate) -> bool:
    """Whether what `below` says of its issuer's key is true of `above`; it need not say anything."""
    said = below.extension(x509.AuthorityKeyIdentifier)
    if said is None:
        return True
    own = above.extension(x509.SubjectKeyIdentifier)
    if said.value.key_identifier is not None and own is not None and said.value.key_identifier != own.value.digest:
        return False
    if said.value.authority_cert_serial_number is None:
        return True
    issuers = [n.value for n in said.value.authority_cert_issuer or () if isinstance(n, x509.DirectoryName)]
    same_issuer = not issuers or any(names.from_x509(issuer) == above.issuer for issuer in issuers)
    return said.value.authority_cert_serial_number == above.serial and same_issuer
