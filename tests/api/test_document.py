"""docs/api.md: its lines work as they stand against the demo, and its tables are what the code has."""

import json
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import console.api
from console import tokens
from console.demo.seed import seed
from console.models import CONFIRMED, PERMISSIONS, Operator, Role

TEXT = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text()
CODE = Path(console.api.__file__).parent


def rows(head: str) -> list[list[str]]:
    table = TEXT.partition(head)[2].partition("\n\n")[0]
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in table.splitlines() if "`" in line]


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(120)
def test_every_line_works_against_the_demo(live_server: Any, settings: Any, tmp_path: Path) -> None:
    settings.POSTERN_STATE_DIR = tmp_path / "state"
    seed()
    owner = Operator.objects.create_operator("olga", "a password of some words", Role.OWNER)
    _, token = tokens.create(owner, "docs", [*PERMISSIONS, CONFIRMED], timedelta(hours=1), None)
    known = os.environ | {"POSTERN": live_server.url, "TOKEN": token, "NO_PROXY": "*"}
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert len(lines) > 10
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], env=known, cwd=tmp_path, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 0, (line, done.stderr)
        assert json.loads(done.stdout or (tmp_path / "postern.json").read_text()), line


def test_the_codes_are_those_that_there_are() -> None:
    told = {(int(row[0]), row[1]) for row in rows("| status | code |")}
    source = "".join(path.read_text() for path in CODE.glob("*.py"))
    raised = {(int(status), code) for status, code in re.findall(r'Refused\(\s*(\d{3}),\s*"(\w+)"', source)}
    assert raised | {(409, "in_the_way"), (400, "malformed")} == told


def test_the_scopes_are_the_permissions() -> None:
    assert [row[0] for row in rows("| scope | lets |")] == [*PERMISSIONS, CONFIRMED]


def test_the_limit_is_that_of_the_settings(settings: Any) -> None:
    assert f"more than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024**2} MiB" in TEXT
