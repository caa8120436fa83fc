"""Translations are whole: every message of the pages is gathered, translated, compiled, and keeps its placeholders."""

import ast
import gettext
import os
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = sorted(path.name for path in (ROOT / "locale").iterdir())


class Message(NamedTuple):
    singular: str
    plural: str
    translations: list[str]
    fuzzy: bool


def messages(path: Path) -> Iterator[Message]:
    """Of a .po file, but for its head."""
    for block in path.read_text().split("\n\n"):
        found = {
            name: "".join(ast.literal_eval(line) for line in text.splitlines())
            for name, text in re.findall(r'^(msg\w+(?:\[\d\])?) ((?:".*"\n?)+)', block, re.MULTILINE)
        }
        if found.get("msgid"):
            told = [text for name, text in sorted(found.items()) if name.startswith("msgstr")]
            yield Message(found["msgid"], found.get("msgid_plural", ""), told, "#, fuzzy" in block)


def placeholders(text: str) -> set[str]:
    """`{name}`, `{name!r}`, `%(name)s`, and the elements that stand in it."""
    braces = set() if "%(" in text else {f"{name}!{how}:{form}" for _, name, form, how in string.Formatter().parse(text)
                                         if name is not None}  # fmt: skip
    return braces | set(re.findall(r"%\(\w+\)s", text)) | set(re.findall(r"</?[a-z]+", text))


def po(language: str) -> Path:
    return ROOT / "locale" / language / "LC_MESSAGES" / "django.po"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_message_is_missing_or_guessed(language: str) -> None:
    found = list(messages(po(language)))
    assert len(found) > 1000
    assert not [each.singular for each in found if each.fuzzy or not all(each.translations)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_and_elements_are_kept(language: str) -> None:
    """A plural may leave the number out; nothing else, and none may come in."""
    wrong = []
    for each in messages(po(language)):
        wanted = placeholders(each.plural or each.singular)
        wrong += [told for told in each.translations if placeholders(told) != wanted]
        wrong += [told for told in each.translations if (told[0] == " ") != (each.singular[0] == " ")]
    assert not wrong


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_runs_is_what_was_written(language: str) -> None:
    with po(language).with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for each in messages(po(language)):
        told = [compiled.ngettext(each.singular, each.plural, n) for n in (1, 2)] if each.plural else [
            compiled.gettext(each.singular)
        ]  # fmt: skip
        assert told == each.translations


@pytest.mark.parametrize("language", LANGUAGES)
def test_translators_are_told_of_every_message_and_of_no_other(language: str, tmp_path: Path) -> None:
    """`make messages`, in a copy, changes nothing."""
    for folder in ("console", "gateway", "identity", "templates", "locale", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", tmp_path)
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "console.settings", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "tools.messages"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    gathered = {(each.singular, each.plural) for each in messages(tmp_path / po(language).relative_to(ROOT))}
    known = {(each.singular, each.plural) for each in messages(po(language))}
    assert gathered == known, "run: make messages"
