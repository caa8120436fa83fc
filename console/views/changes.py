"""The audit log: who changed what, when, from where; before and after."""

from collections.abc import Callable
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, Min, Q, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.translation import gettext_lazy

from console.differences import differences
from console.nouns import SINGULAR, TITLES, permission_of
from console.permissions import permission_required
from console.veil import veiled_change
from console.views.pages import PAGE
from gateway.models import Action, Change, ChangeSet, Link, Unconfirmed
from gateway.topology.entries import SECTIONS

_TONES = {Action.ADDED: "ok", Action.CHANGED: "warn", Action.REMOVED: "bad"}
KINDS = {
    **TITLES,
    "operators": gettext_lazy("Operators"),
    "tokens": gettext_lazy("API tokens"),
    "enrolments": gettext_lazy("Machines of nodes"),
    "authority": gettext_lazy("Authority of nodes"),
    "test_invoke": gettext_lazy("Test invokes"),
    "saved_tests": gettext_lazy("Saved tests"),
    "unconfirmed": gettext_lazy("Confirmations"),
    "backup": gettext_lazy("Backups"),
}
SHOWN = 200  # objects of one change set on its page
OBJECTS = 3  # of one in the list


@permission_required("view")
def changes(request: HttpRequest) -> HttpResponse:
    text, kind, actor = (request.GET.get(name, "").strip() for name in ("q", "kind", "actor"))
    rows = ChangeSet.objects.all()
    if text:
        rows = rows.filter(Q(message__icontains=text) | Q(pk__in=_touching(name__icontains=text)))
    if kind in KINDS:
        rows = rows.filter(pk__in=_touching(kind=kind))
    if actor:
        rows = rows.filter(actor=actor)
    page = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "table": _with_objects(list(page)),
        "text": text,
        "kind": kind,
        "kinds": list(KINDS.items()),
        "actor": actor,
        "actors": ChangeSet.objects.order_by("actor").values_list("actor", flat=True).distinct()[:200],
    }
    return render(request, "changes/list.html", context)


def _with_objects(rows: list[ChangeSet]) -> list[tuple[ChangeSet, list[Change], int]]:
    """Each with the first of its changes and the number of the others: an import has 100,000."""
    counted = Change.objects.filter(change_set__in=rows).order_by().values_list("change_set")
    found = {pk: (first, count) for pk, first, count in counted.annotate(first=Min("pk"), count=Count("pk"))}
    # Those of one change set are recorded together, and their numbers follow each other.
    wanted = [first + number for first, _ in found.values() for number in range(OBJECTS)]
    named: dict[int, list[Change]] = {}
    for each in Change.objects.filter(pk__in=wanted, change_set__in=rows).defer("before", "after"):
        named.setdefault(each.change_set_id, []).append(each)
    return [
        (row, named.get(row.pk, []), found[row.pk][1] - len(named.get(row.pk, [])) if row.pk in found else 0)
        for row in rows
    ]


def _touching(**condition: Any) -> Any:
    return Change.objects.filter(**condition).values("change_set")


@permission_required("view")
def change(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(ChangeSet, pk=pk)
    stored = list(row.changes.all()[:SHOWN])
    context = {
        "row": row,
        "changes": described(stored, request.user.may),  # type: ignore[union-attr]
        "more": row.changes.count() - len(stored),
        "link": Link.objects.filter(pk=row.pk).first(),
        "waited": Unconfirmed.objects.filter(pk=row.pk).first(),
        "may_undo": row.configures and all(request.user.may(permission_of(each.kind)) for each in stored),  # type: ignore[union-attr]
    }
    return render(request, "changes/detail.html", context)


def described(stored: list[Change], may: Callable[[str], bool]) -> list[dict[str, Any]]:
    """What the templates show of each change to somebody who may do this."""
    pages = _pages(stored)
    found = []
    for each in stored:
        fields = differences(*veiled_change(each.kind, each.before, each.after, may))
        found.append(
            {
                "change": each,
                "tone": _TONES.get(Action(each.action), ""),
                "title": SINGULAR.get(each.kind) or KINDS.get(each.kind, each.kind),
                "url": pages.get((each.kind, each.object_id)),
                "fields": fields,
                "unchanged": [field for field in fields if not field.changed],
            }
        )
    return found


def _pages(stored: list[Change]) -> dict[tuple[str, str], str]:
    """Kind and id of what was changed → its page, for what is still there; one query for all kinds."""
    there = []
    for kind in sorted({each.kind for each in stored} & set(SECTIONS)):
        ids = [each.object_id for each in stored if each.kind == kind]
        rows = SECTIONS[kind]._default_manager.order_by().filter(pk__in=ids)
        there.append(rows.annotate(of_kind=Value(kind)).values_list("of_kind", "pk"))
    if not there:
        return {}
    return {(kind, str(pk)): reverse(f"{kind}-edit", args=[pk]) for kind, pk in there[0].union(*there[1:], all=True)}


urls = [path("changes/", changes, name="changes"), path("changes/<int:pk>/", change, name="changes-detail")]
