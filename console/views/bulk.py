"""One action on several objects of a list: chosen there, confirmed here, carried out as one change or not at all."""

import uuid
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from console.access import TOUCHING, WouldChange
from console.bulk import MOST, Action, Refused, carry_out, done_words, kept_by
from console.pace import costs
from console.permissions import require
from console.sign_in import ask_again, is_fresh
from console.views.certificates import CERTIFICATES
from console.views.pages import Noun, address_of, operator_of, selected
from console.views.where import REGISTRATIONS
from console.views.who import USERS
from gateway.access.changes import outlook
from gateway.audit import change_set
from identity.models import Group

NAMED = 30  # that the page names; the others are counted


@costs()
@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, noun: Noun) -> HttpResponse:
    """Tell what would be done to what, and do it when it is confirmed."""
    require(request, noun.permission)
    if not is_fresh(request):
        return ask_again(request)
    asked = request.POST if request.method == "POST" else request.GET
    action = next((each for each in noun.bulk if each.key == asked.get("action")), None)
    rows = chosen(noun, asked)
    keys = [row.pk for row in rows]  # looking ahead takes them from what would be deleted
    group = _group(asked) if action is not None and action.wants_group else None
    problems = _problems(action, rows, group, asked)
    if request.method == "POST" and not problems:
        assert action is not None
        if refused := _carry_out(request, noun, action, rows, group):
            problems = [refused]
        else:
            return redirect(f"{noun.kind}-list")
    would_change = None
    if not problems and action is not None and noun.kind in TOUCHING:
        would_change, problems = _look_ahead(request, action, rows, group)
    context = {
        "noun": noun,
        "action": action,
        "rows": rows[:NAMED],
        "more": max(0, len(rows) - NAMED),
        "keys": keys,
        "count": len(rows),
        "group": group,
        "groups": Group.objects.assignable() if action is not None and action.wants_group else [],
        "problems": problems,
        "ready": not problems,
        "would_change": would_change,
    }
    return render(request, "nouns/bulk.html", context, status=422 if request.method == "POST" else 200)


def chosen(noun: Noun, asked: QueryDict) -> list[Any]:
    """The objects that were ticked, or all that the list showed; one more than may be done at once, at most."""
    if asked.get("all"):
        rows, _, _ = selected(noun, asked)
        return list(rows.order_by("name")[: MOST + 1])
    keys = {key for text in asked.getlist("pk")[: MOST + 1] if (key := _key(text)) is not None}
    return list(noun.model._default_manager.filter(pk__in=keys).order_by("name"))


def _key(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _group(asked: QueryDict) -> Group | None:
    return Group.objects.assignable().filter(name=asked.get("group", "")).first()


def _problems(action: Action | None, rows: list[Any], group: Group | None, asked: QueryDict) -> list[str]:
    if action is None or not rows:
        return [gettext("Nothing is chosen: tick what you mean in the list, and say what is to be done.")]
    if len(rows) > MOST:
        return [
            gettext("That is more than {most} at once. Narrow the list down, and go on in parts.").format(most=MOST)
        ]
    if action.wants_group and group is None:
        return (
            [gettext("There is no group {group!r} to choose.").format(group=asked["group"])]
            if asked.get("group")
            else [gettext("Choose the group.")]
        )
    return kept_by(action, rows)


def _look_ahead(
    request: HttpRequest, action: Action, rows: list[Any], group: Group | None
) -> tuple[WouldChange | None, list[str]]:
    try:
        return WouldChange(outlook(lambda: carry_out(action, rows, group), operator_of(request)), []), []
    except (Refused, ValidationError) as error:
        return None, [_words(error)]


def _carry_out(request: HttpRequest, noun: Noun, action: Action, rows: list[Any], group: Group | None) -> str:
    """Why nothing was done; "" where all was."""
    done = done_words(action, noun.model, len(rows), group)
    try:
        with change_set(operator_of(request), done, address_of(request)) as recorder:
            carry_out(action, rows, group)
    except (Refused, ValidationError) as error:
        return _words(error)
    except IntegrityError:
        return gettext("Somebody else has changed one of them meanwhile. Look again and repeat.")
    if recorder.revision is None:
        messages.info(request, gettext("Nothing changed: they were so already."))
    else:
        words = gettext("Done. {action}: {noun} ({count}).")
        messages.success(request, words.format(action=action.label, count=len(rows), noun=noun.title))
    return ""


def _words(error: Refused | ValidationError) -> str:
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)


urls = [
    path(f"{noun.kind}/bulk/", page, {"noun": noun}, name=f"{noun.kind}-bulk")
    for noun in (CERTIFICATES, USERS, REGISTRATIONS)
]
