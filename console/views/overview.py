"""What needs attention, first; then the whole, drawn, with the way that a request would take."""

import hashlib
import time
from typing import Any

from django.db.models import Exists
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.translation import gettext
from django.views.decorators.http import require_GET

from console import chart
from console.attention import ask_nodes, concerns, ports_of, tunnels_of
from console.forms.ways import WayForm
from console.models import Operator
from console.permissions import permission_required
from console.refusals import refusals_by_reason
from console.topology import draw
from console.ways import Ways, ways
from gateway.audit import in_force
from gateway.models import Change, ChangeSet, Node, Port, PortType, Registration, Service
from identity.models import Certificate, Keystore, Truststore, User

CHANGES_SHOWN = 6
ASKING = ("certificate", "user", "port", "path")  # any of them in the address asks for a way


@require_GET
@permission_required("view")
def overview(request: HttpRequest) -> HttpResponse:
    steps = first_steps()
    done = sum(each for _, _, each in steps)
    context = _live(request) | {
        "steps": [] if done == len(steps) else steps,
        "done": done,
        "few_done": done * 2 < len(steps),
        "changes": ChangeSet.objects.filter(configures=True)[:CHANGES_SHOWN],
    }
    return render(request, "overview/page.html", context)


@require_GET
@permission_required("view")
def live(request: HttpRequest) -> HttpResponse:
    """The part of the page that changes by itself; 304 where it has not."""
    body = render_to_string("overview/live.html", _live(request))
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    response = get_conditional_response(request, etag=etag) or HttpResponse(body)
    response["ETag"] = etag
    return response


def _live(request: HttpRequest) -> dict[str, Any]:
    mark, now = in_force(), timezone.now()
    revision = mark[0] if mark else 0
    states = ask_nodes(Node.objects.all())
    tunnels, ports = tunnels_of(states), ports_of(states)
    asks = any(request.GET.get(name) for name in ASKING) or "way" in request.GET
    form = WayForm(request.GET if asks else None, ports=[state.port for state in ports])
    found: Ways | None = None
    if asks and form.is_valid():
        down = {
            each.registration.name: each.problem
            or gettext("The tunnel is {status}.").format(status=gettext(each.status))
            for each in tunnels
            if each.kind in ("bad", "soft")
        }
        found = ways(form.asked(), time.time(), down)
    charted = chart.nodes_of(states, ports, revision)
    drawing = draw(charted, chart.tunnels_of(tunnels), found.lit if found is not None else None)
    return {
        "concerns": concerns(states, tunnels, ports, mark, now),
        "refused": refusals_by_reason(now),
        "nodes": list(zip(states, charted, strict=True)),
        "tunnels": tunnels,
        "ports": ports,
        "drawing": drawing,
        "form": form,
        "ways": found,
        "asked": form.asked() if found is not None else None,
        "may_invoke": request.user.may("test_invoke"),  # type: ignore[union-attr]
        "query": request.GET.urlencode(),
        "revision": revision,
    }


def first_steps() -> list[tuple[str, str, bool]]:
    """From nothing to the first answer: what to do, where, and whether it is done."""
    steps = [
        (gettext("Add an edge node and an internal node"), reverse("nodes-add"), Node.objects.order_by("pk")[1:2]),
        (gettext("Add keystores: what the ports show"), reverse("keystores-add"), Keystore.objects.all()),
        (
            gettext("Add truststores: whose certificates are believed"),
            reverse("truststores-add"),
            Truststore.objects.all(),
        ),
        (gettext("Add the edge's pair of ports"), reverse("ports-pair"), Port.objects.of_type(PortType.EXTERNAL)),
        (gettext("Add a registration for the internal node"), reverse("registrations-add"), Registration.objects.all()),
        (
            gettext("Add the internal node's port, which dials the edge"),
            reverse("ports-add", args=["internal"]),
            Port.objects.of_type(PortType.INTERNAL),
        ),
        (gettext("Add a service on the internal node"), reverse("services-add"), Service.objects.all()),
        (gettext("Add a user"), reverse("users-add"), User.objects.mappable()),
        (
            gettext("Upload the partner's certificate and map it"),
            reverse("certificates-add"),
            Certificate.objects.filter(user__isnull=False),
        ),
        (gettext("Test invoke, and see whom it runs as"), reverse("invoke"), Change.objects.filter(kind="test_invoke")),
    ]
    # All in one query, beside an operator's row: whoever looks is one.
    asked = {f"step_{number}": Exists(rows) for number, (_, _, rows) in enumerate(steps)}
    done = Operator.objects.order_by().annotate(**asked).values(*asked).first() or dict.fromkeys(asked, False)
    return [(label, url, bool(done[f"step_{number}"])) for number, (label, url, _) in enumerate(steps)]


urls = [path("", overview, name="overview"), path("live/", live, name="overview-live")]
