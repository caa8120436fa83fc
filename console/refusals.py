"""What nodes refused is fetched from them, kept for a while, and found again.

A node is asked by number for what came since (`gateway.relay.refusals`). Several consoles may do it: nothing is stored
twice. Nodes tell, and are not believed more than they have to be: an edge stands where others may break in.
"""

import base64
import binascii
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Q
from django.utils import timezone

from console.kept import Refusal, RefusalKind, ShownCertificate
from console.nodes import ask, enrolled
from gateway.core.reasons import BY_CODE, REASONS
from gateway.models import Node
from gateway.relay.control import ControlError
from identity.core.certificates import CertificateError, from_der
from identity.core.reasons import IdentityReason

log = logging.getLogger(__name__)

ASK_SECONDS = 3.0
ASKED_AT_ONCE = 8
ROUNDS = 12  # questions to one node in one turn; a ring holds as many answers at most
SOURCES = 64  # workers that one node is believed to have
IN_ONE = 200  # entries of one source in one answer
MAX_LANES, MAX_STEPS = 4, 64
MAX_WORDS = 4096  # characters of one text of a trace
CERTIFICATES_KEPT = 2000
MAX_CHAIN = 10


class Collector:
    """One process's: it knows how far it has read each node. What it forgets when it ends is read again, to no harm."""

    def __init__(self) -> None:
        self._cursors: dict[str, dict[str, int]] = {}

    def turn(self) -> int:
        """Ask every node once; how much was new."""
        names, elsewhere = list(Node.objects.values_list("name", flat=True)), enrolled()
        self._cursors = {name: self._cursors.get(name, {}) for name in names}
        if not names:
            return 0
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            answers = list(pool.map(lambda name: self._ask(name, elsewhere), names))
        return sum(store(name, sources) for name, sources in zip(names, answers, strict=True) if sources)

    def _ask(self, node: str, elsewhere: set[str]) -> list[dict[str, Any]]:
        """What came since; nothing where the node does not tell, or is too old to know the question."""
        found: list[dict[str, Any]] = []
        cursor = self._cursors[node]
        for _ in range(ROUNDS):
            message = {"op": "refused_since", "cursor": cursor}
            try:
                answer = ask(node, message, timeout=ASK_SECONDS, elsewhere=elsewhere)
                sources = [_source(each) for each in answer["sources"][:SOURCES]]
            except ControlError:
                break
            except (KeyError, TypeError, ValueError) as error:
                log.warning("node %s tells of its refusals what cannot be read: %s", node, error)
                break
            now = {each["source"]: each for each in sources}
            self._cursors[node] = cursor = {
                name: each["entries"][-1]["number"] if each["entries"] else cursor.get(name, 0)
                for name, each in now.items()
            }
            for each in sources:
                if each["missed"]:
                    log.warning("node %s: %d more were refused than could be fetched", node, each["missed"])
            found += sources
            if not any(each["more"] for each in sources):
                break
        return found


def _source(told: dict[str, Any]) -> dict[str, Any]:
    """Raises KeyError, TypeError, ValueError."""
    entries = told["entries"][:IN_ONE]
    if not all(isinstance(each["number"], int) for each in entries):
        raise ValueError("an entry without a number")
    return {
        "source": str(told["source"])[:32],
        "kind": RefusalKind(told["kind"]),
        "entries": entries,
        "missed": int(told["missed"]),
        "more": bool(told["more"]) and bool(entries),
    }


