"""Who waits for a change hears of it in the moment in which it is committed, and after the database was away."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import environ
import psycopg
import pytest
from django.db.utils import ConnectionHandler

from gateway.revisions import CALM, CHANNEL, Watch
from tests.databases import new_on

pytestmark = pytest.mark.django_db  # what is reached by another connection than the tests' own

POLL = 0.25  # seconds; a number that the code cannot have from elsewhere
PATIENCE = 30  # seconds that a word may take on a busy machine


@pytest.fixture
def url(server: str) -> str:
    return new_on(server)


@pytest.fixture
def watch(url: str) -> Iterator[Watch]:
    watching = Watch(POLL, ConnectionHandler({"default": environ.Env.db_url_config(url)})["default"])
    yield watching
    watching.close()


@contextmanager
def other(url: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, **options) as found:
        yield found


def can_be_read(number: int | None, seconds: float) -> bool:
    assert number is not None
    return bool(select.select([number], [], [], seconds)[0])


def test_a_word_comes_when_the_change_is_committed_and_not_before(url: str, watch: Watch) -> None:
    told = watch.listen()
    assert watch.patience == CALM
    with other(url) as writer:
        writer.execute(f"NOTIFY {CHANNEL}")
        assert not can_be_read(told, 0)
        writer.commit()
        assert can_be_read(told, PATIENCE)


def test_what_was_told_is_forgotten_by_the_next_question(url: str, watch: Watch) -> None:
    told = watch.listen()
    with other(url, autocommit=True) as writer:
        for _ in range(3):
            writer.execute(f"NOTIFY {CHANNEL}")
    assert can_be_read(told, PATIENCE)
    assert not can_be_read(watch.listen(), 0)


def test_a_connection_that_is_lost_wakes_and_is_made_anew(server: str, url: str, watch: Watch) -> None:
    told = watch.listen()
    name = urlsplit(url).path[1:]
    with other(server, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        while told is not None:  # the server's last words come first
            assert can_be_read(told, PATIENCE), "who waits is woken by the end, and asks"
            told = watch.listen()
        assert watch.listen() is None, "and again, while the server is away"
        assert watch.patience == POLL
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    told = watch.listen()
    assert watch.patience == CALM
    with other(url, autocommit=True) as writer:
        writer.execute(f"NOTIFY {CHANNEL}")
    assert can_be_read(told, PATIENCE)


def test_sqlite_is_asked() -> None:
    handler = ConnectionHandler({"default": environ.Env.db_url_config("sqlite://:memory:")})
    watching = Watch(POLL, handler["default"])
    assert watching.listen() is None
    assert watching.patience == POLL
    watching.close()
