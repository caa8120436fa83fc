"""Changes that wait to be confirmed: made to wait, kept, taken back when their time is over.

The row is written with the change and outlives every process: whichever looks next takes back what is due.
"""

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from gateway.audit import record_event
from gateway.models import Action, Change, Unconfirmed
from gateway.models.unconfirmed import State
from gateway.topology.undo import CannotUndo, undo

log = logging.getLogger("postern.unconfirmed")

SECONDS = 60  # that there are to confirm a change
ACTOR = "worker"


def wait(revision: int) -> Unconfirmed:
    """Let a change go back unless it is confirmed; in the transaction that makes it."""
    due = timezone.now() + timedelta(seconds=SECONDS)
    return Unconfirmed.objects.create(change_set_id=revision, due=due)


def waiting_for(kind: str, object_id: Any) -> Unconfirmed | None:
    """The change of this object that waits: while it does, another one would stand in its way back."""
    touching = Change.objects.filter(kind=kind, object_id=str(object_id)).values("change_set")
    return Unconfirmed.objects.waiting().filter(pk__in=touching).first()


def keep(number: int, actor: str, address: str | None) -> bool:
    """Confirm a change; False where it was kept, or went back, already."""
    with transaction.atomic():
        if not _settle(number, State.KEPT):
            return False
        change = Change(
            action=Action.CHANGED,
            kind="unconfirmed",
            name=f"change {number}",
            before={"kept": False},
            after={"kept": True},
        )
        record_event(actor, f"change {number} confirmed", address, change)
    return True


def take_back(number: int, actor: str, address: str | None = None) -> bool:
    """Undo a change that waits; False where somebody else has settled it. Raises CannotUndo, which is noted."""
    try:
        with transaction.atomic():
            if not _settle(number, State.WENT_BACK):
                return False
            undo(Unconfirmed.objects.get(pk=number).change_set, actor, address)
    except CannotUndo as error:
        Unconfirmed.objects.waiting().filter(pk=number).update(state=State.FAILED, reason=" ".join(error.reasons))
        raise
    return True


def _settle(number: int, state: State) -> bool:
    return bool(Unconfirmed.objects.waiting().filter(pk=number).update(state=state))


def take_back_due() -> list[str]:
    """Take back what was not confirmed in time; a line for each."""
    told = []
    for number in list(Unconfirmed.objects.due().values_list("pk", flat=True)):
        try:
            if take_back(number, ACTOR):
                told.append(f"change {number} was not confirmed in time, and went back")
        except CannotUndo as error:
            told.append(f"change {number} was not confirmed in time, and could not go back: {error}")
    return told
