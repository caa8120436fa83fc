"""How often somebody may ask: so many at once and in each minute, whoever counts; and what is never refused for it."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from console.models import Operator, Session, Token
from console.pace import TooOften, spend_costly
from gateway.models import ChangeSet
from tests.api.conftest import Caller
from tests.console.conftest import PASSWORD
from tests.databases import environment

ROOT = Path(__file__).resolve().parents[2]

WRITES = ("INSERT", "UPDATE", "DELETE")
NOW = 1_800_000_000.0


@pytest.fixture
def olga(db: None) -> Operator:
    return Operator.objects.create_operator("olga", PASSWORD, "owner")


def spent(operator: Operator, now: float, times: int = 1000) -> int:
    """How often it goes at this moment, and no more."""
    for done in range(times):
        try:
            spend_costly(operator, now)
        except TooOften:
            return done
    return times


# --- counting ---


def test_so_many_at_once_and_as_many_in_each_minute_from_then_on(olga: Operator, settings: LazySettings) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 6
    assert spent(olga, NOW) == 6
    with pytest.raises(TooOften) as late:
        spend_costly(olga, NOW)
    assert late.value.seconds == 10, "a sixth of a minute"
    assert spent(olga, NOW + 9) == 0
    assert spent(olga, NOW + 10) == 1, "when it was told that it would go on, it does"
    assert spent(olga, NOW + 40) == 3
    assert spent(olga, NOW + 3600) == 6, "what was not asked for is not saved up"


def test_each_has_his_own(olga: Operator, settings: LazySettings) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 2
    other = Operator.objects.create_operator("ada", PASSWORD, "viewer")
    assert (spent(olga, NOW), spent(other, NOW)) == (2, 2)


def test_a_clock_that_was_set_back_shuts_nobody_out(olga: Operator, settings: LazySettings) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 3
    spent(olga, NOW + 86400)
    assert spent(olga, NOW) == 3
    assert spent(olga, NOW - 30) == 0, "so much two clocks may differ"


AT_ONCE = """
import sys, threading
import django
django.setup()
from django.db import connections
from console.models import Operator
from console.pace import TooOften, spend_costly
operator = Operator.objects.create_operator("olga", "a password of some words", "owner")
together, done = threading.Barrier(8, timeout=30), []
def ask():
    for minute in range(20):
        together.wait()
        try:
            spend_costly(operator, 1_800_000_000.0 + 60 * minute)
            done.append(minute)
        except TooOften:
            pass
    connections.close_all()
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert done == list(range(20)), done
"""


@pytest.mark.django_db  # on PostgreSQL too: it makes one of its own
@pytest.mark.timeout(120)  # a process starts
def test_those_who_count_at_once_do_not_count_past_each_other(tmp_path: Path) -> None:
    """One a minute may, of eight that ask in the same moment, each over a connection of his own."""
    command = [sys.executable, "-c", AT_ONCE]
    its = environment(tmp_path, CONSOLE_COSTLY_PER_MINUTE="1")
    subprocess.run(command, cwd=ROOT, env=its, check=True, timeout=100)


# --- pages ---


def test_what_is_sent_too_often_is_refused_and_not_done(
    owner: Client, settings: LazySettings, world: dict[str, Model], caplog: pytest.LogCaptureFixture
) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 2
    url = reverse("certificates-unmap", args=[world["certificates"].pk])
    assert [owner.post(url).status_code for _ in range(2)] == [302, 302]
    before = ChangeSet.objects.count()
    answer = owner.post("/groups/add/", {"name": "more"})
    assert (answer.status_code, ChangeSet.objects.count()) == (429, before)
    assert 1 <= int(answer["Retry-After"]) <= 30
    text = answer.content.decode()
    assert "Too much at once" in text and f"in {answer['Retry-After']} seconds" in text
    assert "it is too often" in caplog.text


def test_looking_is_not_counted_and_writes_nothing(
    owner: Client, settings: LazySettings, world: dict[str, Model]
) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 1
    owner.get("/")
    for url in (
        "/",
        "/users/",
        reverse("users-edit", args=[world["users"].pk]),
        "/search/?q=a",
        "/certificates/?sort=name",
    ):
        with CaptureQueriesContext(connection) as queries:
            assert owner.get(url).status_code == 200
        assert not [each["sql"] for each in queries if each["sql"].startswith(WRITES)], url
    assert Operator.objects.get().spent_until == 0


@pytest.mark.parametrize(
    "url",
    [
        "/users/{users}/?access=1", "/users/{users}/ahead/block/",
        "/users/bulk/?action=disable",
    ],
)  # fmt: skip
def test_what_is_computed_for_a_look_is_counted(
    url: str, owner: Client, settings: LazySettings, world: dict[str, Model]
) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 1
    place = url.format(users=world["users"].pk)
    assert owner.get(place).status_code == 200
    assert owner.get(place).status_code == 429


def test_shutting_somebody_out_is_never_too_often(
    owner: Client, settings: LazySettings, world: dict[str, Model]
) -> None:
    """Whoever has stolen a login and asks without end keeps its owner from nothing that ends it."""
    settings.CONSOLE_COSTLY_PER_MINUTE = 1
    operator = Operator.objects.get()
    spent(operator, time.time())
    Client().force_login(operator)
    assert owner.post("/groups/add/", {"name": "more"}).status_code == 429
    assert owner.post(reverse("certificates-block", args=[world["certificates"].pk])).status_code == 302
    assert owner.post("/account/sessions/end/").status_code == 302
    assert Session.objects.filter(operator=operator).count() == 1
    new = {"current_password": PASSWORD, "new_password": PASSWORD + "2", "new_password_again": PASSWORD + "2"}
    assert owner.post("/account/", new).status_code == 302
    assert owner.post("/logout/").status_code == 302


def test_who_is_nobody_is_not_counted(client: Client, olga: Operator, settings: LazySettings) -> None:
    """Guesses are, elsewhere."""
    settings.CONSOLE_COSTLY_PER_MINUTE = 1
    assert [client.post("/groups/add/").status_code for _ in range(3)] == [302, 302, 302]
    for _ in range(3):
        client.post("/login/", {"username": "olga", "password": "wrong"})
    olga.refresh_from_db()
    assert olga.spent_until == 0


# --- programs ---


@pytest.fixture
def caller_of(olga: Operator) -> Callable[[], Caller]:
    return lambda: Caller(olga, ["view", "change_identity"])


def test_a_token_calls_so_often_and_another_goes_on(caller_of: Callable[[], Caller], settings: LazySettings) -> None:
    settings.CONSOLE_API_PER_MINUTE = 2
    one, other = caller_of(), caller_of()
    assert [one.get("/groups/").status_code for _ in range(2)] == [200, 200]
    late = one.put("/groups/more", {})
    assert (late.status_code, late.json()["code"], late["Content-Type"]) == (
        429, "too_often", "application/problem+json",
    )  # fmt: skip
    assert 1 <= int(late["Retry-After"]) <= 30
    assert other.get("/groups/more").status_code == 404, "the other goes on, and nothing was done"


def test_what_costs_is_counted_of_the_operator_by_whatever_token(
    caller_of: Callable[[], Caller], settings: LazySettings, world: dict[str, Model]
) -> None:
    settings.CONSOLE_COSTLY_PER_MINUTE = 2
    one, other = caller_of(), caller_of()
    assert one.get("/export").status_code == 200
    assert other.put("/groups/more?dry_run=true", {}).status_code == 200
    late = other.get("/users/alice/access")
    assert (late.status_code, late.json()["code"]) == (429, "too_often")
    assert one.put("/groups/more", {}).status_code == 201, "what is no look ahead is counted of the token alone"
    assert one.post("/users/alice/block").status_code == 200


def test_a_call_writes_no_more_than_that_it_was_made(caller_of: Callable[[], Caller]) -> None:
    caller = caller_of()
    for used_from in ("127.0.0.1", None):  # noted once a minute
        Token.objects.update(used_from=None)
        with CaptureQueriesContext(connection) as queries:
            assert caller.get("/groups/").status_code == 200
        assert len([each["sql"] for each in queries if each["sql"].startswith(WRITES)]) == 1
        assert Token.objects.get().used_from == used_from
    Token.objects.update(used_at=Token.objects.get().used_at - timedelta(minutes=2))  # type: ignore[operator]
    caller.get("/groups/")
    assert Token.objects.get().used_from == "127.0.0.1"
