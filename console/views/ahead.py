"""What would change for whom, before a step that has no form of its own: blocking, unblocking, taking a mapping away.

Blocking itself stays one click: who is in a hurry need not look. Nothing is carried out here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_safe

from console.access import WouldChange
from console.blocking import EFFECTS, SWITCHES, is_blocked, turn
from console.nouns import TITLES, label_of, permission_of, url_of
from console.pace import costs
from console.permissions import require
from gateway.access.changes import outlook_of
from gateway.topology.entries import KIND_OF, SECTIONS
from identity.models import Certificate

KINDS = tuple(KIND_OF[model] for model in SWITCHES)


@dataclass(frozen=True, slots=True)
class Step:
    """`label`: what its button says. `applies`: whether there is anything to do. `words`: what it comes to.

    `act` does it to a row in memory.
    """

    label: Any
    applies: Callable[[Any], bool]
    act: Callable[[Any], object]
    words: Callable[[Any], str] = lambda row: ""


def _is_mapped(row: Model) -> bool:
    return isinstance(row, Certificate) and row.user_id is not None


def _unmap(row: Certificate) -> None:
    row.user = None


def _what_unmapping_does(row: Certificate) -> str:
    words = gettext("It is mapped to {user}. Without its mapping, rules may still mean it.")
    return words.format(user=row.user)


STEPS = {
    "block": Step(gettext_lazy("Block"), lambda row: not is_blocked(row), lambda row: turn(row, block=True),
                  lambda row: EFFECTS[type(row)]),
    "unblock": Step(gettext_lazy("Unblock"), is_blocked, lambda row: turn(row, block=False)),
    "unmap": Step(gettext_lazy("Take the mapping away"), _is_mapped, _unmap, _what_unmapping_does),
}  # fmt: skip


@costs()
@require_safe
def page(request: HttpRequest, kind: str, pk: Any, word: str) -> HttpResponse:
    require(request, permission_of(kind))
    row: Model = get_object_or_404(SECTIONS[kind], pk=pk)
    step = STEPS.get(word)
    if step is None or not step.applies(row):
        raise Http404(f"There is nothing to {word} here.")
    would_change, problem = None, ""
    try:
        would_change = WouldChange(outlook_of(type(row), pk, step.act), [])
    except ValidationError as error:
        problem = " ".join(error.messages)
    context = {
        "row": row,
        "what": label_of(row),
        "step": step,
        "words": step.words(row),
        "action": reverse(f"{kind}-{word}", args=[pk]),
        "back": url_of(row),
        "title": TITLES[kind],
        "list": reverse(f"{kind}-list"),
        "would_change": would_change,
        "problem": problem,
        "danger": word != "unblock",
    }
    return render(request, "access/ahead.html", context)


urls = [path(f"{kind}/<uuid:pk>/ahead/<str:word>/", page, {"kind": kind}, name=f"{kind}-ahead") for kind in KINDS]
