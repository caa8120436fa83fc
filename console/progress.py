"""How far a long transaction is, told past it: what it writes itself is seen by nobody before it ends.

PostgreSQL is told over a connection of our own. SQLite lets one writer in, which is that transaction: there it stands
in a file beside the nodes' state, for whoever writes to an SQLite file is on its machine. Nothing hangs on it; a word
that cannot be told is left out.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection

from console.models import Job

EVERY = 0.5  # seconds from one word to the next


class Progress:
    """Call it with the share that is done, 0 to 1."""

    def __init__(self, job: Job) -> None:
        self._job, self._told_at = job, 0.0
        self._beside = connection.copy() if connection.vendor == "postgresql" else None
        self._file = _file_of(job.pk)

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self._told_at < EVERY:
            return
        self._told_at = now
        done = int(share * self._job.total)
        if self._beside is None:
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file.write_text(str(done))
            return
        with contextlib.suppress(DatabaseError), self._beside.cursor() as cursor:
            # The transaction takes the job's row last of all. Should it have it already, a word is not worth waiting.
            cursor.execute("SET lock_timeout = '100ms'")
            cursor.execute("UPDATE console_job SET done = %s WHERE id = %s", [done, self._job.pk])

    def close(self) -> None:
        if self._beside is not None:
            self._beside.close()
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)


@contextlib.contextmanager
def told_of(job: Job) -> Iterator[Progress]:
    progress = Progress(job)
    try:
        yield progress
    finally:
        progress.close()


def done_of(job: Job) -> int:
    """How many of its rows are done, by the last word."""
    try:
        return int(_file_of(job.pk).read_text())
    except (OSError, ValueError):
        return job.done


def _file_of(key: uuid.UUID) -> Path:
    return Path(settings.POSTERN_STATE_DIR) / "imports" / str(key)
