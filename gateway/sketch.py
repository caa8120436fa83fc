"""One row as it would be stored: checked like a change that is made, and never written.

Only for what a row says in a column of its own, and no other row's validity hangs on: whoever looks ahead at such a
step needs neither a transaction nor the right to write, and keeps nobody else waiting.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from gateway.models import Registration
from gateway.topology import consistency
from gateway.topology.consistency import Touched
from gateway.topology.entries import record_of, stored
from identity.models import Certificate, User

# What may differ. Another column takes a change set: that reads again all that follows from it.
COLUMNS: dict[type[Model], frozenset[str]] = {
    Certificate: frozenset({"blocked", "user_id"}),
    User: frozenset({"enabled"}),
    Registration: frozenset({"enabled"}),
}


@dataclass(frozen=True, slots=True)
class Sketch:
    """`before`: the row as it is stored; `after`: as it would be. Both with what their entries are made of."""

    before: Any
    after: Any


def sketch(model: type[Model], pk: Any, act: Callable[[Any], object]) -> Sketch:
    """What `act` would make of a row; it changes the one that it is given, and saves nothing.

    Raises:
        ValidationError: the change would be refused, and why.
        DoesNotExist: there is no such row.
    """
    before = stored(model).get(pk=pk)
    after = copy(before)
    act(after)
    columns = [column.attname for column in model._meta.concrete_fields]
    beyond = {name for name in columns if getattr(before, name) != getattr(after, name)} - COLUMNS[model]
    if beyond:
        raise ValueError(f"{model.__name__}: {', '.join(sorted(beyond))} cannot be sketched; make it in a change set")
    after.full_clean()
    consistency.check([Touched(model, pk, after, record_of(before), record_of(after))])
    return Sketch(before, after)
