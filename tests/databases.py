"""A database for an installation that a test runs in processes of its own: of the kind that the tests run on."""

import os
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg


def new_database(folder: Path) -> str:
    """The URL of an empty one: a file in `folder`, or a database in the server that `DATABASE_URL` names."""
    server = urlsplit(os.environ.get("DATABASE_URL", ""))
    if not server.scheme.startswith("postgres"):
        return f"sqlite:///{folder / 'db.sqlite3'}"
    name = f"installation_{uuid.uuid4().hex}"
    with psycopg.connect(urlunsplit(server._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return urlunsplit(server._replace(path=f"/{name}"))
