"""The chain over the audit log: every change set is linked when it is recorded; `verify` proves the log whole.

Each link holds the hash of what was recorded and of the link before, so nothing in between is changed, exchanged or
taken out unseen. The end of the chain is sealed under the master key, so nothing is taken off there; whoever has an
old copy of that seal too is found out by an end that was remembered elsewhere: by `manage.py verify-audit`, in the
console's log.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db import transaction

from gateway.core.chain import GENESIS, digest
from gateway.models import Change, ChangeSet, Head, Link
from identity.core.vault import VaultError
from identity.models import sealing

log = logging.getLogger("postern.audit")


@dataclass(frozen=True, slots=True)
class End:
    """Number and hash of a change set: where the chain ends, or ended once."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def of(cls, text: str) -> "End":
        """Raises ValueError unless it is written as `str` writes it."""
        number, _, hashed = text.strip().partition(":")
        if not (number.isdecimal() and len(hashed) == 64 and set(hashed) <= set("0123456789abcdef")):
            raise ValueError("An end of the chain is written as a number, a colon and 64 hexadecimal digits.")
        return cls(int(number), hashed)


def link(made: ChangeSet, changes: list[Change]) -> None:
    """Put a change set at the end of the chain; in its own transaction, in which no other writes to the log."""
    previous = _last_hash()
    end = End(made.pk, _digest(previous, made, changes))
    Link(change_set=made, previous=previous, hash=end.hash).save()
    head = Head(pk=1)
    sealing.seal(head, "end", str(end).encode())
    head.save()
    transaction.on_commit(lambda: log.info("change %s by %s", end, made.actor))


def _last_hash() -> str:
    """What the next change set stands on.

    As the sealed end says it and not as the last row does, or the next writer would cover up for whoever took rows
    away. Where the seal is gone or broken the chain goes on, and shows for ever that it broke here.
    """
    try:
        end = sealed_end()
    except VaultError:
        end = None
    if end is not None:
        return end.hash
    last = Link.objects.order_by("-pk").values_list("hash", flat=True).first()
    return GENESIS if last is None else hashlib.sha256(f"the seal was lost after {last}".encode()).hexdigest()


def sealed_end() -> End | None:
    """Raises VaultError where it was sealed by nobody who has the master key."""
    head = Head.objects.select_for_update().first()
    return End.of(sealing.open_sealed(head, "end").decode()) if head is not None else None


def _digest(previous: str, made: ChangeSet, changes: Iterable[Change]) -> str:
    return digest(
        previous,
        number=made.pk,
        at=made.at,
        actor=made.actor,
        address=made.address,
        message=made.message,
        configures=made.configures,
        changes=((c.action, c.kind, c.object_id, c.name, c.before, c.after) for c in changes),
    )


# --- proving it ---


@dataclass(frozen=True, slots=True)
class Verdict:
    """`problem`: the first thing that is wrong; "" where the log is whole. `end`: the last link that is in order."""

    length: int
    end: End | None
    problem: str = ""


def verify(remembered: Iterable[End] = ()) -> Verdict:
    """Walk the whole chain; in a transaction, so that nobody writes meanwhile.

    Args:
        remembered: where it ended once, as was noted outside of this database.
    """
    length, end = 0, None
    wanted = {each.number: each.hash for each in remembered}
    links = {each.pk: each for each in Link.objects.all()}
    expected = GENESIS
    for made, changes in _recorded():
        found = links.pop(made.pk, None)
        problem = _problem(made, changes, found, expected)
        if not problem and found is not None and wanted.pop(made.pk, found.hash) != found.hash:
            problem = f"Change {made.pk} is not the one that was remembered: the log was written anew."
        if problem or found is None:
            return Verdict(length, end, problem)
        length, end, expected = length + 1, End(made.pk, found.hash), found.hash
    if links or wanted:
        return Verdict(length, end, f"Change {min([*links, *wanted])} is gone, and what came after it.")
    return Verdict(length, end, _problem_of_head(end))


def _problem(made: ChangeSet, changes: list[Change], found: Link | None, expected: str) -> str:
    if found is None:
        return f"Change {made.pk} has no link: it was written past Postern, or by a version without the chain."
    if found.previous != expected:
        return f"Change {made.pk} does not stand on the one before it: something was taken out or put in between."
    if found.hash != _digest(expected, made, changes):
        return f"Change {made.pk} is not what was recorded."
    return ""


def _problem_of_head(end: End | None) -> str:
    try:
        sealed = sealed_end()
    except (VaultError, ValueError):
        return "The seal on the end of the chain does not open: it is not of this master key, or was tampered with."
    if sealed == end:
        return ""
    if sealed is None:
        return "The seal on the end of the chain is gone."
    return f"The log ended with change {sealed.number}, and that is not its last any more: what followed is gone."


def _recorded() -> Iterator[tuple[ChangeSet, list[Change]]]:
    """Every change set with its changes, in order, without holding all of them."""
    rows: Iterator[Change] = Change.objects.order_by("change_set_id", "pk").iterator(chunk_size=1000)
    by_set: Any = groupby(rows, key=lambda change: change.change_set_id)
    number, group = next(by_set, (None, ()))
    for made in ChangeSet.objects.order_by("pk").iterator(chunk_size=1000):
        changes: list[Change] = []
        while number is not None and number < made.pk:  # of a change set that somebody took away
            number, group = next(by_set, (None, ()))
        if number == made.pk:
            changes = list(group)
            number, group = next(by_set, (None, ()))
        yield made, changes
