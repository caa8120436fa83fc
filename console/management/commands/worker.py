"""`manage.py worker`: what the console does by itself, each thing in a thread of its own."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from console import saved_tests
from console.jobs import work
from console.notices import notify
from console.refusals import Collector, prune
from console.renewals import complete_renewals
from gateway import revocation
from gateway.unconfirmed import take_back_due

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """`every`: seconds between the end of one turn and the next."""

    name: str
    turn: Callable[[], None]
    every: float


class Command(BaseCommand):
    help = (
        "Work on imports and runs of tests, fetch revocation lists and refusals, take back what was not confirmed, "
        "complete renewals, tell what ends; until SIGTERM. "
        "Several may run: nothing is done twice."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        # One that takes long, an import or an address that does not answer, keeps no other waiting.
        threads = [threading.Thread(target=repeat, args=(task, stopping), name=task.name) for task in TASKS]
        for thread in threads:
            thread.start()
        stopping.wait()
        for thread in threads:
            thread.join()


def repeat(task: Task, stopping: threading.Event) -> None:
    """Turn after turn until told to stop; what goes wrong in one is logged, and the next comes in its time."""
    while not stopping.is_set():
        close_old_connections()
        began = time.monotonic()
        try:
            task.turn()
        except DatabaseError as error:
            log.error("%s: the database cannot be asked: %s", task.name, error)
        except Exception:  # what else goes wrong in one turn must not end all that come after it
            log.exception("%s, after %.1f s", task.name, time.monotonic() - began)
        stopping.wait(task.every)
    connections.close_all()


def imports() -> None:
    while work():
        pass


def test_runs() -> None:
    while saved_tests.work():
        pass


def notices() -> None:
    for channel, outcome in notify(timezone.now()).items():
        if isinstance(outcome, int) and outcome:
            log.info("%s: %d that end were told", channel, outcome)


def revocation_lists() -> None:
    for source in revocation.due(timezone.now()):
        revocation.fetch(source, timezone.now())


def renewals() -> None:
    for name in complete_renewals(timezone.now()):
        log.info("registration %s: its renewal is complete", name)


def unconfirmed() -> None:
    for line in take_back_due():
        log.info("%s", line)


_collector = Collector()


def refusals() -> None:
    _collector.turn()


def old_refusals() -> None:
    if gone := prune(timezone.now()):
        log.info("%d refusals were kept for long enough", gone)


TASKS = (
    Task("imports", imports, 1.0),
    Task("notices", notices, 3600.0),
    Task("revocation lists", revocation_lists, 15.0),
    Task("renewals", renewals, 5.0),
    Task("unconfirmed changes", unconfirmed, 1.0),
    Task("saved tests", test_runs, 1.0),
    Task("refusals", refusals, 2.0),
    Task("old refusals", old_refusals, 300.0),
)
