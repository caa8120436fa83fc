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
from console import jobs, tokens
from console.demo.seed import folder, seed
from console.models import CONFIRMED, PERMISSIONS, Operator, Role
from tests.console.test_keystores import answered
from tests.factories import partner_ca, server_ca
from tests.minting import mint

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
    (tmp_path / "newcomer.pem").write_text((folder() / "newcomer.pem").read_text())
    (tmp_path / "renewed.pem").write_text(mint("CN=newcomer,O=Partner Six", partner_ca()).pem)
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    functions = [line for line in lines if re.match(r"\w+\(\) \{", line)]
    assert (len(functions), len(lines) > 30) == (2, True)
    for line in lines:
        if line in functions:
            continue
        script = "\n".join(["set -o pipefail", *functions, line])
        done = subprocess.run(
            ["bash", "-c", script], env=known, cwd=tmp_path, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == 0, (line, done.stderr)
        written = re.search(r"> (\S+)$", line)
        told = (tmp_path / written[1]).read_text() if written else done.stdout.decode()
        assert told if written and not written[1].endswith(".json") else json.loads(told), line
        answer_what_waits(tmp_path)


def answer_what_waits(place: Path) -> None:
    """As a worker and an authority would."""
    jobs.work()
    request, answer = place / "edge-server.csr", place / "answer.pem"
    if request.exists() and not answer.exists():
        answer.write_text(answered(request.read_text(), server_ca()))


def test_the_codes_are_those_that_there_are() -> None:
    told = {(int(row[0]), row[1]) for row in rows("| status | code |")}
    source = "".join(path.read_text() for path in CODE.glob("*.py"))
    raised = {(int(status), code) for status, code in re.findall(r'Refused\(\s*(\d{3}),\s*"(\w+)"', source)}
    assert raised | {(409, "in_the_way"), (400, "malformed")} == told


def test_the_scopes_are_the_permissions() -> None:
    assert [row[0] for row in rows("| scope | lets |")] == [*PERMISSIONS, CONFIRMED]


def test_the_limit_is_that_of_the_settings(settings: Any) -> None:
    assert f"more than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024**2} MiB" in TEXT
