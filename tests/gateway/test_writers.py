"""Consoles that write at once: each change is one whole revision, nobody fails, and the log is one chain.

Each writer is a process of its own, as consoles and workers are, over one SQLite file or one PostgreSQL.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.revisions import CHANNEL
from tests.databases import new_on

ROOT = Path(__file__).resolve().parents[2]
WRITERS, CHANGES = 3, 8
WRITER = f"""
import sys, django
django.setup()
from gateway.audit import change_set
from identity.models import Group, User
sys.stdin.readline()
for number in range({CHANGES}):
    with change_set(sys.argv[1], "one of many"):
        group = Group(name=f"{{sys.argv[1]}}-{{number}}")
        group.save()
        Group.objects.get(name="shared").users.add(*User.objects.filter(name=sys.argv[1]))
        shared = Group.objects.get(name="shared")
        shared.description = f"{{int(shared.description or 0) + 1}}"
        shared.save()
"""
READER = f"""
import django
django.setup()
from gateway.models import Change, ChangeSet
from identity.models import Group
assert Group.objects.get(name="shared").description == "{WRITERS * CHANGES}", "no writer overwrote another's"
sets = ChangeSet.objects.filter(message="one of many")
assert sets.count() == {WRITERS * CHANGES}
assert all(each.changes.count() == 2 for each in sets), "each is whole"
"""


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    on_sqlite = request.param == "SQLite"
    url = f"sqlite:///{tmp_path}/db.sqlite3" if on_sqlite else new_on(request.getfixturevalue("server"))
    env = os.environ | {
        "DATABASE_URL": url,
        "POSTERN_STATE_DIR": str(tmp_path / "state"),  # where the end of the audit log is remembered
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": str(ROOT),
    }
    _run(env, "-m", "django", "migrate", "--verbosity", "0")
    setup = "import django; django.setup()\nfrom gateway.audit import change_set\nfrom identity.models import Group\n"
    _run(env, "-c", f'{setup}with change_set("tests", "made"):\n    Group(name="shared").save()')
    return env


def _run(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(120)
def test_consoles_that_write_at_once_wait_for_each_other(env: dict[str, str]) -> None:
    pipes: Any = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, f"w{number}"], env=env, cwd=ROOT, **pipes)
        for number in range(WRITERS)
    ]
    for each in writers:
        each.stdin.write("\n")
        each.stdin.flush()
    for each in writers:
        _, errors = each.communicate(timeout=60)
        assert each.returncode == 0, errors
    _run(env, "-c", READER)
    assert "whole" in _run(env, "-m", "django", "verify-audit")


def test_a_change_set_tells_whoever_listens(server: str, env: dict[str, str]) -> None:
    if env["DATABASE_URL"].startswith("sqlite"):
        _run(env, "-c", "import django; django.setup()\nfrom gateway.revisions import announce\nannounce()")
        return  # nobody can be told, and nothing fails
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        setup = "import django; django.setup()\nfrom gateway.audit import change_set\nfrom identity.models import Group"
        _run(env, "-c", f'{setup}\nwith change_set("tests", "told"):\n    Group(name="New").save()')
        assert [each.channel for each in listener.notifies(timeout=10, stop_after=1)] == [CHANNEL]
