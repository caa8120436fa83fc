"""Logging in and out, one's own account, and the operators."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from console.authentication import forget_failures, locked_until, note_failure
from console.forms.operators import LoginForm, OperatorForm, PasswordForm
from console.models import Operator
from console.permissions import permission_required, public
from console.views.pages import address_of, operator_of
from gateway.audit import record_operators


@public
@never_cache
@csrf_protect
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    form = LoginForm(request.POST if request.method == "POST" else None)
    next_url = request.POST.get("next") or request.GET.get("next", "")
    if form.is_bound and form.is_valid():
        username, password = form.cleaned_data["username"], form.cleaned_data["password"]
        address = address_of(request) or ""
        until = locked_until(username, address)
        operator = authenticate(request, username=username, password=password)  # takes as long while locked
        if until is not None:
            form.add_error(None, f"Too many wrong passwords. Try again after {until:%H:%M} UTC.")
        elif operator is None:
            note_failure(username, address)
            form.add_error(None, "User name or password is wrong.")
        else:
            forget_failures(username)
            login(request, operator)
            if url_has_allowed_host_and_scheme(next_url, {request.get_host()}, request.is_secure()):
                return redirect(next_url)
            return redirect("overview")
    return render(request, "account/login.html", {"form": form, "next": next_url}, status=422 if form.is_bound else 200)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("login")


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    operator: Operator = request.user  # type: ignore[assignment]
    form = PasswordForm(operator, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        operator.set_password(form.cleaned_data["new_password"])
        operator.save()
        update_session_auth_hash(request, operator)
        messages.success(request, "Your password is changed; every other session of yours has ended.")
        return redirect("account")
    return render(request, "account/account.html", {"form": form}, status=422 if form.is_bound else 200)


@permission_required("change_operators")
def operators(request: HttpRequest) -> HttpResponse:
    return render(request, "account/operators.html", {"operators": Operator.objects.all()})


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@permission_required("change_operators")
def operator(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    row: Any = get_object_or_404(Operator, pk=pk) if pk else None
    form = OperatorForm(request.POST if request.method == "POST" else None, instance=row)
    if form.is_bound and form.is_valid():
        before = _entry(Operator.objects.get(pk=pk)) if pk else None
        saved = form.save()
        record_operators(operator_of(request), address_of(request), saved.username, before, _entry(saved))
        if saved.pk == request.user.pk and form.cleaned_data.get("new_password"):
            update_session_auth_hash(request, saved)
        messages.success(request, f"Operator {saved} is saved.")
        return redirect("operators")
    return render(request, "account/operator.html", {"form": form, "row": row}, status=422 if form.is_bound else 200)


def _entry(row: Operator) -> dict[str, Any]:
    return {"name": row.username, "full_name": row.full_name, "role": row.role, "active": row.is_active}


@public
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


urls = [
    path("login/", log_in, name="login"),
    path("logout/", log_out, name="logout"),
    path("account/", account, name="account"),
    path("operators/", operators, name="operators"),
    path("operators/add/", operator, name="operators-add"),
    path("operators/<int:pk>/", operator, name="operators-edit"),
    path("healthz", healthz, name="healthz"),
]
