"""What is installed from the wheel is whole: it runs from another folder, and without the checkout."""

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity.core.commands import program

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


def attempt(installed: Path, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "POSTERN_HOME": str(home)}
    command = [sys.executable, "-P", "-m", "console", *arguments]
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=50)


def run(installed: Path, home: Path, *arguments: str) -> str:
    done = attempt(installed, home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_console_sets_itself_up(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "init") == f"Keys made: {tmp_path / 'postern.env'}\n"
    assert "First operator: admin" in run(installed, tmp_path, "prepare", "--demo")
    assert {path.name for path in tmp_path.iterdir()} >= {"db.sqlite3", "demo", "postern.env", "static"}
    assert "orders" in run(installed, tmp_path, "export")
    assert "no issues" in run(installed, tmp_path, "check")


def test_it_brings_what_its_pages_need(installed: Path) -> None:
    for folder in ("templates", "static", "locale"):
        ours = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()}
        theirs = {p.relative_to(installed / "console" / folder) for p in (installed / "console" / folder).rglob("*")}
        assert ours <= theirs
    scripts = next(installed.glob("postern-*.dist-info")) / "entry_points.txt"
    assert "postern = console.__main__:main" in scripts.read_text()


def test_no_tests_and_no_tools_are_in_it(installed: Path) -> None:
    assert {path.name for path in installed.iterdir()} - {"console", "gateway", "identity"} == {
        next(installed.glob("*.dist-info")).name
    }


# --- what commands are called ---


def test_an_installed_program_calls_its_commands_as_they_are_installed(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "init")
    done = attempt(installed, tmp_path, "serve")
    assert done.returncode == 1 and "Run: postern prepare" in done.stderr


@pytest.mark.parametrize(
    ("called_as", "in_checkout", "called"),
    [
        pytest.param("manage.py", True, "manage.py", id="in-a-checkout"),
        pytest.param("/srv/venv/bin/postern", True, "postern", id="a-checkout-that-is-installed-too"),
        pytest.param("/opt/postern/bin/postern", False, "postern", id="installed"),
        pytest.param("/opt/postern/bin/gunicorn", False, "postern", id="the-console-s-pages-too"),
        pytest.param(".venv/bin/gunicorn", True, "manage.py", id="the-pages-of-a-checkout"),
    ],
)
def test_how_a_command_is_called(called_as: str, in_checkout: bool, called: str) -> None:
    assert program(called_as, in_checkout) == called


def _strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Those that may be shown: no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def test_no_message_names_a_command_by_hand() -> None:
    """`identity.core.commands` says how one is called here; who asks whether this is a checkout may name the file."""
    known = {"identity/core/commands.py", "console/environment.py", "console/first_run.py",
             "console/management/commands/serve.py"}  # fmt: skip
    found = {
        str(file.relative_to(ROOT))
        for package in ("console", "gateway", "identity")
        for file in (ROOT / package).rglob("*.py")
        if any("manage.py" in str(each.value) for each in _strings(ast.parse(file.read_text())))
    }
    found |= {str(f.relative_to(ROOT)) for f in (ROOT / "templates").rglob("*.html") if "manage.py" in f.read_text()}
    assert found == known
