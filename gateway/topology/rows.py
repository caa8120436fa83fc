"""Stored objects by name, for one run of apply: each is read once, however often the file names it."""

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from django.db.models import Model

from gateway.topology.entries import stored

M = TypeVar("M", bound=Model)

CHUNK = 500  # names in one query; SQLite's oldest limit on parameters is 999


class Rows:
    """What is stored. Whoever writes a row tells so with `put`; what went wrong halfway is forgotten."""

    def __init__(self) -> None:
        self._found: dict[tuple[type[Model], str], Model | None] = {}

    def prime(self, model: type[Model], names: Iterable[str]) -> None:
        """Read many at once, and know of the others that they are not there."""
        wanted = list(names)
        self._found |= {(model, name): None for name in wanted}
        for start in range(0, len(wanted), CHUNK):
            for row in stored(model).filter(name__in=wanted[start : start + CHUNK]):
                self.put(row)

    def get(self, model: type[M], name: str) -> M | None:
        if (model, name) not in self._found:
            self._found[model, name] = stored(model).filter(name=name).first()
        return cast(M | None, self._found[model, name])

    def put(self, row: Any) -> None:
        self._found[type(row), row.name] = row

    def forget(self, model: type[Model], name: str) -> None:
        """Whoever asks for it next is told what is stored then."""
        self._found.pop((model, name), None)

    def clear(self) -> None:
        self._found.clear()
