"""What an operator should know of a certificate before it is saved, and after: findings in words, each with a mark.

Reads rows and decides nothing by itself: whether a truststore believes a certificate is `identity.core.chains`.
"""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from string import Formatter
from typing import Literal

from django.db.models import Model
from django.utils.translation import gettext, ngettext

from console.nouns import url_of
from gateway.models import ClientAuth, Port
from identity.core import chains, profile
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import issued
from identity.core.chains import Verdict
from identity.core.reasons import IdentityReason
from identity.models import Certificate, Keystore, TrustedCertificate, Truststore, Usage

Mark = Literal["good", "note", "bad"]
SOON = 30 * 86400  # seconds before its end from which a certificate is said to end soon
DAY = 86400


@dataclass(frozen=True, slots=True)
class Link:
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Finding:
    """`parts`: its words, with a link in them wherever they name an object."""

    mark: Mark
    parts: tuple[str | Link, ...]

    @property
    def text(self) -> str:
        return "".join(part.label if isinstance(part, Link) else part for part in self.parts)


def finding(mark: Mark, message: str, **values: object) -> Finding:
    """`message`, translated, with its values in their places: an object as a link, several with commas between."""
    parts: list[str | Link] = []
    for text, name, _, _ in Formatter().parse(message):
        if text:
            parts.append(text)
        if name is not None:
            parts += _told(values[name])
    return Finding(mark, tuple(parts))


def _told(value: object) -> Iterator[str | Link]:
    if isinstance(value, list):
        for number, each in enumerate(value):
            if number:
                yield ", "
            yield from _told(each)
    elif isinstance(value, Link):
        yield value
    else:
        yield _link(value) if isinstance(value, Model) else str(value)


def _link(row: Model) -> str | Link:
    url = url_of(row)
    return Link(str(row), url) if url else str(row)


@dataclass(frozen=True, slots=True)
class Preview:
    """What is found, and what of it is on file.

    Attributes:
        on_file: the same certificate, stored already; of several entries the one that decides.
        candidates: stored ones of the same subject, which it may be the renewal of.
        renews: the one of them that it is, by all that can be told: same authority and same names.
    """

    certificate: Parsed
    intermediates: tuple[Parsed, ...]
    findings: tuple[Finding, ...] = ()
    on_file: Certificate | None = None
    renews: Certificate | None = None
    candidates: tuple[Certificate, ...] = ()

    @property
    def sha1(self) -> str:
        """For those who compare with a program that shows nothing better; nothing is decided by it."""
        return hashlib.sha1(self.certificate.der, usedforsecurity=False).hexdigest()

    @property
    def not_before(self) -> datetime:
        return datetime.fromtimestamp(self.certificate.not_before, UTC)

    @property
    def not_after(self) -> datetime:
        return datetime.fromtimestamp(self.certificate.not_after, UTC)

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial:x}"

    @property
    def worst(self) -> Mark:
        marks = {finding.mark for finding in self.findings}
        return "bad" if "bad" in marks else "note" if "note" in marks else "good"


def preview(certificate: Parsed, intermediates: tuple[Parsed, ...] = (), *, now: float | None = None) -> Preview:
    """Judge a certificate that is not on file yet, and compare it with those that are.

    Args:
        now: seconds since 1970-01-01 UTC.
    """
    moment = time.time() if now is None else now
    found = _examined(certificate, intermediates, moment)
    on_file = Certificate.objects.speaking_for(certificate.sha256)
    if on_file is not None:
        if on_file.user:
            words = gettext("It is on file already as {certificate}, mapped to {user}.")
        else:
            words = gettext("It is on file already as {certificate}, mapped to nobody.")
        known = finding("note", words, certificate=on_file, user=on_file.user)
        return replace(found, findings=(known, *found.findings), on_file=on_file)
    candidates = tuple(Certificate.objects.may_be_renewed_by(certificate))
    if not candidates:
        return replace(found, findings=(*found.findings, finding("good", gettext("Not on file yet."))))
    # The first that nothing speaks against; they come with the one that ends last before the others.
    doubts = {row.pk: tuple(_doubts(certificate, row, intermediates)) for row in candidates}
    renews = next((row for row in candidates if not doubts[row.pk]), None)
    nearest = renews or candidates[0]
    values = {
        "certificate": nearest,
        "user": nearest.user or gettext("nobody"),
        "ending": _end_in_words(nearest.not_after.timestamp(), moment),
        "doubts": "; ".join(doubts[nearest.pk]),
    }
    if renews is not None:
        words = gettext(
            "Renews a certificate on file: same subject and names as {certificate}, mapped to {user}, which {ending}."
        )
    else:
        words = gettext(
            "Has the subject of {certificate}, mapped to {user}, which {ending}; but {doubts}. "
            "If it is its renewal all the same, say so."
        )
    findings = (finding("note", words, **values), *found.findings)
    return replace(found, findings=findings, renews=renews, candidates=candidates)


