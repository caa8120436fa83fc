"""Test invoke: a real request through the running nodes, and why it ended as it did."""

import base64
import json
from typing import Any

from django.conf import settings
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.views.decorators.http import require_http_methods

from console.forms.invoke import InvokeForm
from console.nouns import url_of
from console.permissions import permission_required
from console.views.pages import address_of, operator_of
from gateway.audit import record_test
from gateway.core.reasons import BY_CODE, REASONS
from gateway.models import API, Port, Service
from gateway.relay.control import ControlError, call
from gateway.simulation import simulate
from identity.models import Certificate, User

TIMEOUT = 30.0  # seconds for a test invoke
SHOWN = 64 * 1024  # bytes of a body


@require_http_methods(["GET", "POST"])
@permission_required("test_invoke")
def invoke(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return render(request, "invoke/page.html", {"form": InvokeForm(initial=_initial(request))})
    form = InvokeForm(request.POST)
    if not form.is_valid():
        return render(request, "invoke/page.html", {"form": form}, status=422)
    data = form.cleaned_data
    simulated = "simulate" in request.POST
    try:
        result = _simulate(data) if simulated else _invoke(data)
    except (ControlError, LookupError) as error:
        return render(request, "invoke/page.html", {"form": form, "problem": str(error)}, status=503)
    _record(request, data, result, simulated)
    return render(request, "invoke/page.html", {"form": form, "result": _shown(result, data, simulated)})


def _initial(request: HttpRequest) -> dict[str, Any]:
    """From a link elsewhere: ?port=NAME&target=/path&certificate=ID."""
    found = {name: request.GET[name] for name in ("port", "target", "method", "certificate") if name in request.GET}
    return {"credential": "certificate" if Certificate.objects.exists() else "none"} | found


def _invoke(data: dict[str, Any]) -> dict[str, Any]:
    port: Port = data["port"]
    chain = _chain(data)
    message = {
        "op": "invoke",
        "port": port.name,
        "method": data["method"],
        "target": data["target"],
        "headers": data["headers"],
        "body": base64.b64encode(data["body"].encode()).decode(),
        "certificate": base64.b64encode(chain[0]).decode() if chain else None,
        "chain": [base64.b64encode(der).decode() for der in chain[1:]],
        "username": data["username"] if data["credential"] == "password" else None,
        "password": data["password"] if data["credential"] == "password" else None,
        "timeout": TIMEOUT,
    }
    return call(settings.POSTERN_STATE_DIR, port.node.name, message, timeout=TIMEOUT + 5.0)


def _simulate(data: dict[str, Any]) -> dict[str, Any]:
    chain = _chain(data)
    by_password = data["credential"] == "password"
    return simulate(
        data["port"].name,
        data["method"],
        data["target"],
        certificate=chain[0] if chain else None,
        chain=chain[1:],
        username=data["username"] if by_password else None,
        password=data["password"] if by_password else None,
    )


def _chain(data: dict[str, Any]) -> list[bytes]:
    if data["credential"] == "certificate":
        return [bytes(data["certificate"].der)]
    if data["credential"] == "keystore":
        return [certificate.der for certificate in data["keystore"].certificates]
    return []


def _record(request: HttpRequest, data: dict[str, Any], result: dict[str, Any], simulated: bool) -> None:
    """Who tried what as whom, and what came of it: without password, body and headers."""
    shown = {"certificate": data["certificate"], "keystore": data["keystore"], "password": data["username"]}
    record_test(
        operator_of(request),
        f"{'simulated' if simulated else 'test invoke'}: {data['method']} {data['target'][:200]} at {data['port'].name}",
        address_of(request),
        data["port"].name,
        {
            "method": data["method"],
            "target": data["target"],
            "as": f"{data['credential']} {shown.get(data['credential']) or ''}".strip(),
            "status": result["status"],
            "reason": result.get("reason"),
            "trace_id": result.get("trace_id"),
        },
    )


def _shown(result: dict[str, Any], data: dict[str, Any], simulated: bool) -> dict[str, Any]:
    reason = BY_CODE.get(result.get("reason") or "")
    lanes = result["lanes"]
    return result | {
        "simulated": simulated,
        "info": REASONS[reason] if reason else None,
        "text": _body(result) if not simulated else "",
        "ok": result["status"] < 400,
        "failed": _failed(lanes),
        "remedies": _remedies(lanes, data),
        "shown_as": _shown_as(data),
        "lanes": lanes,
    }


def _shown_as(data: dict[str, Any]) -> str:
    match data["credential"]:
        case "certificate":
            return str(data["certificate"].subject)
        case "keystore":
            return str(data["keystore"].subject)
        case "password":
            return f"user {data['username']}"
    return "no credential"


def _body(result: dict[str, Any]) -> str:
    raw = base64.b64decode(result["body"])
    text = raw.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _failed(lanes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The check that decided against the request: the innermost, for it is the cause of those before it."""
    for lane in reversed(lanes):
        for step in lane["steps"]:
            if not step["passed"]:
                info = REASONS[BY_CODE[lane["reason"]]] if lane["reason"] in BY_CODE else None
                return {"lane": lane, "step": step, "info": info}
    return None


def _remedies(lanes: list[dict[str, Any]], data: dict[str, Any]) -> list[tuple[str, str]]:
    """Links to what could be changed so that it passes."""
    if not lanes or not lanes[-1]["reason"]:
        return []
    lane = next((each for each in reversed(lanes) if each["reason"]), lanes[-1])
    found: list[tuple[str, str | None]] = []
    match lane["reason"]:
        case "certificate_unmapped" | "mapping_ambiguous":
            if data["credential"] == "certificate":
                found.append((f"Map certificate {data['certificate']}", url_of(data["certificate"])))
        case "acl_denied" | "authentication_required":
            guarded = _guarded(lane["route"])
            if guarded is not None and guarded.execute_acl:
                found.append((f"Open ACL {guarded.execute_acl}", url_of(guarded.execute_acl)))
            elif guarded is not None:
                found.append((f"Choose an ACL for {guarded}", url_of(guarded)))
            found.append(_page_of(User, lane["user"]))
        case "user_disabled":
            found.append(_page_of(User, lane["user"]))
        case "service_not_on_port" | "ip_denied" | "certificate_required" | "certificate_untrusted":
            found.append(_page_of(Port, lane["port"]))
        case "not_found":
            found.append(("Add a service", reverse("services-add")))
    return [(label, url) for label, url in found if url]


def _guarded(route: str) -> Service | API | None:
    kind, _, name = route.partition(" ")
    model = API if kind == "API" else Service
    return model.objects.select_related("execute_acl").filter(name=name).first()


def _page_of(model: type[Model], name: str | None) -> tuple[str, str | None]:
    row = model._default_manager.filter(name=name).first() if name else None
    return (f"Open {model._meta.verbose_name} {row}", url_of(row)) if row else ("", None)


urls = [path("invoke/", invoke, name="invoke")]
