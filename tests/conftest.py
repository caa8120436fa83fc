"""What every test runs under."""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from tests import predefined

# How long an example takes says something of the machine, and nothing of the law that it is an example of.
hypothesis.settings.register_profile("postern", deadline=None)
hypothesis.settings.load_profile("postern")

# Suites whose cases are not in the repository: the variable that names each one's file.
OUTSIDE = {"x509-limbo": "POSTERN_X509_LIMBO"}

EMPTIES = {"transactional_db", "live_server"}


# Tests that make a database of their own, which nothing in their signature tells.
OWN_DATABASES = ("tests/relay/", "tests/browser/", "tests/test_")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL what asks no database is left out: it has run on SQLite, and comes to the same."""
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        return
    asking = [item for item in items if _asks_a_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _asks_a_database(item)])
    items[:] = asking


def _asks_a_database(item: pytest.Item) -> bool:
    path = item.path.relative_to(item.config.rootpath).as_posix()
    named = {"db", *EMPTIES} & set(getattr(item, "fixturenames", ()))
    return bool(named) or item.get_closest_marker("django_db") is not None or path.startswith(OWN_DATABASES)


@pytest.fixture(autouse=True)
def _predefined_rows_come_back(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[None]:
    """A test that empties the database at its end takes the predefined rows with it; the next one needs them."""
    yield
    marker = request.node.get_closest_marker("django_db")
    if not (EMPTIES & set(request.fixturenames) or (marker and marker.kwargs.get("transaction"))):
        return
    with django_db_blocker.unblock():
        predefined.bring_back()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for suite, variable in OUTSIDE.items():
        if not os.environ.get(variable):
            terminalreporter.write_line(f"{suite} was not run: {variable} names no file")
