"""The database as lines, and back: whole, of one moment, for either kind of database.

Rows are read and written as the models stood at the backup's migrations, so that a later version restores an earlier
one's backup and then brings it up to date.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.apps import apps
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

from console.backup.archive import ArchiveError, Line
from gateway.audit import current_revision
from gateway.models import ChangeSet
from identity.core.commands import command

# What is not the installation's: who is logged in, and what Django makes anew of the models themselves.
LEFT_OUT = {"sessions.session", "console.session", "contenttypes.contenttype", "auth.permission"}
ROWS = 1000  # written at once


class NotEmpty(Exception):
    """The database that was to be restored into holds an installation already."""


def dump() -> Iterator[Line]:
    """A head, then one line for each row: label of its model, values by column. Other writers are not kept waiting."""
    with _one_moment():
        migrations = sorted(map(list, MigrationRecorder(connection).applied_migrations()))
        created, revision = datetime.now(UTC).isoformat(), current_revision()
        yield ["postern", {"created": created, "revision": revision, "migrations": migrations}]
        for model in _models(apps):
            fields = model._meta.concrete_fields
            for row in model._default_manager.order_by("pk").iterator(chunk_size=ROWS):
                yield [model._meta.label_lower, {f.attname: _text(f, row) for f in fields}]


def load(lines: Iterator[Line]) -> dict[str, Any]:
    """Fill an empty database from what `dump` gave; all of it or nothing. Returns the head.

    Raises:
        NotEmpty
        ArchiveError: it is not a whole backup, or of a later version than this one.
    """
    head = next(lines, None)
    if not head or head[0] != "postern":
        raise ArchiveError(f"The backup has no head; it was not written by {command('backup')}.")
    wanted = {(app, name) for app, name in head[1]["migrations"]}
    historic = _prepare(wanted)
    with transaction.atomic():
        models = _models(historic)
        by_label = {model._meta.label_lower: model for model in models}
        for model in models:
            for field in model._meta.concrete_fields:  # a row keeps the times that it had
                if hasattr(field, "auto_now"):
                    field.auto_now = field.auto_now_add = False
        for model in reversed(models):  # what the migrations themselves have made
            model._default_manager.all().delete()
        pending: list[Model] = []
        for label, values in lines:
            model = by_label.get(label)
            if model is None:
                raise ArchiveError(f"The backup has rows of {label}, which its migrations do not know.")
            if pending and (type(pending[0]) is not model or len(pending) >= ROWS):
                _write(pending)
                pending = []
            pending.append(model(**{f.attname: _value(f, values) for f in model._meta.concrete_fields}))
        _write(pending)
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), models):
                cursor.execute(statement)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    return dict(head[1])


@contextmanager
def _one_moment() -> Iterator[None]:
    """All that is read inside is of one moment, and nobody waits for us."""
    if connection.vendor == "sqlite":
        # Deferred, whatever the settings say of writers: a reader in WAL mode holds nobody up.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _models(registry: Any) -> list[type[Model]]:
    """Every table that belongs to the installation, the ones that join two others included, in a fixed order."""
    found = [
        model
        for model in registry.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and model._meta.label_lower not in LEFT_OUT
    ]
    return sorted(found, key=lambda model: model._meta.label_lower)


def _text(field: Any, row: Model) -> Any:
    return None if getattr(row, field.attname) is None else field.value_to_string(row)


def _value(field: Any, values: dict[str, Any]) -> Any:
    text = values[field.attname]
    column = field.target_field if field.is_relation else field
    return None if text is None else column.to_python(text)


def _write(rows: list[Model]) -> None:
    if rows:
        type(rows[0])._default_manager.bulk_create(rows)


def _prepare(wanted: set[tuple[str, str]]) -> Any:
    """Bring the empty database to the backup's migrations; the models as they stood then."""
    executor = MigrationExecutor(connection)
    if ChangeSet._meta.db_table in connection.introspection.table_names() and ChangeSet.objects.exists():
        raise NotEmpty("The database holds an installation already; restore into an empty one (DATABASE_URL).")
    if unknown := wanted - set(executor.loader.graph.nodes):
        later = ", ".join(sorted(f"{app}.{name}" for app, name in unknown))
        raise ArchiveError(f"The backup is of a later version, which has {later}; restore it with that one.")
    executor.migrate([node for node in executor.loader.graph.leaf_nodes() if node in wanted] or list(wanted))
    return executor.loader.project_state(list(wanted)).apps
