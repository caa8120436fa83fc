"""Lines of logs: one message, one line, with a time that can be laid beside others."""

import logging
import re
import sys

from hypothesis import given
from hypothesis import strategies as st

from identity.core.log_lines import Formatter

FORMATTER = Formatter("%(asctime)s %(levelname)s %(message)s")


def line(message: str, **more: object) -> str:
    record = logging.LogRecord("postern", logging.INFO, __file__, 1, "refused %s", (message,), None)
    record.__dict__ |= more
    return FORMATTER.format(record)


@given(st.text())
def test_whatever_is_in_a_message_it_is_one_line(message: str) -> None:
    found = line(message)
    assert len(found.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", found)


def test_a_line_end_is_written_out() -> None:
    assert line("x\n2026-01-01T00:00:00.000+00:00 INFO owner").endswith(
        r"refused x\x0a2026-01-01T00:00:00.000+00:00 INFO owner"
    )


def test_names_in_every_language_stay() -> None:
    assert line("Zoë Ω 北京").endswith("refused Zoë Ω 北京")


def test_its_time_has_milliseconds_and_the_offset() -> None:
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d INFO ", line("x"))


def test_a_traceback_follows_in_lines_of_its_own() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        found = line("x", exc_info=sys.exc_info())
    assert found.splitlines()[-1] == "ValueError: why"
