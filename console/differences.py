"""An object before and after → what differs, field by field, in lines that people can compare."""

import difflib
from dataclasses import dataclass
from typing import Any, Literal

from django.utils.translation import gettext

from console.words import grouped
from identity.core import files
from identity.core.certificates import CertificateError

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """`mark`: "-" was there, "+" is there now, " " both."""

    mark: Literal["-", "+", " "]
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    lines: list[Line]

    @property
    def changed(self) -> bool:
        return any(line.mark != " " for line in self.lines)


def differences(before: Entry | None, after: Entry | None) -> list[Field]:
    """Every field of either, in the order of the configuration file."""
    old, new = before or {}, after or {}
    names = list(dict.fromkeys([*new, *old]))
    return [Field(name, _compare(_lines(old.get(name)), _lines(new.get(name)))) for name in names]


def _compare(old: list[str], new: list[str]) -> list[Line]:
    found: list[Line] = []
    for tag, i, j, k, n in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found += [Line(" ", text) for text in old[i:j]]
        else:
            found += [Line("-", text) for text in old[i:j]] + [Line("+", text) for text in new[k:n]]
    return found


def _lines(value: Any) -> list[str]:
    """A value of an entry as lines; certificates as what they are known by, secrets as their fingerprint."""
    match value:
        case None:
            return []
        case bool():
            return ["yes" if value else "no"]
        case {"kept": "stored"}:
            return [gettext("a secret")]
        case {"kept": "another than before"}:
            return [gettext("another secret")]
        case {"kept": str(fingerprint), **rest} if not rest:
            return [gettext("a secret, fingerprint {fingerprint}").format(fingerprint=fingerprint[:12])]
        case dict():
            return [line for key, item in value.items() for line in _labelled(key, item)]
        case list():
            return [line for item in value for line in _item(item)]
        case str() if value.startswith("-----BEGIN CERTIFICATE"):
            return _certificates(value)
        case str() if value.startswith("-----BEGIN X509 CRL"):
            return [gettext("a revocation list of {count} characters").format(count=grouped(len(value)))]
    return str(value).splitlines() or [""]


def _labelled(key: str, item: Any) -> list[str]:
    lines = _lines(item)
    if isinstance(item, list) and len(lines) != 1:
        return [f"{key}:", *(f"  {line}" for line in lines)] if lines else []
    return [f"{key}: {lines[0]}"] if len(lines) == 1 else [f"{key}:", *(f"  {line}" for line in lines)]


def _item(item: Any) -> list[str]:
    """An item of a list: a mapping in it (`connect`) stands on one line."""
    return [", ".join(_lines(item))] if isinstance(item, dict) else _lines(item)


def _certificates(pem: str) -> list[str]:
    try:
        chain = files.certificates_from(pem.encode())
    except CertificateError:
        return pem.splitlines()
    return [f"{each.title}, SHA-256 {each.sha256[:16]}…" for each in chain]
