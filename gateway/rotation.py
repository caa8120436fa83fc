"""The exchange of the authority by which console and nodes know each other: begun, how far it is, ended.

The one before is believed until no node needs it, and its key is gone from the moment that another signs. Who is cut
off by dropping it goes on serving by what he has, and has to be enrolled anew.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from gateway.audit import record_authority
from gateway.core.enrolment import EnrolmentError
from gateway.enrolments import authority_row, take
from gateway.models import Authority, Enrolment
from identity.core import authority
from identity.models import sealing


class Standing(StrEnum):
    """How a node that is enrolled stands with the authority that signs."""

    CURRENT = "current"  # it has a certificate of that one
    TOLD = "told"  # it believes that one too, and its certificate is still of the one before
    UNTOLD = "untold"  # it believes the one before alone, as far as was heard
    CUT_OFF = "cut_off"  # of neither: it cannot come back, and is to be enrolled anew
    ENDED = "ended"  # its certificate has: it cannot come back either


LOST = frozenset({Standing.CUT_OFF, Standing.ENDED})


@dataclass(frozen=True, slots=True)
class Progress:
    """`exchanging`: whether there is one before. `standings`: of every node that is enrolled, by name."""

    signs: x509.Certificate | None
    before: x509.Certificate | None
    standings: dict[str, Standing]

    @property
    def exchanging(self) -> bool:
        return self.before is not None

    @property
    def behind(self) -> list[str]:
        """Who would be cut off if the one before were dropped now."""
        return [name for name, found in self.standings.items() if found in (Standing.TOLD, Standing.UNTOLD)]


def progress(now: datetime | None = None) -> Progress:
    """How far it is; makes no authority where there is none yet."""
    now = now or timezone.now()
    row = Authority.objects.filter(pk=Authority.ONLY).first()
    if row is None:
        return Progress(None, None, {})
    signs, *olds = authority.read_authorities(row.believed)
    before = olds[0] if olds else None
    rows = Enrolment.objects.enrolled().select_related("node__status").order_by("node__name")
    return Progress(signs, before, {each.node.name: _standing(each, signs, before, now) for each in rows})


def _standing(row: Enrolment, signs: x509.Certificate, before: x509.Certificate | None, now: datetime) -> Standing:
    ours = authority.fingerprint_of(signs)
    if row.certificate_ends is not None and row.certificate_ends <= now:
        return Standing.ENDED
    if row.authority in ("", ours):  # none is noted but where there was one alone: `begin` sees to that
        return Standing.CURRENT
    if before is None or row.authority != authority.fingerprint_of(before):
        return Standing.CUT_OFF
    status = getattr(row.node, "status", None)
    return Standing.TOLD if status is not None and ours in status.authorities else Standing.UNTOLD


def lost() -> frozenset[str]:
    """Nodes that count as enrolled and cannot come back: what they would show is believed by nobody."""
    return frozenset(name for name, found in progress().standings.items() if found in LOST)


def left_behind() -> list[str]:
    """Nodes that would be cut off if the old authority were dropped; none where there is no old one."""
    return progress().behind


def begin(actor: str, origin: str | None = None, *, now: datetime | None = None) -> None:
    """Another authority signs from now on. The one before is believed until it is dropped, and its key is gone.

    The console's last certificate from it lasts as long as any that it gave to a node, so the key is not missed.

    Raises:
        EnrolmentError: one is being exchanged already.
    """
    now = now or timezone.now()
    row = authority_row()
    before, its = row.certificate, row.fingerprint
    last = authority.certify_console(row.pair, now)
    row.old_certificate, row.old_console_certificate = before, last.certificate
    sealing.seal(row, "old_console_key", last.key.encode())
    made = authority.new_authority(now)
    take(row, made, authority.certify_console(made, now))
    names = ("certificate", "key", "console_certificate", "console_key", "old_certificate", "old_console_certificate",
             "old_console_key")  # fmt: skip
    with transaction.atomic():
        # The conditional update is the claim: of two that exchange it at once, one does.
        claim = Authority.objects.filter(pk=Authority.ONLY, certificate=before, old_certificate="")
        if not claim.update(**{name: getattr(row, name) for name in names}):
            raise EnrolmentError(gettext("The authority is being exchanged already."))
        # They pin the one before, which certifies nobody any more.
        Enrolment.objects.filter(bundle_ends__isnull=False).update(proof_key=b"", bundle_ends=None)
        Enrolment.objects.enrolled().filter(authority="").update(authority=its)
        _record(actor, origin, before, row.believed, "the authority of nodes is exchanged")


def drop_old(actor: str, origin: str | None = None, *, giving_up: Collection[str] = ()) -> list[str]:
    """Believe the authority before this one no longer; who is cut off by that.

    Args:
        giving_up: names of nodes that may be.
    Raises:
        EnrolmentError: there is none, or others would be cut off.
    """
    with transaction.atomic():
        row = Authority.objects.select_for_update().filter(pk=Authority.ONLY).exclude(old_certificate="").first()
        if row is None:
            raise EnrolmentError(gettext("There is no old authority."))
        behind = left_behind()
        if others := [name for name in behind if name not in giving_up]:
            raise EnrolmentError(
                gettext(
                    "Cut off would be: {names}. They would serve on by what they have, and each would have to be "
                    "enrolled anew."
                ).format(names=", ".join(others))
            )
        claim = Authority.objects.filter(pk=Authority.ONLY, old_certificate=row.old_certificate)
        if not claim.update(old_certificate="", old_console_certificate="", old_console_key=b""):
            raise EnrolmentError(gettext("There is no old authority."))
        _record(actor, origin, row.believed, row.certificate, "the old authority of nodes is dropped", behind)
    return behind


def _record(
    actor: str, origin: str | None, before: str, after: str, message: str, cut_off: Collection[str] = ()
) -> None:
    was, now_is = (
        {"believed": [authority.fingerprint_of(each) for each in authority.read_authorities(pem)]}
        for pem in (before, after)
    )
    record_authority(actor, origin, was, now_is | ({"cut off": sorted(cut_off)} if cut_off else {}), message)
