"""What an operator should know of a certificate before it is saved: findings in words, each with a mark."""

import hashlib
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.models import Port
from identity.core import chains
from identity.core.certificates import Certificate as Parsed
from identity.core.chains import Verdict
from identity.models import Certificate, Truststore

Mark = Literal["good", "note", "bad"]
SOON = 30 * 86400  # seconds


@dataclass(frozen=True, slots=True)
class Finding:
    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Preview:
    """`on_file`: the same certificate, stored already. `renews`: one of the same subject and names, stored."""

    certificate: Parsed
    intermediates: tuple[Parsed, ...]
    findings: list[Finding] = field(default_factory=list)
    on_file: Certificate | None = None
    renews: Certificate | None = None

    @property
    def sha1(self) -> str:
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


def truststore_value(row: Truststore) -> chains.Truststore:
    """The row as the value that decisions are made with."""
    anchors = tuple(stored.certificate for stored in row.certificates.all())
    crls = tuple(chains.load_crl(bytes(crl.der), anchors) for crl in row.crls.all())
    return chains.Truststore(row.name, anchors, crls, row.revocation == "hard")


def preview(certificate: Parsed, intermediates: tuple[Parsed, ...] = (), *, now: float | None = None) -> Preview:
    """Judge a certificate by every truststore, and compare it with what is on file."""
    now = time.time() if now is None else now
    on_file = Certificate.objects.select_related("user").filter(sha256=certificate.sha256).first()
    findings = [*_trust(certificate, intermediates, now), *_validity(certificate, now), *_key(certificate)]
    if on_file is not None:
        whom = f"mapped to {on_file.user.name}" if on_file.user else "mapped to nobody"
        findings.append(Finding("note", f"On file already, as {on_file.name}, {whom}."))
    else:
        findings.append(Finding("good", "Not on file yet."))
    renews = _renewed(certificate) if on_file is None else None
    if renews is not None:
        whom = f"mapped to {renews.user.name}" if renews.user else "mapped to nobody"
        until = renews.not_after.strftime("%Y-%m-%d")
        findings.append(
            Finding("note", f"Same subject and names as {renews.name}, {whom}, which ends on {until}: a renewal.")
        )
    return Preview(certificate, intermediates, findings, on_file, renews)


def _renewed(certificate: Parsed) -> Certificate | None:
    names = "\n".join(certificate.alternative_names)
    rows = Certificate.objects.select_related("user").filter(subject=certificate.subject.text, alternative_names=names)
    return rows.exclude(sha256=certificate.sha256).order_by("-not_after").first()


def _trust(certificate: Parsed, intermediates: tuple[Parsed, ...], now: float) -> list[Finding]:
    if certificate.is_authority:
        return [
            Finding("bad", "This is an authority's certificate. An authority is no client: add it to a truststore.")
        ]
    findings, refusals = [], []
    stores = list(Truststore.objects.prefetch_related("certificates", "crls"))
    for row in stores:
        verdict = chains.judge(certificate, intermediates, truststore_value(row), now)
        if verdict.reason is None:
            findings.append(Finding("good", f"Chains to truststore {row.name}{_by_way_of(verdict)}.{_used_by(row)}"))
        else:
            refusals.append((row, verdict))
    if not findings and not stores:
        findings.append(
            Finding("bad", "There is no truststore yet: no port would believe it. Add its authority to one.")
        )
    elif not findings:
        row, verdict = refusals[0]
        findings.append(Finding("bad", f"No truststore believes it. {row.name}: {verdict.words}."))
    return findings


def _by_way_of(verdict: Verdict) -> str:
    between = len(verdict.chain) - 1
    return f" by way of {between} intermediate{'' if between == 1 else 's'}" if between > 0 else ""


def _used_by(row: Truststore) -> str:
    ports = Port.objects.filter(tls_truststore=row) | Port.objects.filter(client_truststore=row)
    names = ", ".join(sorted(set(ports.values_list("name", flat=True)))[:5])
    return f" Ports that ask by it: {names}." if names else " No port uses that truststore."


def _validity(certificate: Parsed, now: float) -> list[Finding]:
    if now > certificate.not_after:
        return [Finding("bad", "It has expired; nobody can log in with it.")]
    if now < certificate.not_before:
        return [Finding("note", "It is not valid yet.")]
    if certificate.not_after - now < SOON:
        days = int((certificate.not_after - now) // 86400)
        return [Finding("note", f"It ends in {days} day{'' if days == 1 else 's'}; ask for its renewal.")]
    return []


def _key(certificate: Parsed) -> list[Finding]:
    findings = []
    key = certificate.parsed.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < chains.MIN_RSA_BITS:
        findings.append(
            Finding("bad", f"Its key is weak: {certificate.key}; at least RSA {chains.MIN_RSA_BITS} is accepted.")
        )
    if not certificate.for_client_authentication:
        purposes = ", ".join(certificate.purposes or ())
        findings.append(Finding("bad", f"It is for {purposes}, not for client authentication; ports refuse it."))
    elif certificate.purposes is None:
        findings.append(Finding("note", "It names no purposes, which means any."))
    if not certificate.alternative_names:
        findings.append(Finding("note", "It has no alternative names; it is known by its subject alone."))
    return findings


def proposed_name(certificate: Parsed) -> str:
    """A name that may be given to it: of its common name, made safe and not taken."""
    base = re.sub(r"[^A-Za-z0-9_.:@-]+", "-", certificate.subject.common_name).strip("-") or certificate.sha256[:8]
    name, number = base[:200], 2
    while Certificate.objects.filter(name=name).exists():
        name, number = f"{base[:200]}-{number}", number + 1
    return name
