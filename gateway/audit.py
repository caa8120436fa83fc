"""Every change of the configuration: rows, audit entry and revision in one transaction, all or none.

`change_set` watches what is saved and deleted inside it and records each object before and after, whole. A
write outside of one is refused, so nothing changes unseen; one that would leave invalid what names a changed
object is refused too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Max, Model
from django.db.models.signals import m2m_changed, pre_delete, pre_save
from django.utils.translation import gettext

from gateway import chain, revisions
from gateway.models import Action, Change, ChangeSet, Dial, KeptSecret, Port, Registration
from gateway.topology import consistency
from gateway.topology.consistency import Touched
from gateway.topology.entries import KIND_OF, Entry, record_of, stored
from gateway.topology.secrets import open_secret, secret_columns
from identity.core.vault import VaultError
from identity.models import ACL, RevocationList, RevocationSource, TrustedCertificate, User, sealing

_CHUNK = 500  # rows in one query; SQLite's oldest limit on parameters is 999
BEYOND = 1_000_000  # revisions that a restored database leaves out
_LOCK = 0x506F737465726E  # of PostgreSQL's advisory locks: "Postern"


class WriteOutsideChangeSet(RuntimeError):
    """Configuration was to be written where nobody would have recorded it."""


class Recorder:
    """What one change set has seen.

    `changes` and `revision`, the number that it made, are there once the change set is closed; where nothing
    changed, or all was taken back, `revision` stays None.
    """

    def __init__(self) -> None:
        self.revision: int | None = None
        self.changes: list[Change] = []
        self.secrets: list[dict[str, bytes]] = []  # of each change: the secrets that it replaced or removed
        self.in_bulk: list[Change] = []
        self.recorded: Callable[[int], None] = lambda count: None  # told how many changes are recorded so far
        self._before: dict[tuple[type[Model], Any], Entry | None] = {}
        self._secrets: dict[tuple[type[Model], Any], Model] = {}  # rows as they were, of the kinds that hold secrets
        self._standing: list[Touched] | None = None  # what was touched, as read since the last write

    def touch(self, row: Model) -> None:
        """Note an object before each change of it."""
        self.forget()
        key = type(row), row.pk
        if key not in self._before:
            was = None if row._state.adding else stored(type(row)).filter(pk=row.pk).first()
            self._before[key] = record_of(was) if was is not None else None
            if was is not None and secret_columns(was):
                self._secrets[key] = was

    def touch_many(self, model: type[Model], keys: Sequence[Any]) -> None:
        """Note some hundred objects of one kind that are there, before their first change."""
        self.forget()
        unknown = [pk for pk in keys if (model, pk) not in self._before]
        for was in stored(model).filter(pk__in=unknown) if unknown else ():
            self._before[model, was.pk] = record_of(was)
            if secret_columns(was):
                self._secrets[model, was.pk] = was

    def add_many(self, rows: Sequence[Model], through: type[Model] | None = None, links: Sequence[Model] = ()) -> None:
        """Insert new rows of one kind, some hundred at once; each is checked and recorded like one saved by itself.

        Left to the database alone is what would cost a query for each: that nobody else has the name, and that what
        a row refers to is there. Whoever has many to add asks that of all at once, before.

        Args:
            through, links: rows of a many-to-many relation of these, checked by who calls.
        Raises:
            ValidationError, IntegrityError: nothing may be kept of the change set.
        """
        if not rows:
            return
        self.forget()
        model = type(rows[0])
        references = {column.name for column in model._meta.concrete_fields if column.is_relation}
        for row in rows:
            row.full_clean(exclude=references, validate_unique=False, validate_constraints=False)
        model._default_manager.bulk_create(rows)
        if through is not None:
            through._default_manager.bulk_create(links)
        # What is recorded is what is stored, read again.
        for stored_row in stored(model).filter(pk__in=[row.pk for row in rows]):
            self.in_bulk.append(_change(model, stored_row.pk, None, record_of(stored_row)))

    def change_many(
        self, model: type[Model], values: Mapping[Any, Mapping[str, Any]], members: Mapping[Any, Sequence[Model]]
    ) -> None:
        """Change rows of one kind, some hundred at once; each is checked and recorded like one saved by itself.

        Only for what nothing else hangs on (`consistency`), and what no other row must be unlike.

        Args:
            values: key of a row → its fields that change.
            members: key of a row → what its one many-to-many relation is to consist of, checked by who calls.
        Raises:
            ValidationError, IntegrityError: nothing may be kept of the change set.
        """
        self.forget()
        keys = {*values, *members}
        before = {row.pk: row for row in stored(model).filter(pk__in=keys)}
        if len(before) != len(keys):
            raise ValidationError(gettext("Somebody has removed some of it meanwhile; look at it again."))
        entries = {pk: record_of(row) for pk, row in before.items()}
        references = {column.name for column in model._meta.concrete_fields if column.is_relation}
        by_fields: dict[tuple[str, ...], list[Model]] = {}
        for pk, changed in values.items():
            row = before[pk]
            for name, value in changed.items():
                setattr(row, name, value)
            row.full_clean(exclude=references, validate_unique=False, validate_constraints=False)
            by_fields.setdefault(tuple(sorted(changed)), []).append(row)
        for names, rows in by_fields.items():
            if names:
                model._default_manager.bulk_update(rows, names)
        if members:
            _set_members(model, members)
        for row in stored(model).filter(pk__in=keys):
            was, now = entries[row.pk], record_of(row)
            for name in was.keys() & now.keys():
                if was[name] == now[name]:
                    now[name] = was[name]  # once in memory: a certificate's text is in both, and there may be 100,000
            if was != now:
                self.in_bulk.append(_change(model, row.pk, was, now))

    def touched(self, model: type[Model]) -> dict[Any, Entry | None]:
        """Keys of what was written or deleted so far, each with its entry from before; None of what is new."""
        return {pk: before for (kind, pk), before in self._before.items() if kind is model}

    def forget(self) -> None:
        """What is stored may be different from what was read, though nothing was written by a row."""
        self._standing = None

    def now(self, model: type[Model]) -> dict[Any, Entry | None]:
        """The same keys, each with its entry as it is stored now; None of what is gone."""
        return {each.pk: each.after for each in self._touched() if each.model is model}

    def so_far(self) -> list[Change]:
        """What would be recorded if nothing more were written."""
        found = [_change(each.model, each.pk, each.before, each.after)
                 for each in self._touched() if each.before != each.after]  # fmt: skip
        return [*found, *self.in_bulk]

    def close(self) -> None:
        """Compare what was touched with what is stored now. Raises Inconsistent."""
        touched = self._touched()
        consistency.check(touched)
        for each in touched:
            if each.before != each.after:
                self.changes.append(_change(each.model, each.pk, each.before, each.after))
                self.secrets.append(self._given_up(each))
        self.changes += self.in_bulk
        self.secrets += [{} for _ in self.in_bulk]

    def _given_up(self, touched: Touched) -> dict[str, bytes]:
        """Column → secret, of those that are stored no longer. One that does not open could not be used again."""
        was = self._secrets.get((touched.model, touched.pk))
        found: dict[str, bytes] = {}
        for column in secret_columns(was) if was is not None else ():
            try:
                secret = open_secret(was, column)
                if secret and (touched.row is None or open_secret(touched.row, column) != secret):
                    found[column] = secret
            except VaultError:
                continue
        return found

    def _touched(self) -> list[Touched]:
        """Read anew after each write: what writes tells so before (`touch`)."""
        if self._standing is None:
            self._standing = self._read()
        return self._standing

    def _read(self) -> list[Touched]:
        now: dict[tuple[type[Model], Any], Model] = {}
        for model in KIND_OF:
            keys = [pk for kind, pk in self._before if kind is model]
            for start in range(0, len(keys), _CHUNK):
                for row in stored(model).filter(pk__in=keys[start : start + _CHUNK]):
                    now[model, row.pk] = row
        found = []
        for (model, pk), before in self._before.items():
            row = now.get((model, pk))
            found.append(Touched(model, pk, row, before, record_of(row) if row is not None else None))
        return found


def _set_members(model: type[Model], members: Mapping[Any, Sequence[Model]]) -> None:
    (relation,) = model._meta.many_to_many
    through: Any = relation.remote_field.through  # type: ignore[union-attr]
    own, other = relation.m2m_field_name(), relation.m2m_reverse_field_name()  # type: ignore[attr-defined]
    through._default_manager.filter(**{f"{own}__in": list(members)}).delete()
    through._default_manager.bulk_create(
        [through(**{f"{own}_id": pk, other: row}) for pk, rows in members.items() for row in rows], batch_size=_CHUNK
    )


def _change(model: type[Model], pk: Any, before: Entry | None, after: Entry | None) -> Change:
    entry = after or before or {}
    action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.CHANGED
    change = Change(action=action, kind=KIND_OF[model], name=entry["name"])
    change.object_id, change.before, change.after = str(pk), before, after
    return change


_current: ContextVar[Recorder | None] = ContextVar("change set", default=None)


@contextmanager
def change_set(actor: str, message: str, address: str | None = None, *, dry_run: bool = False) -> Iterator[Recorder]:
    """All that is written inside is one change, or none of it is. One inside another joins it.

    Args:
        actor: an operator's name, or the command that does it.
        message: what it is for, in words.
        address: where the operator came from.
        dry_run: take everything back at the end; `changes` tells what would have been.

    Raises:
        Inconsistent: something that names a changed object would be invalid; nothing was changed.
    """
    outer = _current.get()
    if outer is not None:
        try:
            with transaction.atomic():  # a part that fails is taken back, whoever catches its error
                yield outer
        finally:
            outer.forget()
        return
    recorder = Recorder()
    token = _current.set(recorder)
    try:
        with transaction.atomic():
            _one_at_a_time()
            yield recorder
            recorder.close()
            if dry_run:
                transaction.set_rollback(True)
            elif recorder.changes:
                recorder.revision = _record(
                    actor, message, address, recorder.changes, recorder.secrets, recorded=recorder.recorded
                )
    finally:
        _current.reset(token)


def _one_at_a_time() -> None:
    """Revisions become visible in their order, or a node that has seen the later one would miss the earlier.

    SQLite lets one writer in anyway (`transaction_mode` in the settings).
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def record_event(actor: str, message: str, address: str | None, change: Change) -> None:
    """What is no change of the configuration, and is recorded like one: a test, a login, another operator."""
    with transaction.atomic():
        _one_at_a_time()
        _record(actor, message, address, [change], configures=False)


