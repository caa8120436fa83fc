"""What is installed from the wheel is whole: it runs from another folder, and without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("postern-*.whl")
    target = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(installed: Path, home: Path, *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "POSTERN_HOME": str(home)}
    command = [sys.executable, "-P", "-m", "console", *arguments]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_console_sets_itself_up(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "init") == f"Keys made: {tmp_path / 'postern.env'}\n"
    assert "First operator: admin" in run(installed, tmp_path, "prepare", "--demo")
    assert {path.name for path in tmp_path.iterdir()} >= {"db.sqlite3", "demo", "postern.env", "static"}
    assert "orders" in run(installed, tmp_path, "export")
    assert "no issues" in run(installed, tmp_path, "check")


def test_it_brings_what_its_pages_need(installed: Path) -> None:
    for folder in ("templates", "static"):
        ours = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()}
        theirs = {p.relative_to(installed / "console" / folder) for p in (installed / "console" / folder).rglob("*")}
        assert ours <= theirs
    scripts = next(installed.glob("postern-*.dist-info")) / "entry_points.txt"
    assert "postern = console.__main__:main" in scripts.read_text()


def test_no_tests_and_no_tools_are_in_it(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} - {"console", "gateway", "identity"} == {
        next(installed.glob("*.dist-info")).name
    }
