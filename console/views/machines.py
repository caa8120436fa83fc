"""Nodes on machines of their own: handing out a bundle, and believing a machine no longer."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from console.forms.machines import BundleForm
from console.permissions import permission_required
from console.sign_in import confirmed
from console.views.pages import address_of, operator_of
from gateway import enrolments, rotation
from gateway.core.enrolment import LIFETIME, EnrolmentError
from gateway.models import Enrolment, Node, NodeStatus, Role


def about(row: Node | None) -> dict[str, Any]:
    """What a node's page tells of its machine."""
    if row is None:
        return {}
    enrolment = Enrolment.objects.filter(node=row).first()
    status = NodeStatus.objects.filter(node=row).first()
    return {
        "enrolment": enrolment,
        "lost": enrolment is not None and enrolment.is_enrolled and row.name in rotation.lost(),
        "awaited": enrolment is not None and enrolment.is_awaited(),
        "status": status if enrolment is not None and enrolment.is_enrolled else None,
    }


@never_cache
@require_http_methods(["GET", "POST"])
@permission_required("change_identity")
@confirmed
def enrol(request: HttpRequest, pk: Any) -> HttpResponse:
    """Make a bundle. It is on this answer, and nowhere else from then on."""
    node = get_object_or_404(Node, pk=pk)
    form = BundleForm(request.POST if request.method == "POST" else None, node=node)
    bundle = None
    if form.is_bound and form.is_valid():
        address = form.cleaned_data.get("address", "")
        try:
            bundle = enrolments.offer(node, operator_of(request), address_of(request), address=address)
        except EnrolmentError as error:
            form.add_error(None, str(error))
    context = {
        "node": node,
        "form": form,
        "bundle": bundle.text() if bundle else "",
        "is_edge": node.role == Role.EDGE,
        "known": Enrolment.objects.enrolled().filter(node=node).exists(),
        "ends": timezone.now() + timedelta(seconds=LIFETIME),
        "minutes": LIFETIME // 60,
    }
    return render(request, "nodes/bundle.html", context, status=422 if form.is_bound and bundle is None else 200)


@require_POST
@permission_required("change_identity")
def disown(request: HttpRequest, pk: Any) -> HttpResponse:
    node = get_object_or_404(Node, pk=pk)
    enrolments.disown(node, operator_of(request), address_of(request))
    messages.success(
        request,
        gettext(
            "The machine of node {node} is believed no longer. What it has, it goes on with: disable its "
            "registrations, and renew the keys and passwords that its ports and endpoints had."
        ).format(node=node),
    )
    return redirect("nodes-edit", node.pk)


urls = [
    path("nodes/<uuid:pk>/enrol/", enrol, name="nodes-enrol"),
    path("nodes/<uuid:pk>/disown/", disown, name="nodes-disown"),
]
