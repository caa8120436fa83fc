"""Whatever has an end: server certificates, clients on file, registrations, authorities, revocation lists, machines.

One list for the overview, the page, the metrics and the messages. Clients may be 100,000 and are asked of the
database; the rest is few, and read whole.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, overload

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from gateway.models import Enrolment, Registration
from identity.core.certificates import CertificateError
from identity.models import Certificate, Keystore, RevocationList, TrustedCertificate, Usage
from identity.models.certificates import CertificateQuerySet


class Kind(StrEnum):
    SERVER = "server"
    CLIENT = "client"
    REGISTRATION = "registration"
    AUTHORITY = "authority"
    CRL = "crl"
    MACHINE = "machine"  # by which a node on a machine of its own is known to the console


@dataclass(frozen=True, slots=True)
class Ending:
    """Something and its end.

    Attributes:
        section, pk: the object that it is part of, as the configuration file calls its kind.
        owner: who is concerned: a user, a node, the ports that show it.
        fingerprint: SHA-256 of a certificate; of a revocation list its issuer's name, of which there is one.
        logs_in: whether somebody is refused when it is over.
        lasts: from its beginning to its end, where that says how soon before it somebody should hear of it.
        fetched: its successor comes by itself; somebody is to hear of it only when it did not.
    """

    kind: Kind
    section: str
    pk: str
    name: str
    subject: str
    ends: datetime
    owner: str = ""
    description: str = ""
    fingerprint: str = field(default="", compare=False)
    logs_in: bool = True
    lasts: timedelta | None = field(default=None, compare=False)
    fetched: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """The same as long as it is the same thing with the same end: a renewal is another."""
        return f"{self.kind}:{self.pk}:{self.fingerprint[:64]}:{int(self.ends.timestamp())}"


def thresholds(kind: Kind) -> tuple[int, ...]:
    """Days before the end at which somebody should hear of it, ascending; 0, when it is over, among them."""
    days = settings.EXPIRY_CRL_DAYS if kind is Kind.CRL else settings.EXPIRY_DAYS
    return tuple(sorted({0, *days}))


def horizon() -> timedelta:
    return timedelta(days=max(*thresholds(Kind.SERVER), *thresholds(Kind.CRL)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of them. `since`, `until`: of the end. `order`: ends, name or kind; descending with a minus before it.

    `refusing`: only what somebody is refused for when it is over.
    """

    kinds: frozenset[Kind] = frozenset(Kind)
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    order: str = "ends"
    refusing: bool = False


_FIELDS = {"ends": ("not_after", "name"), "name": ("name", "not_after"), "kind": ("not_after", "name")}


class Endings(Sequence[Ending]):
    """All that is wanted, in order. A slice costs what lies before its end.

    `known`: what `few` tells, where it was asked already.
    """

    def __init__(self, wanted: Wanted, known: Iterable[Ending] | None = None) -> None:
        self._wanted = wanted
        found = (each for each in (few(wanted.kinds) if known is None else known) if _is_wanted(each, wanted))
        self._few = sorted(found, key=self._key, reverse=self._descending)

    @property
    def _descending(self) -> bool:
        return self._wanted.order.startswith("-")

    def _key(self, ending: Ending) -> tuple[Any, ...]:
        match self._wanted.order.removeprefix("-"):
            case "name":
                return ending.name, ending.ends, ending.pk
            case "kind":
                return ending.kind, ending.ends, ending.name, ending.pk
        return ending.ends, ending.name, ending.pk

    def _clients(self) -> CertificateQuerySet:
        rows = clients()
        wanted = self._wanted
        if Kind.CLIENT not in wanted.kinds:
            return rows.none()
        if wanted.since is not None:
            rows = rows.filter(not_after__gte=wanted.since)
        if wanted.until is not None:
            rows = rows.filter(not_after__lt=wanted.until)
        if wanted.refusing:
            rows = rows.logging_in()
        if wanted.text:
            rows = rows.matching(wanted.text)
        minus = "-" if self._descending else ""
        order = [f"{minus}{name}" for name in (*_FIELDS[wanted.order.removeprefix("-")], "pk")]
        return rows.order_by(*order)

    def __len__(self) -> int:
        return len(self._few) + self._clients().count()

    def counted(self, most: int) -> int:
        """How many they are, as far as that is counted: to count 100,000 takes longer than a page may."""
        return len(self._few) + self._clients().order_by()[:most].count()

    @overload
    def __getitem__(self, index: int) -> Ending: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ending]: ...
    def __getitem__(self, index: int | slice) -> Ending | list[Ending]:
        if isinstance(index, int):
            return self[index : index + 1][0]
        rows = self._clients()[: index.stop] if index.stop is not None else self._clients()
        merged = heapq.merge(self._few, _of_clients(rows), key=self._key, reverse=self._descending)
        return list(itertools.islice(merged, index.start or 0, index.stop))

    def __iter__(self) -> Iterator[Ending]:
        return heapq.merge(self._few, _of_clients(self._clients()), key=self._key, reverse=self._descending)


def _is_wanted(ending: Ending, wanted: Wanted) -> bool:
    text = wanted.text.casefold()
    return (
        ending.kind in wanted.kinds
        and (ending.logs_in or not wanted.refusing)
        and (wanted.since is None or ending.ends >= wanted.since)
        and (wanted.until is None or ending.ends < wanted.until)
        and any(text in value.casefold() for value in (ending.name, ending.subject, ending.owner, ending.description))
    )


def clients() -> CertificateQuerySet:
    """Certificates on file that are not blocked: nobody waits for the end of the others."""
    return Certificate.objects.filter(blocked=False)


