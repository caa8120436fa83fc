"""A configuration file: text → sections of entries, with what is wrong in it."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from gateway.topology.entries import SECTIONS

VERSION = 1
MAX_DEPTH = 20  # of nesting; a configuration has six, and the parser's own stack is no place to find out


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: `ports[ext].registration_port`. `text` says what would be right.

    `missing`: section and name of what the field refers to and is not stored; it may be wrong itself.
    """

    section: str
    entry: str
    field: str
    text: str
    missing: tuple[str, str] | None = None

    def __str__(self) -> str:
        where = self.section + (f"[{self.entry}]" if self.entry else "") + (f".{self.field}" if self.field else "")
        told = f"{where}: {self.text}" if where else self.text
        return " ".join(told.split())  # one problem, one line


class EntryError(Exception):
    """One entry cannot be stored. `problems`: all that was found in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class TopologyError(Exception):
    """Nothing was changed. `problems`: all that was found, in the file's order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Topology:
    """`sections`: section → entries in the file's order. `folder`: where relative paths start; None: no paths."""

    sections: dict[str, list[dict[str, Any]]]
    folder: Path | None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
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
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def suggestion(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f'; did you mean "{close[0]}"?' if close else ""


def load(text: str, folder: Path) -> Topology:
    """Parse the file's text.

    Raises:
        TopologyError: no YAML, another version, unknown sections, entries without a name or with one twice.
    """
    return of_content(_parse(text), folder)


def of_content(content: Any, folder: Path | None) -> Topology:
    """What was parsed already, from a file or from elsewhere. Raises TopologyError, as `load`."""
    if not isinstance(content, dict):
        raise TopologyError([Problem("", "", "", "The file holds no sections; it begins with version: 1.")])
    problems: list[Problem] = []
    if content.get("version") != VERSION or isinstance(content["version"], bool):  # True is 1 too
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


def _parse(text: str) -> Any:
    try:
        depth = 0
        event: Any
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                words = f"This is no configuration: line {event.start_mark.line + 1} is nested too deeply."
                raise TopologyError([Problem("", "", "", words)])
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise TopologyError([Problem("", "", "", f"This is not YAML: {_located(error)}")]) from error
    except ValueError as error:  # a date that is none, a number of too many digits
        raise TopologyError([Problem("", "", "", "A value in the file cannot be read; put it in quotes.")]) from error


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
    """Where it broke, and how. What the parser quotes from the file may be a secret, and is not told."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1}: {error.reason}"
    mark, words = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "it cannot be parsed"
    if isinstance(error, yaml.composer.ComposerError) and "alias" in words:
        words = "a text that begins with * must be in quotes"
    elif "tag" in words:
        words = "a text that begins with ! must be in quotes"
    return f"line {mark.line + 1}, column {mark.column + 1}: {words}" if mark else words
