"""What needs attention, first; then the whole."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from console.attention import ask_nodes, concerns, ports_of, tunnels_of
from console.permissions import permission_required
from gateway.audit import current_revision
from gateway.models import Change, ChangeSet, Node, Port, PortType, Registration, Service
from identity.models import Certificate, Keystore, Truststore, User

CHANGES_SHOWN = 6


@require_GET
@permission_required("view")
def overview(request: HttpRequest) -> HttpResponse:
    revision = current_revision()
    states = ask_nodes(Node.objects.all())
    tunnels, ports = tunnels_of(states), ports_of(states)
    steps = first_steps()
    context = {
        "concerns": concerns(states, tunnels, ports, revision, timezone.now()),
        "steps": [] if all(done for _, _, done in steps) else steps,
        "nodes": states,
        "tunnels": tunnels,
        "ports": ports,
        "current": revision,
        "changes": ChangeSet.objects.filter(configures=True)[:CHANGES_SHOWN],
    }
    return render(request, "overview/page.html", context)


def first_steps() -> list[tuple[str, str, bool]]:
    """From nothing to the first answer: what to do, where, and whether it is done."""
    return [
        ("Add an edge node and an internal node", reverse("nodes-add"), Node.objects.count() > 1),
        ("Add keystores: what the ports show", reverse("keystores-add"), Keystore.objects.exists()),
        ("Add truststores: whose certificates are believed", reverse("truststores-add"), Truststore.objects.exists()),
        ("Add the edge's pair of ports", reverse("ports-pair"), Port.objects.of_type(PortType.EXTERNAL).exists()),
        (
            "Add a registration for the internal node",
            reverse("registrations-add"),
            Registration.objects.exists(),
        ),
        (
            "Add the internal node's port, which dials the edge",
            reverse("ports-add", args=["internal"]),
            Port.objects.of_type(PortType.INTERNAL).exists(),
        ),
        ("Add a service on the internal node", reverse("services-add"), Service.objects.exists()),
        ("Add a user", reverse("users-add"), User.objects.mappable().exists()),
        (
            "Upload the partner's certificate and map it",
            reverse("certificates-add"),
            Certificate.objects.filter(user__isnull=False).exists(),
        ),
        (
            "Test invoke, and see whom it runs as",
            reverse("invoke"),
            Change.objects.filter(kind="test_invoke").exists(),
        ),
    ]


urls = [path("", overview, name="overview")]
