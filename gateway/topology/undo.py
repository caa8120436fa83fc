"""A change set → a new one that brings back what was before it, exactly, or a reason why that cannot be.

Later changes are never overwritten: where one stands on what is to be undone, it is named. What was removed comes
back as the same object, with its secrets, and at the end everything is compared with what had been recorded.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, ProtectedError, Q

from gateway.audit import Recorder, change_set
from gateway.models import Change, ChangeSet, KeptSecret, Unconfirmed
from gateway.models.unconfirmed import State
from gateway.topology.apply import Application, Step
from gateway.topology.consistency import Inconsistent
from gateway.topology.document import Problem, Topology, TopologyError
from gateway.topology.entries import KIND_OF, SECTIONS, stored
from gateway.topology.rows import CHUNK
from gateway.topology.secrets import put_secret, secret_columns
from gateway.topology.sections import READERS
from identity.models import sealing

# What imports add, whatever names others before these.
_ADDED_IN_BULK = ("certificates", "users", "groups")
_NAMED = 5  # of the changes that stand in the way
_FEW = 20  # objects that are quickly taken one by one
_TOLD = 100  # objects that stand in the way
CHANGED_AGAIN = "was changed again"


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
    changes: Sequence[Change] | None = None,
    dry_run: bool = False,
    note: str = "",
    progress: Callable[[float], None] = lambda share: None,
) -> Recorder:
    """Undo a change set by a new one.

    Args:
        changes: what it consists of, where that was read already.
        note: goes to the audit log, behind which change was undone.
        progress: told what share of the work is done, 0 to 1.
    Raises:
        CannotUndo
    """
    if not made.configures:
        raise CannotUndo([_nothing_in(made)])
    steps = [_step(change) for change in (made.changes.all() if changes is None else changes)]
    message = f"undo of change {made.pk}: {note or made.message}"
    try:
        with change_set(actor, message, address, dry_run=dry_run) as recorder:
            _note(recorder, steps)
            if reasons := _later(made, steps, recorder):
                raise CannotUndo(reasons)
            recorder.recorded = lambda done: progress(0.5 + done / (2 * len(steps)))
            left = _remove_many(recorder, steps, lambda done: progress(done / (2 * len(steps))))
            _Undoing(recorder).carry_out(_ordered(left))
            if reasons := _unlike(steps, recorder):
                raise CannotUndo(reasons)
            Unconfirmed.objects.waiting().filter(pk=made.pk).update(state=State.WENT_BACK)
    except TopologyError as error:
        raise CannotUndo(_explained(made, steps, error.problems)) from error
    except Inconsistent as error:
        raise CannotUndo([f"{message}." for message in error.messages]) from error
    return recorder


def known_to_bar(made: ChangeSet, changes: Sequence[Change]) -> list[str]:
    """What the audit log alone tells to be in the way of `undo`: of a few queries, and nothing is tried.

    What uses an object that is to go, and whatever else the rules of the configuration say, only the attempt tells.
    """
    if not made.configures:
        return [_nothing_in(made)]
    objects = [_Found(each.kind, each.name, uuid.UUID(each.object_id), CHANGED_AGAIN) for each in changes]
    since = _since(made, objects)
    differing = []
    for change, each in zip(changes, objects, strict=True):
        later = since.get((change.kind, change.object_id))
        if later and later[-1].after != change.after:
            differing.append(each)
    return _told([_blame(each, since[each.section, str(each.pk)]) for each in differing[:_TOLD]], len(differing))


def _nothing_in(made: ChangeSet) -> str:
    return f"Change {made.pk} changed nothing of the configuration; there is nothing to undo."


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
    kept = list(KeptSecret.objects.filter(change=change)) if secret_columns(row) else []
    for secret in kept:
        put_secret(row, secret.column, sealing.open_sealed(secret, "value"))
    return bool(kept)


# --- what stands in the way ---


def _note(recorder: Recorder, steps: list[_Restoring]) -> None:
    """All objects as they are, some hundred at once."""
    for section, of_section in _by_section(steps):
        for start in range(0, len(of_section), CHUNK):
            recorder.touch_many(SECTIONS[section], [step.pk for step in of_section[start : start + CHUNK]])


def _by_section(steps: list[_Restoring]) -> Iterator[tuple[str, list[_Restoring]]]:
    found: dict[str, list[_Restoring]] = {}
    for step in steps:
        found.setdefault(step.section, []).append(step)
    yield from found.items()


def _later(made: ChangeSet, steps: list[_Restoring], recorder: Recorder) -> list[str]:
    """Objects that are not as the change set left them, and what changed them since."""
    differing = []
    for section, of_section in _by_section(steps):
        before = recorder.touched(SECTIONS[section])
        differing += [step for step in of_section if before.get(step.pk) != step.change.after]
    found = [_Found(step.section, step.change.name, step.pk, CHANGED_AGAIN) for step in differing[:_TOLD]]
    return _told(_blamed(made, found), len(differing))


def _told(reasons: list[str], count: int) -> list[str]:
    """`count`: of all objects that were changed again."""
    more = count - len(reasons)
    return [*reasons, f"{more:,} more were changed again."] if more else reasons


@dataclass(frozen=True, slots=True)
class _Found:
    """An object in the way: `what` it does. `mentions`: only changes that brought this name are meant."""

    section: str
    name: str
    pk: uuid.UUID
    what: str
    mentions: str = ""


def _blamed(made: ChangeSet, objects: Sequence[_Found]) -> list[str]:
    """A sentence on which later changes of each are meant."""
    since = _since(made, objects)
    return [_blame(each, since.get((each.section, str(each.pk)), [])) for each in objects]


def _since(made: ChangeSet, objects: Sequence[_Found]) -> dict[tuple[str, str], list[Change]]:
    """What changed each since, by kind and key; the last change last."""
    changes: dict[tuple[str, str], list[Change]] = {}
    for start in range(0, len(objects), CHUNK):
        by_kind: dict[str, list[str]] = {}
        for each in objects[start : start + CHUNK]:
            by_kind.setdefault(each.section, []).append(str(each.pk))
        of_these = Q()
        for kind, keys in by_kind.items():
            of_these |= Q(kind=kind, object_id__in=keys)
        later = Change.objects.filter(of_these, change_set_id__gt=made.pk).select_related("change_set")
        for change in later.order_by("id"):
            changes.setdefault((change.kind, change.object_id), []).append(change)
    return changes


def _blame(found: _Found, changes: list[Change]) -> str:
    brought = [each for each in changes if found.mentions in _names(each.after) - _names(each.before)]
    sets = {each.change_set_id: each.change_set for each in brought or changes}
    if not sets:
        return f"{_noun(found.section)} {found.name} {found.what}, and no later change of this log says how."
    told = ", ".join(f"change {pk} ({sets[pk].message[:80]})" for pk in sorted(sets)[:_NAMED])
    more = " and more" if len(sets) > _NAMED else ""
    return f"{_noun(found.section)} {found.name} {found.what}, by {told}{more}: undo that first."


def _noun(section: str) -> str:
    """What one object of a section is called, as the audit log calls it."""
    return str(SECTIONS[section]._meta.verbose_name)


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


def _unlike(steps: list[_Restoring], recorder: Recorder) -> list[str]:
    """Objects that did not become what they had been."""
    reasons = []
    for section, of_section in _by_section(steps):
        now = recorder.now(SECTIONS[section])
        for step in of_section:
            before, is_now = step.change.before, now.get(step.pk)
            if is_now != before:
                one, other = before or {}, is_now or {}
                fields = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
                told = ", ".join(fields)
                reasons.append(f"{_noun(step.section)} {step.name} cannot become what it was: {told} would differ.")
    return reasons


def _explained(made: ChangeSet, steps: list[_Restoring], problems: list[Problem]) -> list[str]:
    """The problems, and which later change brought what still uses an object that is to go."""
    found: list[tuple[Problem, list[_Found]]] = []
    for problem in problems:
        step = next((s for s in steps if (s.section, s.name) == (problem.section, problem.entry)), None)
        users = _owners(step.users) if step is not None and step.entry is None else []
        what = f"uses {_noun(problem.section)} {problem.entry}" if users else ""
        found.append((problem, [_Found(KIND_OF[type(row)], str(row), row.pk, what, problem.entry) for row in users]))
    blamed = iter(_blamed(made, [user for _, users in found for user in users]))
    return [told for problem, users in found for told in (list(islice(blamed, len(users))) or [f"{problem}."])]


def _owners(rows: Sequence[Any]) -> list[Any]:
    """What keeps an object from being deleted: the objects themselves, and those that such a row is part of."""
    owners = [each if type(each) in KIND_OF else getattr(each, "port", each) for each in rows]
    return sorted({each for each in owners if type(each) in KIND_OF}, key=str)[:_NAMED]
