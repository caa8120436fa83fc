"""Undoing a change: first shown as what would come of it, then done as a change of its own."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST

from console.nouns import permission_of
from console.permissions import permission_required, require
from console.sign_in import ask_again, is_fresh
from console.views.changes import described
from console.views.pages import address_of, operator_of
from gateway import unconfirmed
from gateway.models import ChangeSet
from gateway.topology.entries import SECTIONS
from gateway.topology.undo import CannotUndo, undo
from identity.core.commands import command

MOST = 500  # objects of one change that a page undoes; beyond, `manage.py undo`


@require_http_methods(["GET", "POST"])
def undo_page(request: HttpRequest, pk: int) -> HttpResponse:
    """It takes what the change itself took."""
    require(request, "view")
    made = get_object_or_404(ChangeSet, pk=pk)
    for permission in permissions_of(made):
        require(request, permission)
    context: dict[str, Any] = {"row": made, "reasons": [], "changes": []}
    if made.changes.filter(kind="keystores").exists() and not is_fresh(request):
        return ask_again(request)
    if made.changes.count() > MOST:
        context["reasons"] = [f"This many objects are undone on the host: {command(f'undo {made.pk}')}"]
        return render(request, "changes/undo.html", context, status=409)
    try:
        asked = request.method != "POST"
        recorder = undo(made, operator_of(request), address_of(request), dry_run=asked)
    except CannotUndo as error:
        context["reasons"] = error.reasons
        return render(request, "changes/undo.html", context, status=409 if request.method == "POST" else 200)
    if asked:
        return render(request, "changes/undo.html", context | {"changes": described(recorder.changes)})
    messages.success(request, f"Change {made.pk} is undone.")
    return redirect("changes-detail", recorder.revision) if recorder.revision else redirect("changes")


def permissions_of(made: ChangeSet) -> set[str]:
    """What undoing it takes: what it took itself."""
    kinds = made.changes.order_by().values_list("kind", flat=True).distinct()
    return {permission_of(kind) if kind in SECTIONS else "change_gateway" for kind in kinds}


@require_POST
@permission_required("change_gateway")
def keep(request: HttpRequest, pk: int) -> HttpResponse:
    """Confirm a change that would go back by itself."""
    if unconfirmed.keep(pk, operator_of(request), address_of(request)):
        messages.success(request, f"Change {pk} is confirmed, and stays.")
    else:
        messages.error(request, f"Change {pk} does not wait any more.")
    return redirect("changes-detail", pk)


@require_POST
@permission_required("change_gateway")
def take_back(request: HttpRequest, pk: int) -> HttpResponse:
    """Let it go back now."""
    try:
        if unconfirmed.take_back(pk, operator_of(request), address_of(request)):
            messages.success(request, f"Change {pk} is taken back.")
        else:
            messages.error(request, f"Change {pk} does not wait any more.")
    except CannotUndo as error:
        messages.error(request, str(error))
    return redirect("changes-detail", pk)


urls = [
    path("changes/<int:pk>/undo/", undo_page, name="changes-undo"),
    path("changes/<int:pk>/keep/", keep, name="changes-keep"),
    path("changes/<int:pk>/take-back/", take_back, name="changes-take-back"),
]
