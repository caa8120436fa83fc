"""Every change of the configuration: rows, audit entry and revision in one transaction, all or none.

`change_set` watches what is saved and deleted inside it and records each object before and after, whole. A
write outside of one is refused, so nothing changes unseen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import transaction
from django.db.models import Max, Model
from django.db.models.signals import m2m_changed, pre_delete, pre_save

from gateway.models import Action, Change, ChangeSet, Dial, Registration
from gateway.topology.entries import KIND_OF, Entry, entry_of
from identity.models import ACL, RevocationList, TrustedCertificate, User


class WriteOutsideChangeSet(RuntimeError):
    """Configuration was to be written where nobody would have recorded it."""


class Recorder:
    """What one change set has seen. `revision`: the number that it made, None while open or where nothing changed."""

    def __init__(self) -> None:
        self.revision: int | None = None
        self._before: dict[tuple[type[Model], Any], Entry | None] = {}

    def touch(self, row: Model) -> None:
        """Note an object before its first change."""
        key = type(row), row.pk
        if key not in self._before:
            stored = type(row)._default_manager.filter(pk=row.pk).first()
            self._before[key] = entry_of(stored) if stored is not None else None

    def changes(self) -> list[Change]:
        """One for each object that is not as it was."""
        found = []
        for (model, pk), before in self._before.items():
            stored = model._default_manager.filter(pk=pk).first()
            after = entry_of(stored) if stored is not None else None
            if before == after:
                continue
            action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.CHANGED
            name = (after or before or {})["name"]
            found.append(
                Change(action=action, kind=KIND_OF[model], object_id=str(pk), name=name, before=before, after=after)
            )
        return found


_current: ContextVar[Recorder | None] = ContextVar("change set", default=None)


@contextmanager
def change_set(actor: str, message: str, address: str | None = None) -> Iterator[Recorder]:
    """All that is written inside is one change, or none of it is.

    Args:
        actor: an operator's name, or the command that does it.
        message: what it is for, in words.
        address: where the operator came from.
    """
    outer = _current.get()
    if outer is not None:  # joins the change that is under way
        yield outer
        return
    recorder = Recorder()
    token = _current.set(recorder)
    try:
        with transaction.atomic():
            yield recorder
            changes = recorder.changes()
            if changes:
                recorder.revision = _record(actor, message, address, changes, configures=True)
    finally:
        _current.reset(token)


def record_test(actor: str, message: str, address: str | None, name: str, details: dict[str, Any]) -> None:
    """A test invoke is recorded like a change, and makes no revision of the configuration."""
    with transaction.atomic():
        change = Change(action=Action.TESTED, kind="test_invoke", name=name, before=None, after=details)
        _record(actor, message, address, [change], configures=False)


def record_operators(
    actor: str, address: str | None, name: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Who may use the console changed; that is recorded too, and configures no node."""
    action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.CHANGED
    message = f"operator {name} {action.value}"
    with transaction.atomic():
        change = Change(action=action, kind="operators", name=name, before=before, after=after)
        _record(actor, message, address, [change], configures=False)


def _record(actor: str, message: str, address: str | None, changes: list[Change], *, configures: bool) -> int:
    made = ChangeSet.objects.create(actor=actor, message=message[:1000], address=address, configures=configures)
    for change in changes:
        change.change_set = made
        change.save()
    return made.id


def current_revision() -> int:
    """The number of the last change to the configuration; 0 before the first."""
    return ChangeSet.objects.filter(configures=True).aggregate(last=Max("id"))["last"] or 0


# --- watching ---------------------------------------------------------------------------------------------

_PARENT_OF = {TrustedCertificate: "truststore", RevocationList: "truststore", Dial: "port"}


def _touch(row: Model) -> None:
    recorder = _current.get()
    if recorder is None:
        raise WriteOutsideChangeSet(
            f"{row._meta.verbose_name} {row}: configuration is written inside gateway.audit.change_set alone"
        )
    parent = _PARENT_OF.get(type(row))  # type: ignore[call-overload]
    recorder.touch(getattr(row, parent) if parent else row)


def _on_write(sender: type[Model], instance: Model, **_: Any) -> None:
    _touch(instance)


def _on_membership(instance: Model, action: str, reverse: bool, model: type[Model], pk_set: Any, **_: Any) -> None:
    if action not in ("pre_add", "pre_remove", "pre_clear"):
        return
    if not reverse:
        _touch(instance)
    elif pk_set:
        for row in model._default_manager.filter(pk__in=pk_set):
            _touch(row)


def connect() -> None:
    """Called once, when the app is ready."""
    for model in (*KIND_OF, *_PARENT_OF):
        pre_save.connect(_on_write, sender=model, dispatch_uid=f"audit save {model.__name__}")
        pre_delete.connect(_on_write, sender=model, dispatch_uid=f"audit delete {model.__name__}")
    throughs = (
        User.groups.through,
        ACL.allowed.through,
        ACL.denied.through,
        Registration.may_assert_truststores.through,
        Registration.may_assert_groups.through,
    )
    for through in throughs:
        m2m_changed.connect(_on_membership, sender=through, dispatch_uid=f"audit {through.__name__}")
