"""Rows → file. Holds no secret; applied again it changes nothing."""

from typing import Any

import yaml

from gateway.topology.document import VERSION
from gateway.topology.entries import SECTIONS, entry_of, stored


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Text of several lines as a block, so that certificates can be read and compared."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def export() -> str:
    """The whole configuration but for what is predefined, in a stable order."""
    return yaml.dump(content(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def content() -> dict[str, Any]:
    """The same before it is written down."""
    found: dict[str, Any] = {"version": VERSION}
    for section, model in SECTIONS.items():
        rows = stored(model).order_by("name")
        entries = [entry_of(row) for row in rows if not getattr(row, "predefined", False)]
        if entries:
            found[section] = entries
    return found
