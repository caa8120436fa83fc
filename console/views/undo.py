"""Undoing a change: first shown as what would come of it, then tried, and done as a change of its own.

A large one, such as an import, is told in numbers and undone by a worker: it takes as long as the import did.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from console.grave import is_grave, undone
from console.jobs import take_undo
from console.models import Job, JobState
from console.nouns import TITLES, permission_of
from console.pace import costs
from console.permissions import permission_required, require
from console.progress import done_of
from console.sign_in import ask_again, is_fresh
from console.views.changes import described
from console.views.pages import address_of, operator_of
from console.words import grouped
from gateway import unconfirmed
from gateway.models import Action, Change, ChangeSet
from gateway.topology.entries import SECTIONS
from gateway.topology.undo import CannotUndo, known_to_bar, undo
from identity.core.commands import command

MOST = 500  # objects of one change that a page undoes by itself, and shows one by one before
# Objects that a worker changes back, or brings back: each takes some milliseconds, in which nobody else writes.
MOST_WRITTEN = 5_000
ONE_BY_ONE = gettext_lazy(
    "{count} objects would be changed back one by one, and nothing else could be changed meanwhile. "
    "That is done on the host: {command}"
)

# What undoing does with what a change did.
_BACK = {
    Action.ADDED: gettext_lazy("taken away"),
    Action.CHANGED: gettext_lazy("changed back"),
    Action.REMOVED: gettext_lazy("brought back"),
}


@costs()
@require_http_methods(["GET", "POST"])
def undo_page(request: HttpRequest, pk: int) -> HttpResponse:
    """It takes what the change itself took."""
    require(request, "view")
    made = get_object_or_404(ChangeSet, pk=pk)
    changes = list(made.changes.all()[: MOST + 1])
    large = len(changes) > MOST
    for permission in permissions_of(kinds_of(made) if large else {each.kind for each in changes}):
        require(request, permission)
    context: dict[str, Any] = {"row": made, "reasons": [], "changes": []}
    if not is_fresh(request) and (large or _is_dangerous(changes)):
        return ask_again(request)
    if large:
        return _by_a_worker(request, made)
    if request.method != "POST":
        context["reasons"] = known_to_bar(made, changes)
        context["changes"] = described([undone(change) for change in changes], request.user.may)
        return render(request, "changes/undo.html", context)
    try:
        recorder = undo(made, operator_of(request), address_of(request), changes=changes)
    except CannotUndo as error:
        return render(request, "changes/undo.html", context | {"reasons": error.reasons}, status=409)
    messages.success(request, gettext("Change {number} is undone.").format(number=made.pk))
    return redirect("changes-detail", recorder.revision) if recorder.revision else redirect("changes")


def _is_dangerous(changes: Iterable[Change]) -> bool:
    """Whether undoing them brings keys back, or lets somebody in again who was shut out."""
    return any(each.kind == "keystores" or is_grave(undone(each)) for each in changes)


def _by_a_worker(request: HttpRequest, made: ChangeSet) -> HttpResponse:
    jobs = list(Job.objects.filter(undoes=made.pk))  # the last one first
    asked = next((job for job in jobs if str(job.pk) == request.GET.get("job")), None)
    job = next((job for job in jobs if job.in_progress), asked)
    counts = list(made.changes.order_by().values_list("kind", "action").annotate(number=Count("pk")))
    reasons = [words] if (words := beyond_a_worker(made)) else []
    if job is not None and job.state == JobState.DONE:
        return redirect("changes-detail", job.revision) if job.revision else redirect("changes")
    if request.method == "POST" and not reasons:
        job = take_undo(made, operator_of(request), address_of(request))
        return redirect(f"{reverse('changes-undo', args=[made.pk])}?job={job.pk}")
    context = {
        "row": made,
        "reasons": reasons,
        "job": job,
        "done": done_of(job) if job else 0,
        "counts": [(TITLES.get(kind, kind), _BACK[Action(action)], number) for kind, action, number in sorted(counts)],
    }
    return render(request, "changes/undo_large.html", context, status=409 if reasons else 200)


def beyond_a_worker(made: ChangeSet) -> str:
    """Why a large change is undone on the host; "" where a worker may do it."""
    written = made.changes.exclude(action=Action.ADDED).count()
    if written <= MOST_WRITTEN:
        return ""
    return ONE_BY_ONE.format(count=grouped(written), command=command(f"undo {made.pk}"))


def kinds_of(made: ChangeSet) -> Iterable[str]:
    return made.changes.order_by().values_list("kind", flat=True).distinct()


def permissions_of(kinds: Iterable[str]) -> set[str]:
    """What undoing a change of these kinds takes: what it took itself."""
    return {permission_of(kind) if kind in SECTIONS else "change_gateway" for kind in kinds}


@require_POST
@permission_required("change_gateway")
def keep(request: HttpRequest, pk: int) -> HttpResponse:
    """Confirm a change that would go back by itself."""
    if unconfirmed.keep(pk, operator_of(request), address_of(request)):
        messages.success(request, gettext("Change {pk} is confirmed, and stays.").format(pk=pk))
    else:
        messages.error(request, gettext("Change {pk} does not wait any more.").format(pk=pk))
    return redirect("changes-detail", pk)


@require_POST
@permission_required("change_gateway")
def take_back(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it go back now."""
    try:
        if unconfirmed.take_back(pk, operator_of(request), address_of(request)):
            messages.success(request, gettext("Change {pk} is taken back.").format(pk=pk))
        else:
            messages.error(request, gettext("Change {pk} does not wait any more.").format(pk=pk))
    except CannotUndo as error:
        messages.error(request, str(error))
    return redirect("changes-detail", pk)


urls = [
    path("changes/<int:pk>/undo/", undo_page, name="changes-undo"),
    path("changes/<int:pk>/keep/", keep, name="changes-keep"),
    path("changes/<int:pk>/take-back/", take_back, name="changes-take-back"),
]
