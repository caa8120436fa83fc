"""The audit log is whole, or it is said where it first is not."""

import subprocess
import sys
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction

from gateway import chain
from gateway.audit import change_set, record_operators, record_test
from gateway.chain import End
from gateway.core.chain import GENESIS
from gateway.models import ChangeSet, Head, Link
from identity.models import Group
from identity.models.sealing import reseal_all
from tests.databases import environment

ROOT = Path(__file__).resolve().parents[2]
TRIGGERS = ("gateway_changeset", "gateway_change", "gateway_link")


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    settings.POSTERN_STATE_DIR = tmp_path
    return tmp_path


@pytest.fixture
def log(db: None, home: Path) -> list[ChangeSet]:
    """Five change sets: changes, a test, operators."""
    for name in ("One", "Two"):
        with change_set("olivia", f"group {name}", "192.0.2.7"):
            Group(name=name).save()
    record_test("victor", "test invoke", None, "ext", {"status": 200, "seconds": 0.25})
    record_operators("olivia", "2001:db8::1", "victor", None, {"role": "viewer"})
    with change_set("apply", "two at once"):
        Group(name="Three").save()
        Group(name="Four", description="Ä\n\U0001f512").save()
    return list(ChangeSet.objects.order_by("pk"))


def verify(*options: str) -> str:
    out = StringIO()
    call_command("verify-audit", *options, stdout=out)
    return out.getvalue()


def broken(*options: str) -> str:
    with pytest.raises(CommandError) as error:
        verify(*options)
    return str(error.value)


def tamper(statement: str, *values: Any) -> None:
    """As who has the database's own rights could: triggers are no hindrance to him. Inside a transaction that is taken
    back, which brings them back too."""
    on_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        # What was written before is checked first: a table with checks to come keeps its triggers.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE" if on_postgresql else "PRAGMA defer_foreign_keys = ON")
        for table in TRIGGERS:
            cursor.execute(f"DROP TRIGGER IF EXISTS {table}_append_only{f' ON {table}' if on_postgresql else ''}")
        cursor.execute(statement, values)


def test_an_empty_log_is_whole(db: None, home: Path) -> None:
    assert verify() == "The audit log is empty.\n"


def test_it_works(log: list[ChangeSet]) -> None:
    last = log[-1].link
    assert verify() == f"The audit log is whole: 5 changes, the last is {last.pk}:{last.hash}\n"
    assert log[0].link.previous == GENESIS
    assert [each.link.previous for each in log[1:]] == [each.link.hash for each in log[:-1]]


TAMPERED = [
    pytest.param("UPDATE gateway_changeset SET actor = 'victor' WHERE id = %s", "is not what was recorded", id="actor"),
    pytest.param("UPDATE gateway_changeset SET address = NULL WHERE id = %s", "is not what was recorded", id="address"),
    pytest.param("UPDATE gateway_changeset SET at = '2020-01-01' WHERE id = %s", "is not what was recorded", id="time"),
    pytest.param("UPDATE gateway_changeset SET configures = NOT configures WHERE id = %s", "is not", id="kind"),
    pytest.param("UPDATE gateway_change SET after = '{}' WHERE change_set_id = %s", "is not what was", id="after"),
    pytest.param("UPDATE gateway_change SET object_id = 'x' WHERE change_set_id = %s", "is not what was", id="object"),
    pytest.param("DELETE FROM gateway_change WHERE change_set_id = %s", "is not what was recorded", id="a-change-gone"),
    pytest.param("DELETE FROM gateway_link WHERE change_set_id = %s", "has no link", id="a-link-gone"),
    pytest.param("UPDATE gateway_link SET previous = upper(hash) WHERE change_set_id = %s", "does not", id="unlinked"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "words"), TAMPERED)
def test_the_first_that_was_changed_is_named(log: list[ChangeSet], statement: str, words: str) -> None:
    with transaction.atomic():
        tamper(statement, log[1].pk)
        told = broken()
        assert f"Change {log[1].pk} {words}" in told
        assert f"In order up to change {log[0].pk}:{log[0].link.hash}" in told
        transaction.set_rollback(True)


def take_away(*numbers: int) -> None:
    for number in numbers:
        for table, column in (("link", "change_set_id"), ("change", "change_set_id"), ("changeset", "id")):
            tamper(f"DELETE FROM gateway_{table} WHERE {column} = %s", number)


def test_one_that_was_taken_out_leaves_a_gap(log: list[ChangeSet]) -> None:
    with transaction.atomic():
        take_away(log[1].pk)
        assert f"Change {log[2].pk} does not stand on the one before it" in broken()
        transaction.set_rollback(True)


def test_the_last_ones_are_missed(log: list[ChangeSet]) -> None:
    with transaction.atomic():
        take_away(log[3].pk, log[4].pk)
        assert f"The log ended with change {log[4].pk}" in broken()
        transaction.set_rollback(True)


