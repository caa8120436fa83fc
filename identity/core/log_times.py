"""Times in logs: with milliseconds, for what happens within a second is compared, and with the offset from UTC, for
logs of several machines are laid side by side.
"""

import logging
from datetime import datetime


class Formatter(logging.Formatter):
    """As the standard one, but for the times: 2026-11-25T20:36:20.123+00:00 (RFC 3339)."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