def store(node: str, sources: Iterable[dict[str, Any]]) -> int:
    """Keep what a node told, each once; how many it were."""
    now = timezone.now()
    rows: list[Refusal] = []
    shown: dict[str, ShownCertificate] = {}
    for source in sources:
        for entry in source["entries"]:
            try:
                row = _row(node, source, entry, now)
                certificate = _certificate(entry)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                log.warning("node %s tells of a refusal that cannot be read: %r", node, error)
                continue
            if certificate is not None and _is_about_it(row):
                certificate.seen_at = row.at
                shown[certificate.sha256] = certificate
                row.proven, row.certificate = True, certificate.sha256
            rows.append(row)
    if not rows:
        return 0
    with transaction.atomic():
        Refusal.objects.bulk_create(rows, ignore_conflicts=True, batch_size=100)
        ShownCertificate.objects.bulk_create(
            shown.values(), update_conflicts=True, unique_fields=["sha256"], update_fields=["seen_at"], batch_size=100
        )
        _join({row.trace_id for row in rows if row.trace_id})
    return len(rows)


def _is_about_it(row: Refusal) -> bool:
    return row.kind == RefusalKind.HANDSHAKE or isinstance(BY_CODE.get(row.reason), IdentityReason)


def _row(node: str, source: dict[str, Any], entry: dict[str, Any], now: datetime) -> Refusal:
    """Raises KeyError, TypeError, ValueError, OverflowError."""
    at = datetime.fromtimestamp(float(entry["at"]), UTC)
    reason = _text(entry.get("reason"), 64)
    return Refusal(
        node=node,
        source=source["source"],
        number=entry["number"],
        kind=source["kind"],
        at=min(at, now),  # clocks differ; nothing was refused tomorrow
        trace_id=_text(entry.get("trace_id"), 32),
        inner=bool(entry.get("inner")),
        test=bool(entry.get("test")),
        port=_text(entry["port"], 255),
        peer=_text(entry["peer"], 64),
        method=_text(entry.get("method"), 32),
        path=_text(entry.get("path"), 2048),
        status=min(max(int(entry.get("status") or 0), 0), 999),
        reason=reason,
        cause=reason,
        words=_text(entry.get("words"), MAX_WORDS),
        user=_text(entry.get("user"), 255),
        certificate=_text(entry.get("certificate"), 64),
        subject=_text(entry.get("subject"), MAX_WORDS),
        issuer=_text(entry.get("issuer"), MAX_WORDS),
        lanes=[
            _lane(_text(each.get("node"), 255) if number else node, each)  # a test's later lanes are other nodes'
            for number, each in enumerate((entry.get("lanes") or [])[:MAX_LANES])
        ],
    )


def _text(value: Any, length: int) -> str:
    """As it may be stored: no database takes a NUL, nor half of a character."""
    text = "" if value is None else str(value)[:length]
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def _lane(node: str, told: dict[str, Any]) -> dict[str, Any]:
    """Of the form that pages read (`gateway.core.explain`), whatever was told."""
    plain = {name: _text(told.get(name), 255) for name in ("port", "outcome", "credential", "route")}
    return plain | {
        "node": node,
        "reason": _text(told["reason"], 64) if told.get("reason") else None,
        "user": _text(told["user"], 255) if told.get("user") else None,
        "steps": [
            {
                "check": _text(step.get("check"), 64),
                "passed": bool(step.get("passed")),
                "found": _text(step.get("found"), MAX_WORDS),
                "against": _text(step.get("against"), MAX_WORDS),
            }
            for step in list(told.get("steps") or [])[:MAX_STEPS]
        ],
    }


def _certificate(entry: dict[str, Any]) -> ShownCertificate | None:
    """What was shown, where it can be read."""
    try:
        ders = [base64.b64decode(each, validate=True) for each in (entry.get("chain") or [])[:MAX_CHAIN]]
        chain = [from_der(der) for der in ders]
    except (CertificateError, binascii.Error):
        return None
    if not chain:
        return None
    return ShownCertificate(sha256=chain[0].sha256, pem="".join(each.pem() for each in chain))


