"""What the documents say, held against the code: what one of them lacks is found here."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.utils import timezone

from console import metrics as console_metrics
from gateway.core.limits import Limits
from gateway.core.reasons import REASONS
from gateway.relay import metrics
from gateway.topology import sections

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def rows(text: str) -> list[list[str]]:
    """The cells of every table row in Markdown text."""
    return [
        [cell.strip() for cell in line.strip("|\n").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- reasons ---


def test_every_reason_stands_in_the_table_as_the_code_has_it() -> None:
    found = {names(row[0])[0]: row[1:] for row in rows((DOCS / "decisions.md").read_text()) if names(row[0])}
    assert found == {code.value: [str(info.status), info.words, info.remedy] for code, info in REASONS.items()}


# --- settings ---


def settings_read() -> set[str]:
    """Names of the environment that settings and commands read."""
    sources = [ROOT / "console" / "settings.py", *(ROOT / "console" / "management" / "commands").glob("*.py")]
    pattern = re.compile(r'(?:env\.\w+|FileAwareEnv\(\)\.\w+|_required)\(\s*"([A-Z_]+)"')
    return {name for path in sources for name in pattern.findall(path.read_text())}


def test_every_setting_is_documented_and_no_other() -> None:
    documented = {name for row in rows((DOCS / "settings.md").read_text()) for name in names(row[0])}
    assert documented == settings_read()


# --- fields of the configuration file ---


def sections_documented() -> dict[str, set[str]]:
    """Section → the fields in its tables."""
    parts = re.split(r"^## (\w+)$", (DOCS / "configuration.md").read_text(), flags=re.MULTILINE)
    return {
        section: {name for row in rows(text) for name in names(row[0])}
        for section, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def fields_read(section: str) -> set[str]:
    """Names that the section's reader asks an entry for, as the source has them: `fields.text("path")`."""
    tree = ast.parse(Path(sections.__file__).read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return fields_read_by(functions[sections.READERS[section].__name__], "", functions)


def fields_read_by(function: ast.FunctionDef, within: str, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """Those of one function, and of the functions that it hands its fields, or a part of them, on to."""
    parts = {"fields": within, "tls": "tls.", "asserts": "may_assert.", "renewal": "next."}
    found = set()
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=of)), args=[ast.Constant(value=name), *_]) if (
                of in parts
            ):
                found.add(f"{parts[of]}{name}")
            case ast.Call(func=ast.Name(id=helper), args=args) if helper in functions:
                for argument in args:
                    if isinstance(argument, ast.Name) and argument.id in parts:
                        found |= fields_read_by(functions[helper], parts[argument.id], functions)
    return found


@pytest.mark.parametrize("section", list(sections.READERS))
def test_every_field_of_a_section_is_documented_and_no_other(section: str) -> None:
    documented = sections_documented()[section]
    if section == "ports":
        limits = {field.name for field in fields(Limits)}
        assert limits <= documented
        documented -= limits - {"connections"}
    read = {name for name in fields_read(section) if name not in ("tls", "may_assert", "next")}
    assert documented == read


def test_the_limits_defaults_are_as_documented() -> None:
    table = (DOCS / "configuration.md").read_text().partition("| limit |")[2].partition("\n\n")[0]
    found = {names(row[0])[0]: float(row[1]) for row in rows(table) if names(row[0])}
    assert found == {field.name: float(field.default) for field in fields(Limits)}


# --- links and commands ---


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_commands_that_are_named_exist(path: Path) -> None:
    commands = {file.stem for file in ROOT.glob("*/management/commands/*.py")}
    named = set(re.findall(r"manage\.py ([a-z][a-z-]+)", path.read_text()))
    assert named <= commands | {"new-key", "migrate", "collectstatic"}


# --- alerts ---

STATE = {
    "in_flight": 0, "ports": [], "tunnels": [], "revision": 1, "configuration": {"age": 1.0, "linked": True}
}  # fmt: skip
OF_PROMETHEUS = {"up", "instance", "job", "le"}


def labels_told() -> set[str]:
    source = (ROOT / "gateway/relay/metrics.py").read_text()
    lists = re.findall(r"(?:labels=|ENDS_LABELS = )[\[(]([^])]*)", source)
    return {name for each in lists for name in re.findall(r'"(\w+)"', each)}


@pytest.mark.django_db
def test_what_alerts_ask_for_is_told() -> None:
    """Names and labels that a node or the console gives, were there nothing to count."""
    told = metrics.exposition(metrics.Metrics(), STATE, None) + console_metrics.exposition(timezone.now())
    known = set(re.findall(r"^# TYPE (\w+)", told.decode(), re.M)) | OF_PROMETHEUS
    alerts = (DOCS / "operating.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    rules = re.findall(r"expr: (.*)", alerts)
    assert len(rules) == alerts.count("- alert:") > 5
    for rule in rules:
        plain = re.sub(r'"[^"]*"', "", rule)
        asked = {name.removesuffix("_bucket") for name in re.findall(r"\b(?:postern_\w+|up)\b", plain)}
        assert asked and asked <= known, rule
        by = {name.strip() for each in re.findall(r"by \(([^)]*)\)", rule) for name in each.split(",")}
        assert by | set(re.findall(r"(\w+)!?=~?\"", rule)) <= labels_told() | OF_PROMETHEUS, rule
