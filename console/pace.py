"""How often an operator may ask for what costs, and a token for anything: so often at once, and in each minute from
then on. Looking at pages is not counted: each reads a bounded part of the database, and no more.

What was spent is a column of the row that spends it, moved on by one conditional update: no two processes of one
console or of several count past each other, and where nothing is counted nothing is written.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.db.models import BigIntegerField, F, QuerySet, Value
from django.db.models.functions import Greatest
from django.http import HttpRequest

from console.models import Operator, Token

_SECOND = 1_000_000  # microseconds, in which a row has it
_MINUTE = 60 * _SECOND
_ANY = frozenset({""})

View = Callable[..., Any]


class TooOften(Exception):
    """It was not begun. `seconds`: after which it may be."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"once more in {seconds} s")
        self.seconds = seconds


def spend_costly(operator: Operator, now: float) -> None:
    """Raises TooOften."""
    _spend(Operator.objects.filter(pk=operator.pk), settings.CONSOLE_COSTLY_PER_MINUTE, now)


def spend_call(token: Token, now: float, **noted: Any) -> None:
    """`noted`: what is written of the token besides. Raises TooOften."""
    _spend(Token.objects.filter(pk=token.pk), settings.CONSOLE_API_PER_MINUTE, now, **noted)


def _spend(rows: QuerySet[Any], per_minute: int, now: float, **noted: Any) -> None:
    """`rows`: the one that spends; `spent_until` is when all that it spent is made up for, in a minute at most."""
    at, step = int(now * _SECOND), max(1, _MINUTE // per_minute)
    moved = Greatest(F("spent_until"), Value(at, BigIntegerField())) + step
    if rows.filter(spent_until__lte=at + _MINUTE - step).update(spent_until=moved, **noted):
        return
    until = rows.values_list("spent_until", flat=True).first() or 0
    if until > at + 2 * _MINUTE:  # further ahead than two clocks differ: ours was set back, and nothing of it counts
        rows.filter(spent_until=until).update(spent_until=at + step, **noted)
        return
    raise TooOften(max(1, math.ceil((until + step - _MINUTE - at) / _SECOND)))


# --- of pages ---


def costs(*parameters: str) -> Callable[[View], View]:
    """For a view that is counted when it is looked at, too: always, or where the address asks for one of these."""

    def decorate(view: View) -> View:
        @wraps(view)
        def counted(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        counted.costs = frozenset(parameters) or _ANY  # type: ignore[attr-defined]
        return counted

    return decorate


def never_too_often(view: View) -> View:
    """For what shuts somebody out: whoever has stolen a login must not keep its owner from ending it."""
    view.never_too_often = True  # type: ignore[attr-defined]
    return view


def is_costly(request: HttpRequest, view: View) -> bool:
    """Whatever is sent is written down, and mostly looked ahead from; of what is looked at, what is computed for it."""
    if getattr(view, "never_too_often", False):
        return False
    wanted: frozenset[str] = getattr(view, "costs", frozenset())
    return request.method == "POST" or wanted is _ANY or not wanted.isdisjoint(request.GET)
