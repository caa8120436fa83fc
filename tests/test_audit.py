"""What is said of components: what could not be asked about is never called free of holes."""

from pathlib import Path
from typing import Any

import pytest

from tools import audit
from tools.audit import CLEAN, HOLES, UNASKED, verdict

SOUND = {"name": "sound", "version": "1", "vulns": []}
HOLED = {"name": "holed", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
OPEN = {"name": "open", "version": "2", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
SKIPPED = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("known", "status", "said"),
    [
        pytest.param([SOUND], CLEAN, "1 components asked about: no hole is known.", id="none"),
        pytest.param([SOUND, HOLED], HOLES, "holed 2: PYSEC-1, mended in 3", id="one"),
        pytest.param([OPEN], HOLES, "open 2: PYSEC-2, mended in no version yet", id="not-mended"),
        pytest.param([SKIPPED, SKIPPED], UNASKED, "Nothing was asked: PyPI does not answer from here.", id="nobody"),
        pytest.param([], UNASKED, "Nothing was asked: PyPI does not answer from here.", id="nothing"),
        pytest.param([SKIPPED, SOUND], CLEAN, "Not known there, and so not asked about: unknown", id="some"),
    ],
)
def test_what_could_not_be_asked_about_is_told_apart(known: list[dict[str, Any]], status: int, said: str) -> None:
    lines, found = verdict({"dependencies": known, "fixes": []})
    assert (found, said in lines) == (status, True)


@pytest.mark.parametrize(("options", "status"), [([], UNASKED), (["--if-reachable"], CLEAN)])
def test_without_the_network_it_says_so(
    options: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    program = tmp_path / "bin" / "pip-audit"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'a long trace' >&2\necho 'ConnectionError: no route' >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(audit, "PLACE", tmp_path)
    assert audit.main(options) == status
    assert capsys.readouterr().out == "Nothing was asked: ConnectionError: no route\n"
