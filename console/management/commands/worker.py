"""`manage.py worker`: what the console does by itself: imports that were asked for, and telling what ends."""

import logging
import signal
import threading
import time
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from console.jobs import work
from console.notices import notify

log = logging.getLogger(__name__)

NOTICES_EVERY = 3600.0  # seconds
POLL = 1.0  # seconds between two looks for work


class Command(BaseCommand):
    help = "Work on imports, and tell once an hour what ends, until SIGTERM. Several may run: nothing is done twice."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        next_notices = time.monotonic()
        while not stopping.is_set():
            close_old_connections()
            try:
                if time.monotonic() >= next_notices:
                    next_notices = time.monotonic() + NOTICES_EVERY
                    tell()
                if work():
                    continue  # there may be another
            except DatabaseError as error:
                log.error("worker: the database cannot be asked: %s", error)
            stopping.wait(POLL)


def tell() -> None:
    for channel, outcome in notify(timezone.now()).items():
        if isinstance(outcome, int) and outcome:
            log.info("%s: %d that end were told", channel, outcome)