def test_going_on_does_not_cover_up_what_was_taken_away(log: list[ChangeSet]) -> None:
    with transaction.atomic():
        take_away(log[4].pk)
        with change_set("olivia", "as if nothing were"):
            Group(name="Later").save()
        assert "does not stand on the one before it" in broken()
        transaction.set_rollback(True)


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "broken"])
def test_going_on_does_not_cover_up_a_lost_seal(log: list[ChangeSet], gone: bool) -> None:
    with transaction.atomic():
        Head.objects.all().delete() if gone else Head.objects.update(end=b"nonsense")
        assert "The seal on the end of the chain" in broken()
        with change_set("olivia", "as if nothing were"):
            Group(name="Later").save()
        assert "does not stand on the one before it" in broken()
        transaction.set_rollback(True)


def test_an_old_seal_with_the_old_log_is_found_by_what_was_remembered(log: list[ChangeSet]) -> None:
    """Who put a whole copy of the database back, seal and all, is found out by the state folder, or the log's line."""
    with transaction.atomic():
        seal = bytes(Head.objects.get().end)
        with change_set("mallory", "what is to be forgotten"):
            Group(name="Mallory").save()
        ended = End.of(verify().rpartition(" ")[2])
        take_away(ended.number)
        Head.objects.update(end=seal)
        assert f"Change {ended.number} is gone" in broken()
        transaction.set_rollback(True)
    assert f"Change {ended.number} is gone" in broken("--end", str(ended))


def test_a_log_that_was_written_anew_is_found_by_what_was_remembered(log: list[ChangeSet], home: Path) -> None:
    assert f"Change {log[2].pk} is not the one that was remembered" in broken("--end", f"{log[2].pk}:{'f' * 64}")
    (home / "audit-end").write_text("nonsense")
    assert "An end of the chain is written as a number" in broken()


def test_the_seal_follows_the_master_key(log: list[ChangeSet], settings: Any) -> None:
    settings.POSTERN_MASTER_KEY_PREVIOUS = [settings.POSTERN_MASTER_KEY]
    settings.POSTERN_MASTER_KEY = b"n" * 32
    reseal_all()
    settings.POSTERN_MASTER_KEY_PREVIOUS = []
    assert "is whole" in verify()


def test_what_was_recorded_before_there_was_a_chain_is_linked(log: list[ChangeSet], settings: Any) -> None:
    links = list(Link.objects.values_list("change_set_id", "previous", "hash"))
    with transaction.atomic():
        tamper("DELETE FROM gateway_link")
        Head.objects.all().delete()
        import_module("gateway.migrations.0003_audit_chain").chain(apps, None)
        assert list(Link.objects.values_list("change_set_id", "previous", "hash")) == links
        assert "is whole" in verify()
        transaction.set_rollback(True)


def test_the_database_lets_nobody_fork_the_chain(log: list[ChangeSet]) -> None:
    twin = ChangeSet.objects.create(actor="mallory", message="beside", configures=False)
    with pytest.raises(IntegrityError), transaction.atomic():
        Link(change_set=twin, previous=log[-1].link.previous, hash="f" * 64).save()


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1.0, 1e16, -0.0, 0.5, 7], id="numbers"),
        pytest.param({"b": {"a": None}, "a": [True, "Ä\u2028"]}, id="nested"),
    ],
)
def test_the_hash_is_of_what_the_database_gives_back(db: None, home: Path, values: Any) -> None:
    record_test("victor", "test invoke", "::ffff:192.0.2.1", "ext", {"values": values})
    assert "is whole" in verify()


WRITE = """
import sys
from gateway.audit import change_set, record_test
from identity.models import Group
sys.stdin.readline()
for turn in range(10):
    record_test("victor", f"test {sys.argv[1]}.{turn}", None, "ext", {})
    with change_set("olivia", f"group {sys.argv[1]}.{turn}"):
        Group(name=f"Group{sys.argv[1]}.{turn}").save()
"""


@pytest.mark.django_db  # on PostgreSQL too: it makes one of its own
@pytest.mark.timeout(240)  # six processes start
def test_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    """Processes of their own, let go together, over one database."""
    its = environment(tmp_path, LOG_LEVEL="WARNING")

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=its, check=True, capture_output=True, text=True).stdout

    code = f"import django; django.setup()\n{WRITE}"
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=ROOT, env=its, stdin=subprocess.PIPE)
        for number in range(3)
    ]
    try:
        for process in running:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.close()
        assert [process.wait() for process in running] == [0, 0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert "is whole: 60 changes" in manage("verify-audit")


def test_verifying_reads_the_log_once(log: list[ChangeSet], django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(4):
        assert not chain.verify().problem
