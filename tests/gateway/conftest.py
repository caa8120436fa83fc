"""A PostgreSQL for the tests that need one whatever the others run on."""

import os
from collections.abc import Iterator

import pytest

from tests import postgresql


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of the server that the tests run on, or of one that is started for these."""
    url = os.environ.get("DATABASE_URL", "")
    if url.startswith("postgres"):
        yield url
        return
    with postgresql.cluster() as own:
        yield own.url