def _of_clients(rows: QuerySet[Certificate]) -> Iterator[Ending]:
    values = rows.values_list("pk", "name", "subject", "not_after", "user__name", "description", "sha256", "usage")
    for pk, name, subject, ends, user, description, sha256, usage in values.iterator(chunk_size=500):
        logs_in = bool(user) and usage == Usage.SSL_AUTHENTICATION
        yield Ending(
            Kind.CLIENT, "certificates", str(pk), name, subject, ends, user or "", description, sha256, logs_in
        )


def few(kinds: Iterable[Kind] = Kind) -> Iterator[Ending]:
    """Everything of these kinds but clients, in no order."""
    wanted = set(kinds)
    if Kind.SERVER in wanted:
        for keystore in Keystore.objects.prefetch_related("ports", "endpoints"):
            yield from _of_keystore(keystore)
    if Kind.REGISTRATION in wanted:
        for row in Registration.objects.filter(enabled=True).select_related("node"):
            yield Ending(Kind.REGISTRATION, "registrations", str(row.pk), row.name, row.subject, row.not_after,
                         row.node.name, "", row.sha256)  # fmt: skip
    if Kind.AUTHORITY in wanted:
        for anchor in TrustedCertificate.objects.select_related("truststore").defer("der"):
            store = anchor.truststore
            yield Ending(Kind.AUTHORITY, "truststores", str(store.pk), store.name, anchor.subject, anchor.not_after,
                         "", store.description, anchor.sha256)  # fmt: skip
    if Kind.CRL in wanted:
        for crl in RevocationList.objects.filter(next_update__isnull=False).select_related("truststore").defer("der"):
            assert crl.next_update is not None
            yield Ending(Kind.CRL, "truststores", str(crl.truststore.pk), crl.truststore.name, crl.issuer,
                         crl.next_update, "", crl.truststore.description, crl.issuer,
                         lasts=crl.next_update - crl.last_update, fetched=crl.source_id is not None)  # fmt: skip
    if Kind.MACHINE in wanted:
        for enrolment in Enrolment.objects.enrolled().filter(certificate_ends__isnull=False).select_related("node"):
            node = enrolment.node
            assert enrolment.certificate_ends is not None
            yield Ending(Kind.MACHINE, "nodes", str(node.pk), node.name, f"machine of node {node.name}",
                         enrolment.certificate_ends, node.name, node.description, enrolment.serial)  # fmt: skip


HOLD = timedelta(seconds=60)
_kept_few: list[tuple[object, datetime, list[Ending]]] = []  # one at most: of which mark, until when


def recent_few(mark: object, now: datetime) -> list[Ending]:
    """What `few` tells, a minute old at most and never older than the configuration that `mark` stands for.

    Machines renew without a change to the configuration, and are asked for each time.
    """
    if not _kept_few or _kept_few[0][0] != mark or not now < _kept_few[0][1]:
        _kept_few[:] = [(mark, now + HOLD, list(few(set(Kind) - {Kind.MACHINE})))]
    return [*_kept_few[0][2], *few({Kind.MACHINE})]


def _of_keystore(row: Keystore) -> Iterator[Ending]:
    """The certificate, and each issuer that is sent with it: callers refuse the chain when one of them is over."""
    owner = ", ".join(sorted(each.name for each in (*row.ports.all(), *row.endpoints.all())))
    try:
        chain = row.certificates
    except CertificateError:  # what is stored is damaged; its page tells
        chain = ()
    for certificate in chain:
        ends = datetime.fromtimestamp(certificate.not_after, UTC)
        yield Ending(Kind.SERVER, "keystores", str(row.pk), row.name, certificate.title, ends, owner, row.description,
                     certificate.sha256)  # fmt: skip


# --- counted ----------------------------------------------------------------------------------------------

State = str  # "ended", or the smallest number of days within which it ends, or "later"


def states(now: datetime) -> list[tuple[State, datetime | None, datetime | None]]:
    """Each state with its bounds: ended, within 3 days, within 10, …, later."""
    found: list[tuple[State, datetime | None, datetime | None]] = [("ended", None, now)]
    since = now
    for days in sorted(set(settings.EXPIRY_DAYS)):
        until = now + timedelta(days=days)
        found.append((str(days), since, until))
        since = until
    return [*found, ("later", since, None)]


def counted(now: datetime, known: Iterable[Ending]) -> dict[Kind, Counter[State]]:
    """How many of each kind are in each state: one query for all clients. `known`: what `few` tells."""
    bounds = states(now)
    found: dict[Kind, Counter[State]] = {kind: Counter() for kind in Kind}
    for each in known:
        state = next(name for name, _, until in bounds if until is None or each.ends < until)
        found[each.kind][state] += 1
    conditions = {
        f"s{number}": Count(
            "pk",
            filter=(Q(not_after__gte=since) if since else Q()) & (Q(not_after__lt=until) if until else Q()),
        )
        for number, (_, since, until) in enumerate(bounds)
    }
    for key, count in clients().aggregate(**conditions).items():
        found[Kind.CLIENT][bounds[int(key[1:])][0]] = count
    return found


def reached(ending: Ending, now: datetime) -> int | None:
    """The smallest threshold that its end has come within; None where it is far off yet.

    What comes anew by itself counts when it is over, which is when it did not come. What lasts for days counts in the
    last quarter of them: a list of a day's validity would otherwise be told of every day of its life.
    """
    days_ahead = [0] if ending.fetched else thresholds(ending.kind)
    soonest = ending.lasts / 4 if ending.lasts is not None else timedelta.max
    within = [days for days in days_ahead if ending.ends <= now + min(timedelta(days=days), soonest)]
    return min(within) if within else None
