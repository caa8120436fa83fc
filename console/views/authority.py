"""The authority by which console and nodes know each other: how far its exchange is, beginning one, ending one."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from console.permissions import permission_required
from console.sign_in import confirmed
from console.views.pages import address_of, operator_of
from gateway import rotation
from gateway.core.enrolment import EnrolmentError
from gateway.models import Enrolment, Node, NodeStatus
from gateway.rotation import LOST, Standing
from identity.core import authority


@dataclass(frozen=True, slots=True)
class Line:
    """Of one node. `status`: what a courier last knew of it."""

    node: Node
    status: NodeStatus | None
    standing: Standing

    @property
    def lost(self) -> bool:
        return self.standing in LOST


@require_safe
@permission_required("view")
def shown(request: HttpRequest) -> HttpResponse:
    progress = rotation.progress()
    rows = Enrolment.objects.enrolled().select_related("node__status").order_by("node__name")
    lines = [
        Line(row.node, getattr(row.node, "status", None), progress.standings[row.node.name])
        for row in rows
        if row.node.name in progress.standings
    ]
    context: dict[str, Any] = {
        "progress": progress,
        "fingerprint": authority.fingerprint_of(progress.signs) if progress.signs else "",
        "before": authority.fingerprint_of(progress.before) if progress.before else "",
        "lines": lines,
        "awaited": Enrolment.objects.filter(bundle_ends__gt=timezone.now()).select_related("node"),
        "behind": progress.behind,
    }
    return render(request, "nodes/authority.html", context)


@require_POST
@permission_required("change_authority")
@confirmed
def exchanged(request: HttpRequest) -> HttpResponse:
    try:
        rotation.begin(operator_of(request), address_of(request))
    except EnrolmentError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, gettext("A new authority signs from now on; this page tells how far the nodes are."))
    return redirect("authority")


@require_POST
@permission_required("change_authority")
@confirmed
def dropped(request: HttpRequest) -> HttpResponse:
    """Whoever would be cut off is ticked, one by one, or it is not done."""
    giving_up = request.POST.getlist("giving_up")
    try:
        cut_off = rotation.drop_old(operator_of(request), address_of(request), giving_up=giving_up)
    except EnrolmentError as error:
        messages.error(request, str(error))
        return redirect("authority")
    words = gettext("The old authority is believed no longer.")
    if cut_off:
        words += " " + gettext("To be enrolled anew: {names}.").format(names=", ".join(cut_off))
    messages.success(request, words)
    return redirect("authority")


urls = [
    path("authority/", shown, name="authority"),
    path("authority/exchange/", exchanged, name="authority-exchange"),
    path("authority/drop/", dropped, name="authority-drop"),
]