def record_test(actor: str, message: str, address: str | None, name: str, details: dict[str, Any]) -> None:
    """A test invoke is recorded like a change, and makes no revision of the configuration."""
    change = Change(action=Action.TESTED, kind="test_invoke", name=name, before=None, after=details)
    record_event(actor, message, address, change)


def record_operators(
    actor: str, address: str | None, name: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Who may use the console changed; that is recorded too, and configures no node."""
    action = Action.ADDED if before is None else Action.REMOVED if after is None else Action.CHANGED
    change = Change(action=action, kind="operators", name=name, before=before, after=after)
    record_event(actor, f"operator {name} {action.value}", address, change)


def record_enrolment(
    actor: str, address: str | None, name: str, before: dict[str, Any] | None, after: dict[str, Any], message: str
) -> None:
    """Which machine is believed to be a node changed; that configures none."""
    action = Action.ADDED if before is None else Action.CHANGED
    change = Change(action=action, kind="enrolments", name=name, before=before, after=after)
    record_event(actor, message, address, change)


def record_authority(
    actor: str, address: str | None, before: dict[str, Any], after: dict[str, Any], message: str
) -> None:
    """Whose certificates console and nodes believe of each other changed; that configures no node."""
    change = Change(action=Action.CHANGED, kind="authority", name="nodes", before=before, after=after)
    record_event(actor, message, address, change)


def record_restored(actor: str, message: str, backup: dict[str, Any]) -> int:
    """The database was filled from a backup; the revision from which it goes on.

    It lies beyond whatever a node may have seen since the backup was taken, for nodes take no older one. `backup`: what
    its head tells.
    """
    change = Change(action=Action.CHANGED, kind="backup", name="backup", before=None, after=backup)
    with transaction.atomic():
        _one_at_a_time()
        last = ChangeSet.objects.aggregate(last=Max("id"))["last"] or 0
        revision = _record(actor, message, None, [change], number=last + BEYOND)
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), [ChangeSet]):
                cursor.execute(statement)
    return revision


def _record(
    actor: str,
    message: str,
    address: str | None,
    changes: list[Change],
    secrets: Sequence[dict[str, bytes]] = (),
    *,
    configures: bool = True,
    number: int | None = None,
    recorded: Callable[[int], None] = lambda count: None,
) -> int:
    """`number`: of the change set, where it is not the next one."""
    made = ChangeSet(pk=number, actor=actor, message=message[:1000], address=address, configures=configures)
    made.save(force_insert=True)
    for change in changes:
        change.change_set = made
    for start in range(0, len(changes), _CHUNK):
        Change.objects.bulk_create(changes[start : start + _CHUNK])
        recorded(start)
    for change, found in zip(changes, secrets, strict=False):
        for column, secret in found.items():
            kept = KeptSecret(pk=f"{change.pk}:{column}", change=change, column=column)
            sealing.seal(kept, "value", secret)
            kept.save(force_insert=True)
    chain.link(made, changes)
    revisions.announce()
    return made.id


def current_revision() -> int:
    """The number of the last change to the configuration; 0 before the first."""
    # `__in`: SQLite's index is used for a comparison, and Django writes a bare condition for `configures=True`.
    return ChangeSet.objects.filter(configures__in=[True]).aggregate(last=Max("id"))["last"] or 0


def in_force() -> tuple[int, datetime] | None:
    """Number and time of the last change to the configuration.

    The number alone may be had again by who restores a backup: what is kept until something changes is kept for both.
    """
    return ChangeSet.objects.filter(configures__in=[True]).order_by("-id").values_list("id", "at").first()


def changes_between(known: int, revision: int) -> Iterator[Change]:
    """Changes to the configuration after the revision `known`, up to `revision`, in their order."""
    changes = Change.objects.filter(change_set__gt=known, change_set__lte=revision, change_set__configures=True)
    return changes.order_by("id").iterator()


# --- watching ---------------------------------------------------------------------------------------------

_PARENT_OF: dict[type[Model], str] = {TrustedCertificate: "truststore", RevocationList: "truststore",
                                   RevocationSource: "truststore", Dial: "port"}  # fmt: skip


def _touch(row: Model) -> None:
    recorder = _current.get()
    if recorder is None:
        what = f"{row._meta.verbose_name} {getattr(row, 'name', row.pk)}"
        raise WriteOutsideChangeSet(f"{what}: configuration is written inside gateway.audit.change_set alone")
    parent = _PARENT_OF.get(type(row))
    recorder.touch(getattr(row, parent) if parent else row)


def _on_write(sender: type[Model], instance: Model, **_: Any) -> None:
    _touch(instance)


def _on_membership(
    sender: type[Model], instance: Model, action: str, reverse: bool, model: type[Model], pk_set: Any, **_: Any
) -> None:
    """`reverse`: set from the far side, as in `group.users.add(alice)`; it is `model` that changes then."""
    if action not in ("pre_add", "pre_remove", "pre_clear"):
        return
    if not reverse:
        _touch(instance)
        return
    relation = next(field for field in model._meta.many_to_many if field.remote_field.through is sender)
    chosen = {relation.name: instance} if action == "pre_clear" else {"pk__in": pk_set or ()}
    for row in model._default_manager.filter(**chosen):
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
        Port.tls_keystores.through,
    )
    for through in throughs:
        m2m_changed.connect(_on_membership, sender=through, dispatch_uid=f"audit {through.__name__}")
