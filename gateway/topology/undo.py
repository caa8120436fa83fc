"""A change set → a new one that brings back what was before it, exactly, or a reason why that cannot be.

Later changes are never overwritten: where one stands on what is to be undone, it is named. What was removed comes
back as the same object, with its secrets, and at the end everything is compared with what had been recorded.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, ProtectedError

from gateway.audit import Recorder, change_set
from gateway.models import Change, ChangeSet, KeptSecret, Unconfirmed
from gateway.models.unconfirmed import State
from gateway.topology.apply import Application, Step
from gateway.topology.consistency import Inconsistent
from gateway.topology.document import Problem, Topology, TopologyError
from gateway.topology.entries import KIND_OF, SECTIONS, record_of, stored
from gateway.topology.rows import CHUNK
from gateway.topology.secrets import put_secret
from gateway.topology.sections import READERS
from identity.models import sealing

# What imports add, whatever names others before these.
_ADDED_IN_BULK = ("certificates", "users", "groups")
_NAMED = 5  # of the changes that stand in the way
_FEW = 20  # objects that are quickly taken one by one
_TOLD = 100  # objects that stand in the way


class CannotUndo(Exception):
    """Nothing was changed. `reasons`: sentences, each naming what stands in the way."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


@dataclass(slots=True)
class _Restoring(Step):
    """One object as it is to be again; `pk`: which one it is, whatever it is called now."""

    pk: uuid.UUID = field(kw_only=True)
    change: Change = field(kw_only=True)


def undo(
    made: ChangeSet,
    actor: str,
    address: str | None = None,
    *,
    dry_run: bool = False,
    note: str = "",
    progress: Callable[[float], None] = lambda share: None,
) -> Recorder:
    """Undo a change set by a new one.

    Args:
        note: goes to the audit log, behind which change was undone.
        progress: told what share of the work is done, 0 to 1.
    Raises:
        CannotUndo
    """
    if not made.configures:
        raise CannotUndo([f"Change {made.pk} changed nothing of the configuration; there is nothing to undo."])
    steps = [_step(change) for change in made.changes.all()]
    message = f"undo of change {made.pk}: {note or made.message}"
    try:
        with change_set(actor, message, address, dry_run=dry_run) as recorder:
            if reasons := _later(made, steps):
                raise CannotUndo(reasons)
            recorder.recorded = lambda done: progress(0.5 + done / (2 * len(steps)))
            left = _remove_many(recorder, steps, lambda done: progress(done / (2 * len(steps))))
            _Undoing(recorder).carry_out(_ordered(left))
            if reasons := _unlike(steps):
                raise CannotUndo(reasons)
            Unconfirmed.objects.waiting().filter(pk=made.pk).update(state=State.WENT_BACK)
    except TopologyError as error:
        raise CannotUndo(_explained(made, steps, error.problems)) from error
    except Inconsistent as error:
        raise CannotUndo([f"{message}." for message in error.messages]) from error
    return recorder


def _step(change: Change) -> _Restoring:
    entry = dict(change.before) if change.before is not None else None
    name = change.before["name"] if change.before is not None else change.name
    return _Restoring(change.kind, name, entry, pk=uuid.UUID(change.object_id), change=change)


def _ordered(steps: list[_Restoring]) -> list[_Restoring]:
    """What is named first before what names it; what is removed the other way round, and last."""
    rank = {section: number for number, section in enumerate(SECTIONS)}
    restored = sorted((s for s in steps if s.entry is not None), key=lambda s: rank[s.section])
    return restored + sorted((s for s in steps if s.entry is None), key=lambda s: -rank[s.section])


class _Undoing(Application):
    """Finds rows by what they are and not by what they are called, and gives them their secrets back."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(Topology({}, None), recorder)  # entries of the log hold no paths

    def _find(self, step: Step) -> Any:
        assert isinstance(step, _Restoring)
        return stored(SECTIONS[step.section]).filter(pk=step.pk).first()

    def _write(self, step: Step, entry: dict[str, Any]) -> None:
        assert isinstance(step, _Restoring)
        row = self._find(step) or SECTIONS[step.section](pk=step.pk, name=step.name)
        if row.name != step.name:
            row.name = step.name
            row.save()
        given = _give_secrets(row, step.change)
        READERS[step.section](row, self._fields(step.section, _readable(step.section, entry)))
        if given or self._is_parked(row):
            row.save()
        self._rows.put(row)


def _remove_many(recorder: Recorder, steps: list[_Restoring], progress: Callable[[int], None]) -> list[_Restoring]:
    """Take away what the change had added, some hundred at once, where an import adds many; the steps that are left.

    What cannot go is left to be tried by itself, which tells what is in its way.
    """
    if len(steps) <= _FEW:
        return steps
    left = [step for step in steps if step.entry is not None or step.section not in _ADDED_IN_BULK]
    done = 0
    for section in _ADDED_IN_BULK:
        added = [step for step in steps if step.entry is None and step.section == section]
        for start in range(0, len(added), CHUNK):
            some = added[start : start + CHUNK]
            try:
                with transaction.atomic():
                    recorder.touch_many(SECTIONS[section], [step.pk for step in some])
                    SECTIONS[section]._default_manager.filter(pk__in=[step.pk for step in some]).delete()
            except (ProtectedError, ValidationError):
                left += some
            done += len(some)
            progress(done)
    return left


def _readable(section: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Without what `record_of` adds: it follows from the rest, or `_unlike` finds that it does not.

    A keystore that had no renewal has none again, where a file that says nothing of it would leave one alone.
    """
    nothing = {"next": {}} if section == "keystores" else {}
    return nothing | {name: value for name, value in entry.items() if name != "issuer_key"}