def _join(trace_ids: set[str]) -> None:
    """Where several nodes told of a request: the first one's row stands for it, and knows what the last one found."""
    told: dict[str, list[Refusal]] = {}
    ids = sorted(trace_ids)
    for start in range(0, len(ids), 500):
        for row in Refusal.objects.filter(trace_id__in=ids[start : start + 500]).defer("lanes").order_by("at", "id"):
            told.setdefault(row.trace_id, []).append(row)
    for rows in told.values():
        for head, inner in paired(rows):
            if head is inner[-1]:
                continue
            Refusal.objects.filter(pk__in=[row.pk for row in inner if row.pk != head.pk]).update(head=False)
            last = inner[-1]
            Refusal.objects.filter(pk=head.pk).update(
                head=True, cause=last.cause, user=head.user or last.user, test=head.test or last.test
            )


def paired(rows: list[Refusal]) -> list[tuple[Refusal, list[Refusal]]]:
    """Requests of one trace, each with all that was told of it, the outer node first; `rows` in the order of time.

    A caller that sends the same trace twice makes two requests of it: they are told apart by their order.
    """
    heads, inner = [row for row in rows if not row.inner], [row for row in rows if row.inner]
    if not heads:
        return [(row, [row]) for row in inner]
    groups = [(head, [head]) for head in heads]
    for number, row in enumerate(inner):
        groups[min(number, len(groups) - 1) if len(heads) > 1 else 0][1].append(row)
    return groups


# --- for a set time, and a set size ---


def prune(now: datetime) -> int:
    """Let go of what is too old, and of the oldest where there is too much; how many it were."""
    gone, _ = Refusal.objects.filter(at__lt=now - timedelta(days=settings.REFUSALS_DAYS)).delete()
    for kind in RefusalKind.values:
        rows = Refusal.objects.filter(kind=kind).order_by("-id")
        surplus = rows.values_list("id", flat=True)[settings.REFUSALS_KEPT : settings.REFUSALS_KEPT + 1]
        if newest := next(iter(surplus), None):
            gone += Refusal.objects.filter(kind=kind, id__lte=newest).delete()[0]
    known = ShownCertificate.objects.order_by("-seen_at")
    if beyond := list(known.values_list("seen_at", flat=True)[CERTIFICATES_KEPT : CERTIFICATES_KEPT + 1]):
        ShownCertificate.objects.filter(seen_at__lte=beyond[0]).delete()
    ShownCertificate.objects.filter(seen_at__lt=now - timedelta(days=settings.REFUSALS_DAYS)).delete()
    return gone


# --- what is asked ---


@dataclass(frozen=True, slots=True)
class ByReason:
    """How often callers were refused for one reason, in an hour and in the hour before it."""

    reason: str
    count: int
    before: int

    @property
    def words(self) -> str:
        """What it means; nothing of a reason that only a newer node knows."""
        reason = BY_CODE.get(self.reason)
        return REASONS[reason].words if reason is not None else ""

    @property
    def trend(self) -> str:
        """`new`, `more`, `fewer`, `as before`."""
        if not self.before:
            return "new"
        if self.count > self.before * 1.2:
            return "more"
        return "fewer" if self.count < self.before * 0.8 else "as before"


def refusals_by_reason(now: datetime) -> list[ByReason]:
    """Of the last hour, what happened most first; tests do not count. What has ended since the hour before is there."""
    hour = timedelta(hours=1)
    rows = Refusal.objects.requests().filter(test=False, at__gt=now - 2 * hour, at__lte=now).order_by()
    late = Count("id", filter=Q(at__gt=now - hour))
    found = rows.values("cause").annotate(late=late, early=Count("id") - late)
    told = [ByReason(each["cause"], each["late"], each["early"]) for each in found]
    return sorted(told, key=lambda each: (-each.count, -each.before, each.reason))


@dataclass(frozen=True, slots=True)
class Stranger:
    """A certificate that was refused: the last time, and how often. `shown`: its PEM with what came along."""

    last: Refusal
    count: int
    shown: ShownCertificate | None = field(default=None)
    on_file: Any = None


def strangers() -> Any:
    """Certificates that were refused, the last first: each with its last refusal's key, and how many there were."""
    rows = Refusal.objects.of_strangers().order_by()
    return rows.values("certificate").annotate(last=Max("id"), count=Count("id")).order_by("-last")