def _doubts(new: Parsed, old: Certificate, intermediates: tuple[Parsed, ...]) -> Iterator[str]:
    """What speaks against one being the other's renewal although both have one subject."""
    was = old.certificate
    if new.issuer != was.issuer:
        yield gettext("its issuer is {issuer}, not {other}").format(issuer=new.issuer, other=was.issuer)
    else:
        named = TrustedCertificate.objects.filter(subject__iexact=new.issuer.text)
        above = {row.sha256: row.certificate for row in named} | {each.sha256: each for each in intermediates}
        if not any(issued(issuer, new) and issued(issuer, was) for issuer in above.values()):
            yield gettext(
                "no truststore has an issuer that signed both, so another of the same name may have signed it"
            )
    if set(new.alternative_names) != set(was.alternative_names):
        own, other = (", ".join(each.alternative_names) or gettext("none") for each in (new, was))
        yield gettext("its alternative names are {names}, not {other}").format(names=own, other=other)


def examine(row: Certificate, *, now: float | None = None) -> Preview:
    """Judge a certificate that is on file."""
    found = _examined(row.certificate, (), time.time() if now is None else now)
    return replace(found, findings=(*_mapping(row), *found.findings), on_file=row)


def proposed_name(certificate: Parsed) -> str:
    """A name that it may be given: its common name, made safe and not taken by another."""
    base = re.sub(r"[^A-Za-z0-9_.:@-]+", "-", certificate.subject.common_name).strip("-")[:200]
    base = base or f"certificate-{certificate.sha256[:8]}"
    year = datetime.fromtimestamp(certificate.not_after, UTC).year
    taken = set(Certificate.objects.filter(name__startswith=base).values_list("name", flat=True))
    return next(name for name in _candidates(base, year) if name not in taken)


def _candidates(base: str, year: int) -> Iterator[str]:
    """`orders`, `orders-2027`, `orders-2027-2`, …: a renewal is told from what it renews by the year of its end."""
    yield base
    yield f"{base}-{year}"
    number = 2
    while True:
        yield f"{base}-{year}-{number}"
        number += 1


def truststore_value(row: Truststore) -> chains.Truststore:
    """The row as the value that decisions are made with.

    Raises:
        ValueError: a revocation list of it is signed by none of its authorities.
    """
    anchors = tuple(stored.certificate for stored in row.certificates.all())
    crls = tuple(chains.load_crl(bytes(crl.der), anchors, of_others=True) for crl in row.crls.all())
    hard, awaited = row.revocation == "hard", tuple(row.awaited())
    return chains.Truststore(row.name, anchors, crls, hard, row.max_intermediates, awaited)


def _examined(certificate: Parsed, intermediates: tuple[Parsed, ...], now: float) -> Preview:
    what = tuple(_what_it_is(certificate))
    # What no port would take is not asked of each truststore: all would give the same answer.
    usable = all(finding.mark != "bad" for finding in what)
    trust = _trust(certificate, intermediates, now) if usable else ()
    findings = (*what, *_validity(certificate, now), *trust, *_keystores(certificate))
    return Preview(certificate, intermediates, findings)


def _mapping(row: Certificate) -> Iterator[Finding]:
    if row.blocked:
        yield finding("bad", gettext("It is blocked: it logs nobody in, by no rule either."))
    elif row.logs_in_until and row.logs_in_until <= datetime.now(UTC):
        words = gettext("It was to log in until {until} UTC, and logs nobody in any more.")
        yield finding("bad", words, until=f"{row.logs_in_until:%Y-%m-%d %H:%M}")
    elif row.usage != Usage.SSL_AUTHENTICATION:
        words = gettext("It is here for another use ({usage}), and logs nobody in.")
        yield finding("note", words, usage=row.get_usage_display())
    elif row.user is None:
        yield finding(
            "note", gettext("It is mapped to nobody: callers with it are refused unless a mapping rule means them.")
        )
    elif not row.user.enabled:
        yield finding("bad", gettext("Its user {user} is disabled: callers with it are refused."), user=row.user)
    else:
        yield finding("good", gettext("It is mapped to user {user}."), user=row.user)
        if row.logs_in_until:
            words = gettext("It logs in until {until} UTC, and nobody afterwards.")
            yield finding("note", words, until=f"{row.logs_in_until:%Y-%m-%d %H:%M}")


def _what_it_is(certificate: Parsed) -> Iterator[Finding]:
    if certificate.is_authority:
        yield finding(
            "bad", gettext("It is an authority's certificate, and an authority is no client. Add it to a truststore.")
        )
    if not certificate.for_client_authentication:
        purposes = ", ".join(certificate.purposes or ())
        words = gettext("It is for {purposes}, not for client authentication: every port refuses it.")
        yield finding("bad", words, purposes=purposes)
    elif certificate.purposes is None:
        yield finding("note", gettext("It names no purpose, which means any."))
    if certificate.is_authority or not certificate.for_client_authentication:
        return
    if fault := profile.fault(certificate, profile.Place.PINNED):
        yield finding("bad", gettext("Every port refuses it: {fault}."), fault=fault)
    elif fault := profile.fault(certificate, profile.Place.CLIENT):
        words = gettext("Ports refuse it: {fault}. One whose truststore has this very certificate does not.")
        yield finding("bad", words, fault=fault)


