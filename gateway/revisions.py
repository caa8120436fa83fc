"""Learning that something was changed: told by the database where it can tell, asked of it again and again where not.

PostgreSQL wakes whoever listens in the moment in which a change is committed (NOTIFY). It wakes, and says nothing:
what there is now is asked of the tables, so that a word which is lost, while the server was away or because a pooler
stands between, costs a few seconds and no change. SQLite has no such thing, and is asked.
"""

import logging
from typing import Any

from django.db import DatabaseError, connection

log = logging.getLogger(__name__)

CHANNEL = "postern_revision"
CALM = 5.0  # seconds after which it is asked all the same, where we are told


def announce() -> None:
    """Wake whoever listens, once the transaction that this is part of is committed."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")


class Watch:
    """One listener, with a connection of its own; used by one thread.

    Args:
        poll: seconds between two questions where nobody tells us.
        database: a Django connection to what is watched; it is copied, and not used itself.
    """

    def __init__(self, poll: float, database: Any = connection) -> None:
        self._poll, self._database = poll, database
        self._listener: Any = None  # a Django connection that nothing else uses

    @property
    def patience(self) -> float:
        """Seconds to wait for the next word; then it is to be asked what changed."""
        return self._poll if self._listener is None else CALM

    def listen(self) -> int | None:
        """Listen from here on: call it before each question, and wait for what it gives after that.

        What was told before this call is forgotten; the question that follows sees it. A connection that was lost is
        made anew; while that cannot be, `patience` is short.

        Returns:
            A file descriptor that can be read when something changed; None where nobody tells.
        """
        if self._database.vendor != "postgresql":
            return None
        try:
            if self._listener is None:
                self._listener = self._begin()
            with self._listener.wrap_database_errors:
                for _ in self._listener.connection.notifies(timeout=0):
                    pass
        except DatabaseError as error:
            log.warning("the database does not tell of changes for now: %s", str(error).partition("\n")[0])
            self.close()
            return None
        number: int = self._listener.connection.fileno()
        return number

    def _begin(self) -> Any:
        """Raises DatabaseError."""
        made = self._database.copy()
        try:
            with made.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
        except DatabaseError:
            made.close()
            raise
        return made

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
