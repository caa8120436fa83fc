"""The guided way from nothing to the first test invoke, each step with its state and a small form."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from console.attention import NodeState, ask_nodes
from console.first_run import Step, carry_out, commands, everything, steps
from console.invocation import Invocation, InvocationError, tried
from console.permissions import permission_required
from console.report import report
from console.sign_in import confirmed
from console.views.pages import address_of, operator_of
from gateway.audit import change_set, current_revision
from gateway.models import Node, Port, PortType, Service
from identity.models import Certificate


@require_http_methods(["GET", "POST"])
@permission_required("change_identity")
@confirmed
def start(request: HttpRequest) -> HttpResponse:
    step = request.POST.get("step", "") if request.method == "POST" else ""
    if step == "try":
        return _try(request)
    known = _steps(request)
    if step == "all":
        return _written(request, known, "everything of the trial made", everything) or redirect("start")
    chosen = next((each for each in known if each.key == step and each.form is not None), None)
    if request.method != "POST" or chosen is None or chosen.form is None:
        return _page(request, known, status=422 if request.method == "POST" else 200)
    if chosen.done:
        return redirect("start")
    form = chosen.form(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, known, form=form, status=422)
    what = f"first steps: {chosen.title.lower()}"
    return _written(request, known, what, lambda: carry_out(step, form.cleaned_data), form) or redirect("start")


def _written(request: HttpRequest, known: list[Step], what: str, act: Any, form: Any = None) -> HttpResponse | None:
    """All that a step writes, or none of it: then the page that says why."""
    problems = []
    try:
        with change_set(operator_of(request), what, address_of(request)):
            act()
    except ValidationError as error:
        problems = error.messages
    except IntegrityError:
        problems = [gettext("One of its names is taken already; somebody else may have made it meanwhile.")]
    else:
        messages.success(request, gettext("Done: {what}.").format(what=what))
        return None
    return _page(request, known, form=form, problems=problems, status=422)


def _steps(request: HttpRequest) -> list[Step]:
    return steps(_states(request), current_revision())


def _states(request: HttpRequest) -> list[NodeState]:
    """Of the nodes, asked once for each request."""
    found: list[NodeState] | None = getattr(request, "node_states", None)
    if found is None:
        found = request.node_states = ask_nodes(Node.objects.all())  # type: ignore[attr-defined]
    return found


def _page(request: HttpRequest, known: list[Step], *, status: int = 200, **context: Any) -> HttpResponse:
    following = next((each for each in known if not each.done), None)
    form = context.pop("form", None) or (following.form() if following and following.form else None)
    waits = following is not None and following.key == "run"
    context |= {
        "steps": known,
        "next": following,
        "form": form,
        "commands": commands(_states(request)) if waits else [],
        "nothing": not any(each.done for each in known[:5]),
        "finished": following is None,
        "refresh": waits and request.method == "GET",
        "trial": SimpleLazyObject(_caller_and_place),  # the last step alone asks for it
    }
    return render(request, "start/page.html", context, status=status)


def _caller_and_place() -> tuple[Certificate, Port, Service] | None:
    certificate = Certificate.objects.filter(user__isnull=False, blocked=False).select_related("user").first()
    port = Port.objects.listening().of_type(PortType.EXTERNAL).select_related("node").first()
    service = Service.objects.order_by("name").first()
    return (certificate, port, service) if certificate and port and service else None


def _try(request: HttpRequest) -> HttpResponse:
    found = _caller_and_place()
    if found is None:
        return _page(request, _steps(request), status=422)
    certificate, port, service = found
    invocation = Invocation(port, "GET", service.path, credential="certificate", certificate=certificate)
    try:
        answer = tried(operator_of(request), address_of(request), invocation)
    except InvocationError as error:
        return _page(request, _steps(request), problems=[str(error)], status=503)
    return _page(request, _steps(request), report=report(invocation, answer))


urls = [path("start/", start, name="start")]