def _validity(certificate: Parsed, now: float) -> Iterator[Finding]:
    begin = datetime.fromtimestamp(certificate.not_before, UTC)
    if now < certificate.not_before:
        words = gettext("It is not valid yet: it begins on {begin} UTC.")
        yield finding("bad", words, begin=f"{begin:%Y-%m-%d %H:%M}")
    elif now > certificate.not_after:
        words = gettext("It has ended: it {ending}. Nobody gets in with it.")
        yield finding("bad", words, ending=_end_in_words(certificate.not_after, now))
    elif certificate.not_after - now < SOON:
        words = gettext("It {ending}. Ask its holder for the renewal.")
        yield finding("note", words, ending=_end_in_words(certificate.not_after, now))


def _end_in_words(not_after: float, now: float) -> str:
    end = datetime.fromtimestamp(not_after, UTC)
    days = int(abs(not_after - now) // DAY)
    if now > not_after:
        if not days:
            return gettext("ended today, {end}").format(end=f"{end:%Y-%m-%d}")
        words = ngettext("ended {count} day ago, on {end}", "ended {count} days ago, on {end}", days)
    elif not days:
        return gettext("ends today, {end}").format(end=f"{end:%Y-%m-%d}")
    else:
        words = ngettext("ends in {count} day, on {end}", "ends in {count} days, on {end}", days)
    return words.format(count=days, end=f"{end:%Y-%m-%d}")


def _trust(certificate: Parsed, intermediates: tuple[Parsed, ...], now: float) -> Iterator[Finding]:
    """By which truststores it is believed, at which ports; judged within its time, for that is said already."""
    at = min(max(now, certificate.not_before), certificate.not_after)
    stores = list(Truststore.objects.prefetch_related("certificates", "crls", "crl_sources__crl"))
    ports = _ports_by_truststore()
    believed = False
    refused: list[tuple[Truststore, Verdict]] = []
    for row in stores:
        asking = ports.get(row.pk, [])
        try:
            verdict = chains.judge(certificate, intermediates, truststore_value(row), at)
        except ValueError as error:
            words = gettext("Truststore {truststore} cannot be asked: {error}")
            yield finding("bad", words, truststore=row, error=error)
            continue
        if verdict.reason is None:
            believed = believed or bool(asking)
            words = _chains_to(len(verdict.chain) - 1, bool(asking))
            yield finding(
                "good" if asking else "note", words, truststore=row, count=len(verdict.chain) - 1, ports=asking
            )
        elif asking:
            refused.append((row, verdict))
    if believed:
        return
    if not stores:
        yield finding(
            "bad", gettext("There is no truststore yet, so no port believes it. Add one with its authority in it.")
        )
    elif not refused:
        yield finding("bad", gettext("It chains to no truststore that a port uses: callers with it are refused."))
    for row, verdict in refused:
        if verdict.reason in (IdentityReason.CERTIFICATE_REVOKED, IdentityReason.REVOCATION_UNKNOWN):
            words = gettext(
                "It chains to truststore {truststore} and is refused: {why}. Ports that ask by it: {ports}."
            )
        else:
            words = gettext("It does not chain to truststore {truststore}: {why}. Ports that ask by it: {ports}.")
        yield finding("bad", words, truststore=row, why=verdict.words, ports=ports[row.pk])


def _ports_by_truststore() -> dict[object, list[Port]]:
    """Key of a truststore → the ports that judge clients by it."""
    found: dict[object, list[Port]] = {}
    for port in Port.objects.exclude(client_auth=ClientAuth.PASSWORD).exclude(type="registration"):
        truststore = port.client_truststore_id if port.type == "internal" else port.tls_truststore_id
        if truststore:
            found.setdefault(truststore, []).append(port)
    return found


def _chains_to(between: int, asked: bool) -> str:
    """`between`: intermediates on the way. `asked`: whether ports ask by the truststore."""
    if between < 1 and asked:
        return gettext("Chains to truststore {truststore}. Ports that ask by it: {ports}.")
    if between < 1:
        return gettext("Chains to truststore {truststore}. No port uses it.")
    if asked:
        return ngettext(
            "Chains to truststore {truststore} by way of {count} intermediate. Ports that ask by it: {ports}.",
            "Chains to truststore {truststore} by way of {count} intermediates. Ports that ask by it: {ports}.",
            between,
        )
    return ngettext(
        "Chains to truststore {truststore} by way of {count} intermediate. No port uses it.",
        "Chains to truststore {truststore} by way of {count} intermediates. No port uses it.",
        between,
    )


def _keystores(certificate: Parsed) -> Iterator[Finding]:
    """This installation may hold the key itself: then an endpoint or a port can show the certificate."""
    for row in Keystore.objects.filter(sha256=certificate.sha256):
        yield finding("note", gettext("Keystore {keystore} holds it with its private key."), keystore=row)
