"""A change that goes back by itself unless it is confirmed."""

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from gateway.audit import change_set
from gateway.models import Change, ChangeSet, Port, Unconfirmed
from gateway.topology.undo import undo
from gateway.unconfirmed import SECONDS, keep, take_back_due
from tests import factories
from tests.databases import environment

ROOT = Path(__file__).resolve().parents[2]


def text(answer: Any) -> str:
    return answer.content.decode()


@pytest.fixture
def port(db: None) -> Port:
    row: Port = factories.RegularPortFactory(name="front", bind="127.0.0.1:9001")
    return row


def typed(port: Port, **more: str) -> dict[str, str]:
    return {
        "name": port.name, "node": str(port.node_id), "enabled": "on", "bind": port.bind, "client_auth": "password",
        "service_default": "deny", "ip_default": "allow", "accept_basic": "unknown",
    } | more  # fmt: skip


@pytest.fixture
def changed(owner: Client, port: Port) -> ChangeSet:
    """Another address, to be confirmed."""
    answer = owner.post(f"/ports/{port.pk}/", typed(port, bind="127.0.0.1:9002", goes_back="on"))
    assert answer.status_code == 302
    return ChangeSet.objects.latest("id")


def late() -> None:
    Unconfirmed.objects.update(due=timezone.now() - timedelta(seconds=1))


def bind() -> str:
    return Port.objects.get(name="front").bind


def test_it_is_in_force_at_once_and_waits(owner: Client, changed: ChangeSet) -> None:
    assert bind() == "127.0.0.1:9002"
    row = Unconfirmed.objects.get()
    assert (row.change_set, row.state) == (changed, "waiting")
    assert row.due >= changed.at + timedelta(seconds=SECONDS)
    page = text(owner.get("/users/"))
    assert f"Change {changed.pk} goes back at" in page, "it is told on every page"
    assert take_back_due() == []
    assert bind() == "127.0.0.1:9002"


def test_without_the_box_nothing_waits(owner: Client, port: Port) -> None:
    owner.post(f"/ports/{port.pk}/", typed(port, bind="127.0.0.1:9002"))
    assert bind() == "127.0.0.1:9002"
    assert not Unconfirmed.objects.exists()


def test_saved_as_it_was_nothing_waits(owner: Client, port: Port) -> None:
    assert owner.post(f"/ports/{port.pk}/", typed(port, goes_back="on")).status_code == 302
    assert not Unconfirmed.objects.exists()


def test_unconfirmed_it_goes_back_by_a_change_of_its_own(changed: ChangeSet) -> None:
    late()
    assert take_back_due() == [f"change {changed.pk} was not confirmed in time, and went back"]
    assert bind() == "127.0.0.1:9001"
    made = ChangeSet.objects.latest("id")
    assert (made.actor, made.configures) == ("worker", True)
    assert made.message == f"undo of change {changed.pk}: port front changed"
    assert take_back_due() == [], "once"


def test_confirmed_it_stays(owner: Client, changed: ChangeSet) -> None:
    answer = owner.post(f"/changes/{changed.pk}/keep/", follow=True)
    assert f"Change {changed.pk} is confirmed, and stays." in text(answer)
    late()
    assert take_back_due() == []
    assert bind() == "127.0.0.1:9002"
    change = Change.objects.latest("id")
    assert (change.kind, change.after, change.change_set.actor) == ("unconfirmed", {"kept": True}, "olivia-owner")
    assert "goes back at" not in text(owner.get("/users/"))


def test_it_is_taken_back_by_hand(owner: Client, changed: ChangeSet) -> None:
    assert "is taken back" in text(owner.post(f"/changes/{changed.pk}/take-back/", follow=True))
    assert bind() == "127.0.0.1:9001"
    assert ChangeSet.objects.latest("id").actor == "olivia-owner"


def test_whoever_comes_second_is_told(owner: Client, changed: ChangeSet) -> None:
    assert keep(changed.pk, "olivia", None)
    for action in ("keep", "take-back"):
        answer = owner.post(f"/changes/{changed.pk}/{action}/", follow=True)
        assert f"Change {changed.pk} does not wait any more." in text(answer)
    assert bind() == "127.0.0.1:9002"


