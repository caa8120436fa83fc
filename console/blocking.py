"""Block now: a certificate, a user or a registration is refused everywhere, and what it has open is closed.

The switches are the ones that the configuration has; what a node closes when one is thrown is its own business.
"""

from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext_lazy

from console.certificate_preview import proposed_name
from gateway.models import Change, ChangeSet, Registration
from gateway.topology.entries import KIND_OF
from identity.core.certificates import Certificate as Parsed
from identity.models import Certificate, User
from identity.models.users import DEFAULT

# The field that is thrown, and what it then says.
SWITCHES: dict[type[Model], tuple[str, bool]] = {
    Certificate: ("blocked", True),
    User: ("enabled", False),
    Registration: ("enabled", False),
}
EFFECTS: dict[type[Model], str] = {
    Certificate: gettext_lazy(
        "Every node refuses it within two seconds, whatever it is mapped to. Connections that showed it are "
        "closed, and requests that run as it end. A node that is known by it loses its tunnels."
    ),
    User: gettext_lazy(
        "Every node refuses it within two seconds, by certificate and by password. Requests that run as it end, and "
        "the connections that they came by are closed."
    ),
    Registration: gettext_lazy(
        "Its tunnels are closed at both ends within two seconds, requests on them end, and the node cannot "
        "register again."
    ),
}
LOOKED_AT = 100  # changes of one object, the last ones first


@dataclass(frozen=True, slots=True)
class Blocking:
    """`by`: the change that blocked it; None where it is not blocked, or that is too long ago."""

    kind: str
    row: Any
    blocked: bool
    by: ChangeSet | None
    effect: str


def blocking_of(row: Model) -> Blocking | None:
    """Whether an object is blocked, and by whom since when; None for what cannot be."""
    if type(row) not in SWITCHES or getattr(row, "name", "") == DEFAULT:
        return None
    blocked, kind = is_blocked(row), KIND_OF[type(row)]
    return Blocking(kind, row, blocked, _blocked_by(kind, row) if blocked else None, EFFECTS[type(row)])


def is_blocked(row: Model) -> bool:
    field, value = SWITCHES[type(row)]
    return bool(getattr(row, field) == value)


def is_shut_out(row: Model) -> bool:
    """Of any row: whether it is one that can be blocked, and is."""
    return type(row) in SWITCHES and is_blocked(row)


def turn(row: Model, *, block: bool) -> None:
    """Block or unblock in memory."""
    field, value = SWITCHES[type(row)]
    setattr(row, field, value if block else not value)


def throw(row: Model, *, block: bool) -> None:
    """Block or unblock; to be called inside a change set."""
    turn(row, block=block)
    row.save()


def put_on_file(certificate: Parsed) -> Certificate:
    """The entry that speaks for a certificate, else a new one, not saved yet: to be blocked it need not be known."""
    row = Certificate.objects.speaking_for(certificate.sha256)
    if row is None:
        row = Certificate(name=proposed_name(certificate), description="Put on file to be blocked")
        row.set_certificate(certificate)
    return row


def _blocked_by(kind: str, row: Model) -> ChangeSet | None:
    field, value = SWITCHES[type(row)]
    usual = not value  # an entry leaves out what it usually says
    changes = Change.objects.filter(kind=kind, object_id=str(row.pk)).select_related("change_set").order_by("-id")
    for change in changes[:LOOKED_AT]:
        before = (change.before or {}).get(field, usual)
        after = (change.after or {}).get(field, usual)
        if after == value and before != value:
            return change.change_set
    return None