def _give_secrets(row: Model, change: Change) -> bool:
    """Whether there were any. Raises VaultError, of which `Application` makes a problem."""
    kept = list(KeptSecret.objects.filter(change=change))
    for secret in kept:
        put_secret(row, secret.column, sealing.open_sealed(secret, "value"))
    return bool(kept)


# --- what stands in the way ---


def _now(steps: Iterable[_Restoring]) -> Iterator[tuple[_Restoring, dict[str, Any] | None]]:
    """Each step with its object as it is now, None where it is not there; some hundred in memory at once."""
    by_section: dict[str, list[_Restoring]] = {}
    for step in steps:
        by_section.setdefault(step.section, []).append(step)
    for section, of_section in by_section.items():
        for start in range(0, len(of_section), CHUNK):
            some = of_section[start : start + CHUNK]
            rows = stored(SECTIONS[section]).filter(pk__in=[step.pk for step in some])
            found = {row.pk: record_of(row) for row in rows}
            yield from ((step, found.get(step.pk)) for step in some)


def _later(made: ChangeSet, steps: list[_Restoring]) -> list[str]:
    """Objects that are not as the change set left them, and what changed them since."""
    differing = [step for step, is_now in _now(steps) if is_now != step.change.after]
    told = [_blame(made, step.section, step.change.name, step.pk, "was changed again") for step in differing[:_TOLD]]
    more = len(differing) - len(told)
    return [*told, f"{more:,} more were changed again."] if more else told


def _blame(made: ChangeSet, section: str, row_name: str, pk: uuid.UUID, what: str, mentions: str = "") -> str:
    """A sentence on which later changes of an object are meant. `mentions`: only those that brought this name."""
    changes = list(Change.objects.filter(kind=section, object_id=str(pk), change_set_id__gt=made.pk))
    brought = [each for each in changes if mentions in _names(each.after) - _names(each.before)]
    numbers = {each.change_set_id for each in brought or changes}
    sets = list(ChangeSet.objects.filter(pk__in=numbers).order_by("pk")[: _NAMED + 1])
    if not sets:
        return f"{section} {row_name} {what}, and no later change of this log says how."
    told = ", ".join(f"change {each.pk} ({each.message[:80]})" for each in sets[:_NAMED])
    more = " and more" if len(sets) > _NAMED else ""
    return f"{section} {row_name} {what}, by {told}{more}: undo that first."


def _names(value: Any) -> set[str]:
    """Every text in an entry."""
    match value:
        case str():
            return {value}
        case dict():
            return set().union(*(_names(item) for item in value.values()))
        case list():
            return set().union(*(_names(item) for item in value))
    return set()


def _unlike(steps: list[_Restoring]) -> list[str]:
    """Objects that did not become what they had been."""
    reasons = []
    for step, is_now in _now(steps):
        if is_now != step.change.before:
            before = step.change.before or {}
            fields = [n for n in dict.fromkeys([*before, *(is_now or {})]) if before.get(n) != (is_now or {}).get(n)]
            reasons.append(f"{step.section} {step.name} cannot become what it was: {', '.join(fields)} would differ.")
    return reasons


def _explained(made: ChangeSet, steps: list[_Restoring], problems: list[Problem]) -> list[str]:
    """The problems, and which later change brought what still uses an object that is to go."""
    reasons = []
    for problem in problems:
        step = next((s for s in steps if (s.section, s.name) == (problem.section, problem.entry)), None)
        users = _users(step) if step is not None and step.entry is None else []
        reasons += [
            _blame(made, KIND_OF[type(row)], str(row), row.pk, f"uses {problem.section} {problem.entry}", problem.entry)
            for row in users
        ] or [f"{problem}."]
    return reasons


def _users(step: _Restoring) -> list[Any]:
    """What keeps an object from being deleted."""
    row = stored(SECTIONS[step.section]).filter(pk=step.pk).first()
    if row is None:
        return []
    try:
        with transaction.atomic(), change_set("undo", "what would it break", dry_run=True):
            row.delete()
    except ProtectedError as error:
        owners = [each if type(each) in KIND_OF else getattr(each, "port", each) for each in error.protected_objects]
        return sorted({each for each in owners if type(each) in KIND_OF}, key=str)[:_NAMED]
    return []
