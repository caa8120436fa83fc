"""One check of a decision: what was looked at, what it was compared with, what came of it.

The hot path makes steps and nobody reads them most of the time: `found` and `against` are texts, or a format
with its arguments, which becomes a text when somebody looks.
"""

from typing import NamedTuple

Words = str | tuple[object, ...]


class Step(NamedTuple):
    """`check` names it; `found` and `against`: text, or (format, argument, …) as for str.format."""

    check: str
    passed: bool
    found: Words
    against: Words = ""


def words(value: Words) -> str:
    if isinstance(value, str):
        return value
    pattern, *arguments = value
    return str(pattern).format(*(_listed(argument) for argument in arguments))


def _listed(argument: object) -> object:
    if isinstance(argument, (tuple, list, set, frozenset)):
        return ", ".join(sorted(map(str, argument))) or "none"
    return argument
