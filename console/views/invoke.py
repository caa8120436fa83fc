"""Test invoke: a real request through the running nodes, and why it ended as it did."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_http_methods

from console.curl import curl
from console.forms.invoke import InvokeForm
from console.invocation import Invocation, InvocationError, body_text, ran_as, tried
from console.permissions import permission_required
from console.report import report
from console.views.pages import address_of, operator_of
from identity.core.certificates import pem_of
from identity.models import Certificate

KEPT = ("port", "method", "path", "credential", "certificate", "keystore", "username", "headers", "body")
PREFILLED = ("port", "method", "path", "credential", "certificate", "keystore", "username")


@require_http_methods(["GET", "POST"])
@permission_required("test_invoke")
def invoke(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        form = InvokeForm(initial=_initial(request))
        return render(request, "invoke/page.html", {"form": form, "ports": _has_ports(form)})
    form = InvokeForm(request.POST, request.FILES)
    context: dict[str, Any] = {"form": form, "ports": _has_ports(form), "simulated": "simulate" in request.POST}
    if not form.is_valid():
        return render(request, "invoke/page.html", context, status=422)
    invocation = form.invocation()
    try:
        answer = tried(operator_of(request), address_of(request), invocation, simulate=context["simulated"])
    except InvocationError as error:
        return render(request, "invoke/page.html", context | {"problem": str(error)}, status=503)
    context |= {"answer": answer, "report": report(invocation, answer), "curl": curl(invocation)}
    if not context["simulated"]:
        context["kept"] = _kept(form, invocation, answer)
        context["body"] = body_text(answer)
    return render(request, "invoke/page.html", context)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """From a link elsewhere: ?port=NAME&path=/orders&certificate=ID."""
    found = {name: request.GET[name] for name in PREFILLED if name in request.GET}
    if "credential" not in found:
        likely = next((name for name in ("certificate", "keystore") if name in found), "")
        found["credential"] = likely or ("certificate" if Certificate.objects.exists() else "none")
    return found


def _kept(form: InvokeForm, invocation: Invocation, answer: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a test that is saved from this is filled in with; the password is not among it."""
    sent = [(name, form.data.get(name, "")) for name in KEPT]
    expected = {
        "expected_status": answer["status"],
        "expected_reason": answer.get("reason") or "",
        "expected_user": ran_as(answer),
    }
    return [*sent, ("pem", pem_of(invocation.pem)), *expected.items()]


def _has_ports(form: InvokeForm) -> bool:
    return bool(form.fields["port"].choices)  # type: ignore[attr-defined]


urls = [path("invoke/", invoke, name="invoke")]
