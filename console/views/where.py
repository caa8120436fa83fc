"""Pages of nodes, ports, services, APIs, endpoints and registrations."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods

from console.access import WouldChange
from console.bulk import DELETE, SWITCHING
from console.forms.nouns import APIForm, EndpointForm, NodeForm, ServiceForm
from console.forms.ports import PairForm, PortForm
from console.forms.stores import RegistrationForm
from console.nouns import ADDING_PORT, url_of
from console.permissions import permission_required
from console.views import machines
from console.views.pages import (
    DESCRIPTION,
    NAME,
    Cell,
    Column,
    Note,
    Noun,
    address_of,
    edit_page,
    link,
    operator_of,
    urlpatterns,
)
from gateway import unconfirmed
from gateway.access.changes import outlook
from gateway.audit import change_set
from gateway.core.paths import rebase
from gateway.models import API, Endpoint, Node, Port, PortType, Registration, Service


def _role(row: Node) -> Cell:
    return Cell(row.role, "code")


def _where(row: Port) -> list[Cell]:
    if row.type == PortType.INTERNAL:
        return [
            Cell(gettext("dials {address}").format(address=dial.address), "code") for dial in row.connect.all()
        ] or [Cell(gettext("dials nowhere"), "warn")]
    return [Cell(row.bind, "code")]


def _port_state(row: Port) -> Cell:
    return Cell(gettext("enabled"), "ok") if row.enabled else Cell(gettext("disabled"), "bad")


def _asks(row: Port) -> Cell:
    return Cell(row.client_auth, "code")


def _all_but(denied: list[str]) -> str:
    return gettext("all but {names}").format(names=", ".join(denied)) if denied else gettext("everything")


def _shows(row: Port) -> Cell:
    access = row.service_access
    if row.type == PortType.REGISTRATION:
        return Cell(gettext("registrations only"), "soft")
    if access["default"] == "allow":
        return Cell(_all_but(access["deny"]), "warn")
    return Cell(", ".join(access["allow"]) or gettext("nothing yet"), "text" if access["allow"] else "bad")


def _runs(row: Service) -> Cell:
    return Cell(row.backend or row.builtin, "code")


def _acl(row: Service | API) -> Cell:
    return link(row.execute_acl) if row.execute_acl else Cell("Default", "soft")


def _identity(row: Endpoint) -> Cell:
    return Cell(row.effective_identity.value, "code")


def _results(row: Endpoint) -> list[dict[str, Any]]:
    """For each API that calls the endpoint: where a request below its path arrives."""
    base = row.parsed_url().base
    found = []
    for api in row.apis.order_by("path"):
        example = f"{api.path.rstrip('/')}/7"
        found.append({"api": api, "url": url_of(api), "from": example, "to": rebase(example, api.path, base)})
    return found


def _unlimited(row: Registration) -> list[Note]:
    if row.limits_assertions:
        return []
    return [
        Note(
            gettext(
                "This channel may speak for every certificate that the internal port trusts, and for every group "
                "but Administrators. If the edge were broken into, it could call as any partner. Limit what may "
                "be asserted."
            )
        )
    ]


def _known_by(row: Registration) -> list[Cell]:
    return [Cell(row.subject), *([Cell(gettext("and the next one"), "warn")] if row.next_sha256 else [])]


def _asserts(row: Registration) -> Cell:
    if row.limits_assertions:
        return Cell(gettext("limited"), "ok")
    return Cell(gettext("every trusted certificate"), "warn")


def _port_form_options(request: HttpRequest, row: Any) -> dict[str, Any]:
    return {"type": row.type if row is not None else request.resolver_match.kwargs["type"]}  # type: ignore[union-attr]


def _ways_to_add_ports() -> list[tuple[str, str]]:
    pair = (gettext("Add an edge's pair: external and registration"), reverse("ports-pair"))
    return [
        pair,
        *((str(ADDING_PORT[kind.value]), reverse("ports-add", args=[kind.value])) for kind in PortType),
    ]


NODES = Noun(
    kind="nodes",
    form=NodeForm,
    template="nodes/edit.html",
    context=machines.about,
    lede=gettext_lazy(
        "The relay processes: edges in the DMZ, internal nodes behind the inner firewall, which dial out to them."
    ),
    columns=[
        NAME,
        Column(gettext_lazy("Role"), _role, "role"),
        Column(gettext_lazy("Ports"), lambda row: Cell(str(row.port_count))),
        DESCRIPTION,
    ],
    rows=lambda rows: rows.annotate(port_count=Count("ports")),
    more=lambda: [(gettext("By which authority those on machines of their own are known."), reverse("authority"))],
)
PORTS = Noun(
    kind="ports",
    form=PortForm,
    lede=gettext_lazy("Where requests enter a node."),
    columns=[
        NAME,
        Column(gettext_lazy("Node"), lambda row: link(row.node), "node__name"),
        Column(gettext_lazy("Type"), lambda row: Cell(row.type, "code"), "type"),
        Column(gettext_lazy("Address"), _where),
        Column(gettext_lazy("Certificates"), _asks, "client_auth"),
        Column(gettext_lazy("Shows"), _shows),
        Column(gettext_lazy("State"), _port_state, "enabled"),
    ],
    search=("name", "node__name", "bind", "description"),
    filters={kind.value: (kind.value, Q(type=kind.value)) for kind in PortType},
    rows=lambda rows: rows.select_related("node").prefetch_related("connect"),
    form_options=_port_form_options,
    adds=_ways_to_add_ports,
    goes_back=True,
)
SERVICES = Noun(
    kind="services",
    form=ServiceForm,
    lede=gettext_lazy("What a node runs, at a path: a backend or a builtin, guarded by an ACL."),
    columns=[
        NAME,
        Column(gettext_lazy("Node"), lambda row: link(row.node), "node__name"),
        Column(gettext_lazy("Path"), lambda row: Cell(row.path, "code"), "path"),
        Column(gettext_lazy("Runs"), _runs),
        Column(gettext_lazy("ACL"), _acl),
    ],
    search=("name", "path", "backend", "node__name", "description"),
    rows=lambda rows: rows.select_related("node", "execute_acl"),
)
APIS = Noun(
    kind="apis",
    form=APIForm,
    lede=gettext_lazy(
        "Paths that an edge answers itself, by calling an endpoint. Decided twice: here for the caller, there for "
        "the identity that the endpoint gives."
    ),
    columns=[
        NAME,
        Column(gettext_lazy("Node"), lambda row: link(row.node), "node__name"),
        Column(gettext_lazy("Path"), lambda row: Cell(row.path, "code"), "path"),
        Column(gettext_lazy("Endpoint"), lambda row: link(row.endpoint)),
        Column(gettext_lazy("ACL"), _acl),
    ],
    search=("name", "path", "endpoint__name", "description"),
    rows=lambda rows: rows.select_related("node", "execute_acl", "endpoint"),
)
ENDPOINTS = Noun(
    kind="endpoints",
    form=EndpointForm,
    template="endpoints/edit.html",
    context=lambda row: {"results": _results(row) if row else []},
    lede=gettext_lazy("Where, and as whom, an API calls."),
    columns=[
        NAME,
        Column(gettext_lazy("URL"), lambda row: Cell(row.url, "code"), "url"),
        Column(gettext_lazy("Identity"), _identity),
        Column(gettext_lazy("Keystore"), lambda row: link(row.keystore)),
    ],
    search=("name", "url", "username", "description"),
    rows=lambda rows: rows.select_related("keystore"),
)
REGISTRATIONS = Noun(
    kind="registrations",
    form=RegistrationForm,
    template="registrations/edit.html",
    notes=_unlimited,
    bulk=(*SWITCHING, DELETE),
    lede=gettext_lazy("Which node may dial in at which registration port, and what its channel may carry."),
    columns=[
        NAME,
        Column(gettext_lazy("Port"), lambda row: link(row.port), "port__name"),
        Column(gettext_lazy("Node"), lambda row: link(row.node), "node__name"),
        Column(gettext_lazy("Certificate"), _known_by),
        Column(gettext_lazy("May assert"), _asserts),
        Column(gettext_lazy("State"), _port_state, "enabled"),
    ],
    search=("name", "subject", "sha256", "next_sha256", "node__name", "port__name"),
    rows=lambda rows: rows.select_related("port", "node"),
)


@require_http_methods(["GET", "POST"])
@permission_required("change_gateway")
def pair(request: HttpRequest) -> HttpResponse:
    """The external and the registration port of an edge: one form, both or neither."""
    form = PairForm(request.POST if request.method == "POST" else None, node=request.GET.get("node", ""))
    would_change = None
    if request.method == "POST" and form.is_valid():
        try:
            if "would_change" in request.POST:
                would_change = WouldChange(outlook(form.save, operator_of(request)), [])
                return render(request, "ports/pair.html", {"form": form, "would_change": would_change})
            message = "pair of external and registration port added"
            with transaction.atomic():
                with change_set(operator_of(request), message, address_of(request)) as recorder:
                    external, registration = form.save()
                if form.cleaned_data["goes_back"] and recorder.revision is not None:
                    unconfirmed.wait(recorder.revision)
        except ValidationError as error:
            form.external.take_errors(error)
        else:
            messages.success(
                request,
                gettext("Ports {external} and {registration} are saved.").format(
                    external=external, registration=registration
                ),
            )
            return redirect("ports-edit", external.pk)
    return render(request, "ports/pair.html", {"form": form}, status=422 if form.is_bound else 200)


urls = [
    pattern
    for noun in (NODES, SERVICES, APIS, ENDPOINTS, REGISTRATIONS)
    for pattern in urlpatterns(noun)
] + [
    path("ports/add/pair/", pair, name="ports-pair"),
    path("ports/add/<str:type>/", lambda r, type: _add_port(r, type), name="ports-add"),
    *urlpatterns(PORTS, with_add=False),
]  # fmt: skip


def _add_port(request: HttpRequest, type: str) -> HttpResponse:
    if type not in PortType.values:
        return redirect("ports-list")
    return edit_page(request, PORTS, None)