def test_what_was_undone_waits_no_more(changed: ChangeSet) -> None:
    undo(changed, "olivia")
    late()
    assert take_back_due() == []
    assert Unconfirmed.objects.get().state == "went_back"


def test_while_it_waits_the_port_is_not_changed_again(owner: Client, port: Port, changed: ChangeSet) -> None:
    answer = owner.post(f"/ports/{port.pk}/", typed(port, bind="127.0.0.1:9003"))
    assert answer.status_code == 422
    assert f"Change {changed.pk} of it waits to be confirmed" in text(answer)


def test_what_cannot_go_back_is_told_where_it_is_seen(owner: Client, port: Port, changed: ChangeSet) -> None:
    """A file was applied meanwhile."""
    with change_set("apply", "configuration file applied"):
        row = Port.objects.get(pk=port.pk)
        row.description = "changed meanwhile"
        row.save()
    late()
    (line,) = take_back_due()
    assert "could not go back: port front was changed again, by change" in line
    assert Unconfirmed.objects.get().state == "failed"
    assert "was not confirmed in time, and could not go back" in text(owner.get("/"))
    assert "port front was changed again" in text(owner.get(f"/changes/{changed.pk}/"))
    assert take_back_due() == []


def test_an_added_port_goes_away_again(owner: Client, port: Port) -> None:
    new = typed(port, name="second", bind="127.0.0.1:9009", goes_back="on")
    assert owner.post("/ports/add/regular/", new).status_code == 302
    late()
    take_back_due()
    assert not Port.objects.filter(name="second").exists()


def test_a_deleted_port_comes_back(owner: Client, port: Port) -> None:
    assert "Go back unless I confirm" in text(owner.get(f"/ports/{port.pk}/delete/"))
    assert owner.post(f"/ports/{port.pk}/delete/", {"goes_back": "on"}).status_code == 302
    assert not Port.objects.exists()
    late()
    take_back_due()
    assert Port.objects.get().pk == port.pk


def test_while_it_waits_the_port_is_not_deleted(owner: Client, port: Port, changed: ChangeSet) -> None:
    answer = owner.post(f"/ports/{port.pk}/delete/")
    assert answer.status_code == 409
    assert f"Change {changed.pk} of it waits to be confirmed" in text(answer)


def test_of_other_objects_it_is_not_asked(owner: Client, port: Port) -> None:
    group = factories.GroupFactory(name="Plain")
    assert "Go back unless" not in text(owner.get(f"/groups/{group.pk}/delete/"))
    owner.post(f"/groups/{group.pk}/delete/", {"goes_back": "on"})
    assert not Unconfirmed.objects.exists()


@pytest.mark.parametrize("action", ["keep", "take-back"])
def test_it_takes_the_role_that_changes_ports(as_role: Any, changed: ChangeSet, action: str) -> None:
    viewer = as_role("viewer")
    assert "goes back at" not in text(viewer.get("/users/"))
    assert viewer.post(f"/changes/{changed.pk}/{action}/").status_code == 403
    assert Unconfirmed.objects.get().state == "waiting"


@pytest.mark.django_db  # on PostgreSQL too: it makes one of its own
@pytest.mark.timeout(240)  # three processes start
def test_the_process_takes_it_back_after_a_restart_too(tmp_path: Path) -> None:
    """The row is in the database; whichever process looks next does it."""
    its = environment(tmp_path, LOG_LEVEL="INFO")
    make = (
        "from django.db import transaction; from django.utils import timezone; from gateway import unconfirmed;"
        "from gateway.audit import change_set; from identity.models import Group;"
        "unconfirmed.SECONDS = -1\n"
        "with transaction.atomic():\n"
        "    with change_set('tests', 'a group') as made: Group(name='Brief').save()\n"
        "    unconfirmed.wait(made.revision)"
    )
    shell = [sys.executable, "manage.py", "shell", "-v0", "-c", make]
    subprocess.run(shell, cwd=ROOT, env=its, check=True, timeout=100)
    command = [sys.executable, "-u", "manage.py", "worker"]
    with subprocess.Popen(command, cwd=ROOT, env=its, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = "change 1 was not confirmed in time, and went back\n"
        try:
            assert any(line.endswith(told) for line in process.stderr), "the audit log's own line comes first"
        finally:
            process.send_signal(signal.SIGTERM)
