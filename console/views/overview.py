"""What needs attention, first; then the whole."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone

from console.nouns import url_of
from console.permissions import permission_required
from gateway.audit import current_revision
from gateway.models import ChangeSet, Node, Port, Registration, Service
from gateway.relay.control import ControlError, call
from identity.models import Certificate, Keystore, User
from identity.models.truststores import TrustedCertificate

SOON = timedelta(days=30)
ASK = 1.5  # seconds that a node has to answer


@permission_required("view")
def overview(request: HttpRequest) -> HttpResponse:
    nodes = list(Node.objects.all())
    states = _states([node.name for node in nodes])
    revision = current_revision()
    return render(
        request,
        "overview/page.html",
        {
            "nodes": [_node(node, states[node.name], revision) for node in nodes],
            "tunnels": _tunnels(states),
            "expiring": _expiring(),
            "unmapped": Certificate.objects.filter(user=None, blocked=False, usage="ssl_authentication").count(),
            "changes": ChangeSet.objects.all()[:6],
            "first_steps": _first_steps() if not nodes else [],
            "ports": Port.objects.select_related("node").order_by("node__name", "name")[:50],
        },
    )


def _states(names: list[str]) -> dict[str, dict[str, Any]]:
    """What each node tells of itself, asked all at once; `error` in words where it does not."""

    def ask(name: str) -> dict[str, Any]:
        try:
            return call(settings.POSTERN_STATE_DIR, name, {"op": "state"}, timeout=ASK)
        except ControlError as error:
            return {"error": str(error)}

    if not names:
        return {}
    with ThreadPoolExecutor(min(len(names), 16)) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def _node(node: Node, state: dict[str, Any], revision: int) -> dict[str, Any]:
    if "error" in state:
        return {"node": node, "url": url_of(node), "kind": "bad", "status": "not running", "words": state["error"]}
    if state["revision"] != revision:
        words = f"Revision {state['revision']} is in force; {revision} is on its way."
        return {"node": node, "url": url_of(node), "kind": "warn", "status": "catching up", "words": words}
    words = f"Revision {revision} is in force; {state['in_flight']} requests in flight, {state['requests']} served."
    return {"node": node, "url": url_of(node), "kind": "ok", "status": "running", "words": words}


def _tunnels(states: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each registration, as its edge sees it."""
    seen: dict[str, dict[str, Any]] = {}
    for state in states.values():
        for tunnel in state.get("tunnels", []):
            if "problem" not in tunnel:  # the edge's own view
                seen[tunnel["registration"]] = tunnel
    problems = {
        t["registration"]: t["problem"] for s in states.values() for t in s.get("tunnels", []) if t.get("problem")
    }
    rows = []
    for registration in Registration.objects.select_related("port__node", "node"):
        tunnel = seen.get(registration.name)
        if not registration.enabled:
            kind, status = "soft", "disabled"
        elif tunnel is None:
            kind, status = "bad", "down"
        elif tunnel["idle"] == 0:
            kind, status = "warn", "degraded: all busy"
        else:
            kind, status = "ok", "healthy"
        rows.append({
            "registration": registration, "url": url_of(registration), "kind": kind, "status": status,
            "idle": tunnel["idle"] if tunnel else 0, "busy": tunnel["busy"] if tunnel else 0,
            "problem": problems.get(registration.name, ""),
        })  # fmt: skip
    return rows


def _expiring() -> list[dict[str, Any]]:
    limit = timezone.now() + SOON
    rows: list[dict[str, Any]] = []
    for certificate in Certificate.objects.filter(not_after__lt=limit, blocked=False).order_by("not_after")[:8]:
        rows.append({"label": certificate.subject, "url": url_of(certificate), "not_after": certificate.not_after})
    for keystore in Keystore.objects.filter(not_after__lt=limit).order_by("not_after")[:8]:
        rows.append({"label": f"keystore {keystore}", "url": url_of(keystore), "not_after": keystore.not_after})
    authorities = TrustedCertificate.objects.filter(not_after__lt=limit).select_related("truststore")
    for anchor in authorities.order_by("not_after")[:8]:
        label, url = f"authority {anchor.subject}", url_of(anchor.truststore)
        rows.append({"label": label, "url": url, "not_after": anchor.not_after})
    return sorted(rows, key=lambda row: row["not_after"])[:8]


def _first_steps() -> list[tuple[str, str, bool]]:
    """From nothing to the first answer: what to do, where, and whether it is done."""
    return [
        ("Add an edge node and an internal node", reverse("nodes-add"), Node.objects.exists()),
        ("Add keystores: what the ports show", reverse("keystores-add"), Keystore.objects.exists()),
        ("Add a truststore: whose certificates are believed", reverse("truststores-add"),
         TrustedCertificate.objects.exists()),
        ("Add the edge's pair of ports", reverse("ports-pair"), Port.objects.exists()),
        ("Add a registration for the internal node", reverse("registrations-add"), Registration.objects.exists()),
        ("Add its internal port, which dials the edge", reverse("ports-add", args=["internal"]),
         Port.objects.filter(type="internal").exists()),
        ("Add a service on the internal node", reverse("services-add"), Service.objects.exists()),
        ("Add a user", reverse("users-add"), User.objects.mappable().exists()),
        ("Upload the partner's certificate and map it", reverse("certificates-add"), Certificate.objects.exists()),
        ("Test invoke", reverse("invoke"), False),
    ]  # fmt: skip


urls = [path("", overview, name="overview")]
