"""A database for an installation that a test runs in processes of its own: of the kind that the tests run on."""

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

ROOT = Path(__file__).resolve().parent.parent


def new_database(folder: Path, *, migrated: bool = False) -> str:
    """The URL of one of its own: a file in `folder`, or a database in the server that `DATABASE_URL` names.

    `migrated`: as `manage.py migrate` leaves an empty one, and in a moment: a copy of one that was made once.
    """
    server = urlsplit(os.environ.get("DATABASE_URL", ""))
    if not server.scheme.startswith("postgres"):
        file = folder / "db.sqlite3"
        if migrated:
            shutil.copyfile(urlsplit(_template()).path, file)
        return f"sqlite:///{file}"
    return new_on(urlunsplit(server), template=urlsplit(_template()).path[1:] if migrated else "")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a process of its own over a new database, migrated and empty; its state is in `folder`."""
    return os.environ | {
        "DATABASE_URL": new_database(folder, migrated=True),
        "POSTERN_STATE_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "console.settings",
        **more,
    }


def new_on(url: str, *, template: str = "") -> str:
    """The URL of a new database in that PostgreSQL server, empty or a copy of `template`."""
    server = urlsplit(url)
    name = f"installation_{uuid.uuid4().hex}"
    copied = f'TEMPLATE "{template}"' if template else ""
    with psycopg.connect(urlunsplit(server._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {copied}')
    return urlunsplit(server._replace(path=f"/{name}"))


@contextlib.contextmanager
def away(url: str) -> Iterator[None]:
    """Meanwhile nobody reaches the database, and who was there is sent away."""
    place = urlsplit(url)
    if not place.scheme.startswith("postgres"):
        file = Path(place.path)
        hidden = file.rename(file.with_name("hidden"))
        file.mkdir()  # so that nobody makes a new one
        yield
        file.rmdir()
        hidden.rename(file)
        return
    name = place.path[1:]
    with psycopg.connect(urlunsplit(place._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@functools.cache
def _template() -> str:
    """The URL of an empty database at the last migration, for this run of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="postern-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    url = new_database(folder)
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "manage.py", "migrate", "--noinput", "-v0"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    if url.startswith("sqlite"):  # what the write-ahead log still held is in the file when nobody has it open
        assert not Path(f"{urlsplit(url).path}-wal").exists()
    return url
