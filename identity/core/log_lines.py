"""Lines of logs. Their times with milliseconds, for what happens within a second is compared, and with the offset from
UTC, for logs of several machines are laid side by side; and no message makes a second line.
"""

import logging
from datetime import datetime

# What ends a line, or moves a terminal's cursor, is written out: names and paths come from whoever calls.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class Formatter(logging.Formatter):
    """As the standard one, but for the times, 2026-11-25T20:36:20.123+00:00 (RFC 3339), and control characters.

    Tracebacks follow in lines of their own.
    """

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(_CONTROL)
