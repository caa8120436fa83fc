"""A configuration file: text → sections of entries, with what is wrong in it."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from gateway.topology.entries import SECTIONS

VERSION = 1
MAX_FILE = 512 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: `ports[ext].registration_port`. `text` says what would be right."""

    section: str
    entry: str
    field: str
    text: str

    def __str__(self) -> str:
        where = self.section + (f"[{self.entry}]" if self.entry else "") + (f".{self.field}" if self.field else "")
        return f"{where}: {self.text}" if where else self.text


class TopologyError(Exception):
    """Nothing was changed. `problems`: all that was found, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Topology:
    """`sections`: section → entries in the file's order. `folder`: where relative paths start."""

    sections: dict[str, list[dict[str, Any]]]
    folder: Path


class _Loader(yaml.SafeLoader):
    """YAML without a key given twice: the second would silently win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def suggestion(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f'; did you mean "{close[0]}"?' if close else ""


def load(text: str, folder: Path) -> Topology:
    """Parse the file's text.

    Raises:
        TopologyError: no YAML, another version, unknown sections, entries without a name or with one twice.
    """
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise TopologyError([Problem("", "", "", f"This is not YAML: {_located(error)}")]) from error
    if not isinstance(content, dict):
        raise TopologyError([Problem("", "", "", "The file holds no sections; it begins with version: 1.")])
    problems: list[Problem] = []
    if content.get("version") != VERSION:
        problems.append(Problem("version", "", "", f"is {content.get('version')!r}; version: {VERSION} is understood"))
    sections: dict[str, list[dict[str, Any]]] = {}
    for section, entries in content.items():
        if section == "version":
            continue
        if section not in SECTIONS:
            hint = suggestion(str(section), list(SECTIONS))
            problems.append(Problem(str(section), "", "", f"there is no such section{hint}"))
            continue
        sections[section] = _entries(section, entries, problems)
    if problems:
        raise TopologyError(problems)
    return Topology(sections, folder)


def _entries(section: str, entries: Any, problems: list[Problem]) -> list[dict[str, Any]]:
    if entries is None:
        return []
    if not isinstance(entries, list):
        problems.append(Problem(section, "", "", "must be a list of entries, each with a name"))
        return []
    found: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            problems.append(Problem(section, f"#{number}", "name", "every entry needs a name, a text"))
        elif entry["name"] in found:
            problems.append(Problem(section, entry["name"], "name", "is given twice; keep one of the entries"))
        else:
            found[entry["name"]] = entry
    return list(found.values())


def _located(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)
