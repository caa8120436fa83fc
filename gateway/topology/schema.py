"""What entries of each section may hold, as JSON Schema: heard from the readers themselves, and so never out of date.

A reader is run over an entry that notes what it is asked for. All that a reader asks for it asks before `check`, and
there this one ends it: nothing is read of the database, and nothing written.
"""

import contextlib
from collections.abc import Callable
from functools import cache
from typing import Any

from django.db.models import Model

from gateway.topology.document import EntryError
from gateway.topology.entries import KIND_OF, SECTIONS
from gateway.topology.fields import DURATION, Fields
from gateway.topology.rows import Rows
from gateway.topology.sections import READERS
from identity.core.certificates import Certificate
from identity.core.files import Contents
from identity.core.names import NAME_PATTERN

Schema = dict[str, Any]

NAME: Schema = {"type": "string", "pattern": f"^{NAME_PATTERN}$", "maxLength": 255}
KEPT: Schema = {
    "type": "object",
    "properties": {"kept": {"type": "string"}},
    "required": ["kept"],
    "additionalProperties": False,
    "description": "A secret that is stored already, by its fingerprint; the same one is meant when it is sent back.",
}
_PEM: Schema = {"type": "string", "description": "PEM"}
_FILE: Schema = {
    "type": "object",
    "properties": {"file": _PEM, "password": {"type": "string", "writeOnly": True}},
    "additionalProperties": False,
}
_SECONDS: Schema = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{DURATION}$"}],
    "description": "Seconds, or a duration like 500ms, 5s or 2m.",
}


@cache
def schema_of(section: str) -> Schema:
    """Of one entry; its name is no field that is needed where it is known from elsewhere."""
    heard = _Heard()
    with contextlib.suppress(EntryError):
        READERS[section](SECTIONS[section](), heard)
    schema = heard.schema()
    return schema | {"properties": {"name": NAME, **schema["properties"]}}


class _Heard(Fields):
    """An entry of which a reader is told nothing, and that remembers how it asked."""

    def __init__(self) -> None:
        super().__init__("", {"name": ""}, None, Rows())
        self._properties: dict[str, Schema | Callable[[], Schema]] = {}
        self._needed: list[str] = []

    def schema(self) -> Schema:
        """What was heard so far."""
        found: Schema = {"type": "object", "properties": {}, "additionalProperties": False}
        for name, schema in self._properties.items():
            found["properties"][name] = schema() if callable(schema) else schema
        return found | ({"required": list(dict.fromkeys(self._needed))} if self._needed else {})

    def _note(self, name: str, schema: Schema, *, required: bool = False) -> None:
        """What is not needed may be null, which says as much as leaving it out."""
        if required:
            self._needed.append(name)
        elif "type" in schema:
            schema = schema | {"type": [schema["type"], "null"]}
        elif "anyOf" in schema:
            schema = schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
        self._properties.setdefault(name, schema)

    def complain(self, field: str, text: str, missing: tuple[str, str] | None = None) -> None:
        """Nothing is wrong with what says nothing."""

    def check(self) -> None:
        raise EntryError([])

    def given(self, name: str) -> bool:
        return True  # so that what is asked for only then is heard too

    # --- plain values ---

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        self._note(name, {"type": "string"}, required=required)
        return default

    def choice(self, name: str, known: list[str], default: str | None = None) -> str:
        words: list[Any] = list(dict.fromkeys(known))
        words += [float(word) for word in words if word.replace(".", "", 1).isdigit()]
        if default is not None:
            words += [word for word in ("", None) if word not in words]
        self._note(name, {"enum": words}, required=default is None)
        return known[0] if default is None else default

    def boolean(self, name: str, default: bool = False) -> bool:
        self._note(name, {"type": "boolean"})
        return default

    def optional_boolean(self, name: str) -> bool | None:
        self._note(name, {"type": "boolean"})
        return None

    def number(self, name: str, default: int) -> int:
        self._note(name, {"type": "integer", "minimum": 0})
        return default

    def seconds(self, name: str, default: float) -> float:
        self._note(name, _SECONDS)
        return default

    def moment(self, name: str) -> None:
        self._note(name, {"type": "string", "description": "ISO 8601: 2027-03-31 or 2027-03-31T22:00:00Z"})

    def texts(self, name: str) -> list[str]:
        self._note(name, {"type": "array", "items": {"type": "string"}})
        return []

    def mapping(self, name: str) -> dict[str, Any]:
        self._note(name, {"type": "object"})
        return {"": ""}  # not empty: a reader may take that for a word of its own

    # --- nested entries ---

    def _within(self, name: str, schema: Callable[[Schema], Schema]) -> "_Heard":
        """A nested entry; its own schema, of which `schema` makes the field's, is there once it has been read."""
        part = _Heard()
        self._properties[name] = lambda: schema(part.schema())
        return part

    def part(self, name: str) -> "Fields":
        return self._within(name, lambda entry: entry | {"type": ["object", "null"]})

    def parts(self, name: str) -> list["Fields"]:
        return [self._within(name, lambda entry: {"type": ["array", "null"], "items": entry})]

    # --- references ---

    def reference(self, name: str, model: type[Any], *, required: bool = False) -> Any:
        self._note(name, {"type": "string", "description": _named(model)}, required=required)

    def references(self, name: str, model: type[Any]) -> list[Any]:
        self._note(name, {"type": "array", "items": {"type": "string"}, "description": f"{_named(model)}, several"})
        return []

    def find(self, name: str, value: str, *models: type[Any]) -> Any:
        return None

    # --- files and secrets ---

    def secret(self, name: str) -> str | None:
        self._note(name, {"anyOf": [{"type": "string", "writeOnly": True}, KEPT]})
        return None

    def private_key(self, name: str) -> bytes | None:
        self._note(name, {"anyOf": [{"type": "string", "writeOnly": True, "description": "PEM"}, KEPT]})
        return None

    def certificates(self, name: str, *, required: bool = True) -> list[Certificate]:
        self._note(name, _files(_PEM, _FILE), required=required)
        return []

    def leaf(self, name: str, *, required: bool = True) -> bytes:
        self._note(name, _files(_PEM, _FILE), required=required)
        return b""

    def contents(self, name: str, password: str | None = None, *, keys: bool = False) -> list[Contents]:
        self._note(name, _files(_PEM, _FILE), required=not keys)
        return []

    def files(self, name: str, limit: int) -> list[bytes]:
        self._note(name, _files(_PEM))
        return []

    def parts_among(self, name: str) -> list["Fields"]:
        return [self._within(name, lambda entry: {"anyOf": [*_files(_PEM, entry)["anyOf"], {"type": "null"}]})]


def _named(model: type[Model]) -> str:
    return f"Name of one of /{KIND_OF[model]}/"


def _files(*items: Schema) -> Schema:
    return {"anyOf": [*items, {"type": "array", "items": {"anyOf": list(items)}}]}
