"""Fields of one entry → values, each with its own word on what is wrong."""

import re
from pathlib import Path
from typing import Any, TypeVar

from django.db.models import Model

from gateway.topology.document import Problem, suggestion
from identity.core import certificates
from identity.core.certificates import Certificate, CertificateError

M = TypeVar("M", bound=Model)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class FieldError(ValueError):
    """`field` names it; the message says what is wrong and what would be right."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class Fields:
    """One entry, read field by field. `finish` complains of what nobody asked for."""

    def __init__(self, entry: dict[str, Any], folder: Path, prefix: str = "") -> None:
        self._entry, self._folder, self._prefix = entry, folder, prefix
        self._read: set[str] = set()

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._entry.get(name)

    def _error(self, name: str, text: str) -> FieldError:
        return FieldError(self._prefix + name, text)

    def given(self, name: str) -> bool:
        return self._entry.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._error(name, f"must be a text, not {_kind(value)}; put it in quotes")
        return value

    def choice(self, name: str, known: list[str], default: str | None = None) -> str:
        value = self.text(name) or default
        if value is None:
            raise self._error(name, f"is missing; one of {', '.join(known)} is needed")
        if value not in known:
            raise self._error(
                name, f'there is no "{value}"{suggestion(value, known)}; one of {", ".join(known)} is needed'
            )
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._error(name, "must be true or false")
        return value

    def optional_boolean(self, name: str) -> bool | None:
        return self.boolean(name) if self.given(name) else self._take(name)

    def number(self, name: str, default: int) -> int:
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._error(name, "must be a whole number, 0 or more")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self._error(name, "must be a duration, like 500ms, 5s or 2m")
        return float(match[1]) * _UNITS[match[2]]

    def texts(self, name: str) -> list[str]:
        value = self._take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._error(name, "must be a list of texts")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._take(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._error(name, "must be fields with values")
        return value

    def part(self, name: str) -> "Fields":
        """A nested entry, whose fields are told of as `name.field`."""
        return Fields(self.mapping(name), self._folder, f"{self._prefix}{name}.")

    def parts(self, name: str) -> list["Fields"]:
        value = self._take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._error(name, "must be a list of entries")
        return [Fields(item, self._folder, f"{self._prefix}{name}[{i}].") for i, item in enumerate(value)]

    def reference(self, name: str, model: type[M], *, required: bool = False) -> M | None:
        """The row that the field names. Raises FieldError where there is none."""
        value = self.text(name)
        if not value:
            if required:
                raise self._error(name, f"is missing; name a {model._meta.verbose_name}")
            return None
        return self._find(name, model, value)

    def references(self, name: str, model: type[M]) -> list[M]:
        return [self._find(name, model, value) for value in self.texts(name)]

    def _find(self, name: str, model: type[M], value: str) -> M:
        row = model._default_manager.filter(name=value).first()
        if row is None:
            known = list(model._default_manager.values_list("name", flat=True)[:1000])
            raise self._error(name, f'there is no {model._meta.verbose_name} "{value}"{suggestion(value, known)}')
        return row

    def secret(self, name: str) -> "str | Kept | None":
        """A secret in the clear, or `{kept: fingerprint}`."""
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, dict) and set(value) == {"kept"} and isinstance(value["kept"], str):
            return Kept(value["kept"])
        if not isinstance(value, str):
            raise self._error(name, "must be a text, or {kept: …} as an export writes it")
        return value

    def pem(self, name: str, value: Any = None) -> bytes | None:
        """The bytes of a file, or of inline PEM."""
        value = self._take(name) if value is None else value
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._error(name, "must be a path, or PEM")
        if value.lstrip().startswith("-----BEGIN"):
            return value.encode()
        path = self._folder / value
        try:
            if path.stat().st_size > certificates.MAX_FILE:
                raise self._error(name, f"{value} is larger than {certificates.MAX_FILE:,} bytes")
            return path.read_bytes()
        except OSError as error:
            raise self._error(name, f"{value} cannot be read: {error.strerror}") from error

    def certificates(self, name: str, *, required: bool = True) -> list[Certificate]:
        """All certificates of one file, or of a list of files."""
        value = self._take(name)
        values = value if isinstance(value, list) else [value] if value is not None else []
        found: list[Certificate] = []
        for item in values:
            data = self.pem(name, item)
            try:
                found += certificates.from_file(data or b"")
            except CertificateError as error:
                raise self._error(name, f"{_source(item)}{error}") from error
        if required and not found:
            raise self._error(name, "is missing; give a file, or PEM")
        return found

    def files(self, name: str) -> list[bytes]:
        value = self._take(name)
        values = value if isinstance(value, list) else [value] if value is not None else []
        return [data for item in values if (data := self.pem(name, item)) is not None]

    def finish(self) -> list[FieldError]:
        """One for each field that nobody asked for."""
        known = sorted(self._read | {"name"})
        return [
            FieldError(self._prefix + str(name), f"there is no such field{suggestion(str(name), known)}")
            for name in self._entry
            if name not in self._read and name != "name"
        ]


class Kept:
    """Stands for a secret that is stored already. `fingerprint`: of which one."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


def _kind(value: object) -> str:
    return {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "fields"}.get(
        type(value), type(value).__name__
    )


def _source(item: object) -> str:
    return "" if not isinstance(item, str) or item.lstrip().startswith("-----BEGIN") else f"{item}: "


def problem(section: str, entry: str, error: FieldError) -> Problem:
    return Problem(section, entry, error.field, str(error))
