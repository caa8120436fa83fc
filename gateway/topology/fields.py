"""Fields of one entry → values. What is wrong with any of them is collected, so that one run tells it all."""

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from django.db.models import Model

from gateway.topology.document import EntryError, Problem, suggestion
from gateway.topology.entries import KIND_OF
from gateway.topology.rows import Rows
from identity.core import files
from identity.core.certificates import Certificate, CertificateError
from identity.core.files import Contents

M = TypeVar("M", bound=Model)

DURATION = r"(\d{1,12}(?:\.\d{1,20})?)(ms|s|m|h|d)"
_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_LONGEST_PATH = 1024  # characters; what is longer is some other text in a path's place


class Kept:
    """Stands for a secret that is stored already. `fingerprint`: of which one."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


class Fields:
    """One entry, read field by field; `check` before anything is written.

    A field that is wrong is noted in `problems`, and its default returned in its place; what is right and should be
    known all the same is in `remarks`.
    """

    def __init__(self, section: str, entry: dict[str, Any], folder: Path | None, rows: Rows) -> None:
        """`folder`: where relative paths start; None: who wrote the entry has no files here, and names none.

        `rows`: where references are looked up.
        """
        self.problems: list[Problem] = []
        self.remarks: list[str] = []
        self._section, self._name = section, entry["name"]
        self._folder, self._rows = folder, rows
        self._entry, self._prefix = entry, ""
        self._known = {"name"}
        self._parts: list[Fields] = []

    def _nested(self, entry: dict[str, Any], prefix: str) -> "Fields":
        part = Fields.__new__(Fields)
        part.problems, part.remarks = self.problems, self.remarks
        part._section, part._name = self._section, self._name
        part._folder, part._rows = self._folder, self._rows
        part._entry, part._prefix = entry, self._prefix + prefix
        part._known, part._parts = set(), []
        self._parts.append(part)
        return part

    # --- what is wrong ---

    def complain(self, field: str, text: str, missing: tuple[str, str] | None = None) -> None:
        """`missing`: section and name of what the field refers to and is not stored."""
        self.problems.append(Problem(self._section, self._name, self._prefix + field, text, missing))

    def _remark(self, field: str, text: str) -> None:
        self.remarks.append(f"{self._section}[{self._name}].{self._prefix}{field}: {text}")

    def error(self, field: str, text: str) -> EntryError:
        """To be raised where nothing can be read after it."""
        self.complain(field, text)
        return EntryError(self.problems)

    def check(self) -> None:
        """Raises EntryError with all that was found, fields that nobody asked for among it."""
        self._find_unknown()
        if self.problems:
            raise EntryError(self.problems)

    def _find_unknown(self) -> None:
        for name in self._entry:
            if name not in self._known:
                self.complain(str(name), f"there is no such field{suggestion(str(name), sorted(self._known))}")
        for part in self._parts:
            part._find_unknown()

    # --- plain values ---

    def _take(self, name: str) -> Any:
        self._known.add(name)
        return self._entry.get(name)

    def given(self, name: str) -> bool:
        return self._take(name) is not None

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        value = self._take(name)
        if value is None:
            if required:
                self.complain(name, "is missing")
            return default
        if not isinstance(value, str):
            self.complain(name, f"must be a text, not {_kind(value)}; put it in quotes")
            return default
        return value

    def choice(self, name: str, known: list[str], default: str | None = None) -> str:
        """One of `known`; needed where there is no default."""
        fallback = known[0] if default is None else default
        value = self._take(name)
        if value is None or value == "":
            if default is None:
                self.complain(name, f"is missing; one of {_listed(known)} is needed")
            return fallback
        if isinstance(value, float):  # a version number without quotes
            value = str(value)
        if value not in known:
            hint = suggestion(value, known) if isinstance(value, str) else ""
            self.complain(name, f'there is no "{value}"{hint}; one of {_listed(known)} is needed')
            return fallback
        return str(value)

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.complain(name, "must be true or false")
            return default
        return value

    def optional_boolean(self, name: str) -> bool | None:
        return self.boolean(name) if self._take(name) is not None else None

    def number(self, name: str, default: int) -> int:
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.complain(name, "must be a whole number, 0 or more")
            return default
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
            return float(value)
        match = re.fullmatch(DURATION, value, re.ASCII) if isinstance(value, str) else None
        if match is None:
            self.complain(name, "must be a duration, like 500ms, 5s or 2m")
            return default
        return float(Decimal(match[1]) * _UNITS[match[2]])

    def moment(self, name: str) -> datetime | None:
        """A point in time; a date alone is its beginning, and what names no zone is UTC."""
        value = self._take(name)
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            found = None
        if isinstance(found, date) and not isinstance(found, datetime):
            found = datetime(found.year, found.month, found.day)
        if not isinstance(found, datetime):
            self.complain(name, "must be a date or a time, like 2027-03-31 or 2027-03-31T22:00:00Z")
            return None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)

    def texts(self, name: str) -> list[str]:
        value = self._take(name)
        if value is None:
            return []
        if isinstance(value, str):
            self.complain(name, f"must be a list: [{value}]")
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.complain(name, "must be a list of texts")
            return []
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._take(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.complain(name, "must be fields with values")
            return {}
        return value

    # --- nested entries ---

    def part(self, name: str) -> "Fields":
        """A nested entry, whose fields are told of as `name.field`."""
        return self._nested(self.mapping(name), f"{name}.")

    def parts(self, name: str) -> list["Fields"]:
        """A list of nested entries, told of as `name[0].field`."""
        value = self._take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.complain(name, "must be a list of entries")
            return []
        return [self._nested(item, f"{name}[{number}].") for number, item in enumerate(value)]

    # --- references ---

    def reference(self, name: str, model: type[M], *, required: bool = False) -> M | None:
        """The row that the field names."""
        value = self.text(name)
        if value:
            return self.find(name, value, model)
        if required and not self.given(name):
            self.complain(name, f"is missing; name {_article(model)}")
        return None

    def references(self, name: str, model: type[M]) -> list[M]:
        found = (self.find(name, value, model) for value in self.texts(name))
        return [row for row in found if row is not None]

    def find(self, name: str, value: str, *models: type[M]) -> M | None:
        """The row called `value`, of any of `models`; noted against the field where there is none."""
        for model in models:
            row = self._rows.get(model, value)
            if row is not None:
                return row
        known = [each for model in models for each in model._default_manager.values_list("name", flat=True)[:1000]]
        nouns = " or ".join(str(model._meta.verbose_name) for model in models)
        self.complain(
            name, f'there is no {nouns} "{value}"{suggestion(value, known)}', missing=(KIND_OF[models[0]], value)
        )
        return None

    # --- files and secrets: never quoted in a problem ---

    def secret(self, name: str) -> str | Kept | None:
        """A secret in the clear, or `{kept: fingerprint}`."""
        value = self._take(name)
        if value is None or value == "":
            return None
        if isinstance(value, dict) and set(value) == {"kept"} and isinstance(value["kept"], str):
            return Kept(value["kept"])
        if not isinstance(value, str):
            self.complain(name, "must be a text in quotes, or {kept: …} as an export writes it")
            return None
        return value

    def private_key(self, name: str) -> bytes | Kept | None:
        """The bytes of a key's file, of inline PEM, or `{kept: fingerprint}`."""
        value = self._take(name)
        if value is None:
            self.complain(name, "is missing; give a file, or PEM")
            return None
        if isinstance(value, dict):
            found = self.secret(name)
            return found if isinstance(found, Kept) else None
        return self._bytes(name, value, files.MAX_FILE, quote=isinstance(value, str) and "." in value)

    def certificates(self, name: str, *, required: bool = True) -> list[Certificate]:
        """All certificates of one file, or of a list of files; empty only where something is wrong, or none needed."""
        before = len(self.problems)
        found = [each for contents in self.contents(name) for each in contents.certificates]
        if not found and len(self.problems) == before and (required or self.given(name)):
            self.complain(name, "is missing; give a file, or PEM")
        return found

    def leaf(self, name: str, *, required: bool = True) -> bytes:
        """The DER of the certificate of a file, its issuers left aside; b"" where something is wrong, or none given."""
        if found := self.certificates(name, required=required):
            try:
                return files.in_order(found)[0].der
            except CertificateError as error:
                self.complain(name, str(error))
        return b""

    def contents(self, name: str, password: str | None = None, *, keys: bool = False) -> list[Contents]:
        """What one file holds, or each of a list of them; a PKCS#12 file may come as {file: …, password: …}.

        Args:
            password: of those that come without one of their own.
            keys: whether a private key belongs into them.
        """
        found = []
        for item in self._items(name):
            source, own = self._with_password(name, item)
            data = self._bytes(name, source, files.MAX_FILE) if source is not None else None
            if data is not None:
                try:
                    found.append(files.read(data, own or password, keys=keys))
                    if found[-1].left_out:
                        self._remark(name, f"{_source(source)}it holds a private key too, which was not kept")
                except CertificateError as error:
                    self.complain(name, f"{_source(source)}{error}")
        return found

    def _with_password(self, name: str, item: object) -> tuple[object, str | None]:
        """The file of an item, and its password where it has one; nothing of either is told."""
        if not isinstance(item, dict):
            return item, None
        if set(item) <= {"file", "password"} and all(isinstance(value, str) for value in item.values()):
            return item.get("file", ""), item.get("password")
        self.complain(name, "must be a path, or PEM, or {file: …, password: …} for a PKCS#12 file, both in quotes")
        return None, None

    def files(self, name: str, limit: int) -> list[bytes]:
        """The bytes of one file, or of a list of files, at most `limit` bytes each."""
        found = (self._bytes(name, item, limit) for item in self._items(name) if not isinstance(item, dict))
        return [data for data in found if data is not None]

    def parts_among(self, name: str) -> list["Fields"]:
        """The nested entries of a list that has files beside them; `files` gives those."""
        items = enumerate(self._items(name))
        return [self._nested(item, f"{name}[{number}].") for number, item in items if isinstance(item, dict)]

    def _items(self, name: str) -> list[Any]:
        value = self._take(name)
        return value if isinstance(value, list) else [value] if value is not None else []

    def _bytes(self, name: str, value: object, limit: int, *, quote: bool = True) -> bytes | None:
        """`quote`: whether the path may be told; a key in a path's place must not be."""
        if not isinstance(value, str):
            self.complain(name, f"must be a path, or PEM, not {_kind(value)}")
            return None
        if value.lstrip().startswith("-----BEGIN"):
            return value.encode()
        if self._folder is None:
            self.complain(name, "must be PEM, which begins with -----BEGIN; files of this machine are not read")
            return None
        if len(value) > _LONGEST_PATH or not value.isprintable() or not value:
            self.complain(name, "is neither a path nor PEM, which begins with -----BEGIN")
            return None
        path, told = self._folder / value, value if quote else "the file that it names"
        try:
            if path.exists() and not path.is_file():
                self.complain(name, f"{told} is no file")
            elif path.stat().st_size > limit:
                self.complain(name, f"{told} is larger than {limit:,} bytes")
            else:
                return path.read_bytes()
        except OSError as error:
            self.complain(name, f"{told} cannot be read: {error.strerror}")
        return None


def _listed(known: list[str]) -> str:
    return ", ".join(word for word in known if word)


def _article(model: type[Model]) -> str:
    noun = str(model._meta.verbose_name)
    return f"{'an' if noun[0] in 'aeiouA' else 'a'} {noun}"


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "fields", str: "a text"}
    return names.get(type(value), f"a {type(value).__name__}")


def _source(item: object) -> str:
    return "" if not isinstance(item, str) or item.lstrip().startswith("-----BEGIN") else f"{item}: "
