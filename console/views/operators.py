"""The operators, kept by owners."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console import factors, sessions, tokens
from console.forms.operators import OperatorForm
from console.models import Operator
from console.operators import changed, entry_of
from console.operators import end_sessions as sessions_ended
from console.pace import never_too_often
from console.permissions import permission_required
from console.sign_in import confirmed
from console.views.pages import address_of, operator_of


@require_safe
@permission_required("change_operators")
def operators(request: HttpRequest) -> HttpResponse:
    rows = Operator.objects.select_related("authenticator").prefetch_related("passkeys")
    return render(request, "account/operators.html", {"operators": rows})


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@permission_required("change_operators")
@confirmed
def operator(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    if request.method != "POST":
        return _operator(request, pk)
    with transaction.atomic():  # that an owner remains is checked and done at once
        return _operator(request, pk)


def _operator(request: HttpRequest, pk: int | None) -> HttpResponse:
    row: Any = get_object_or_404(Operator, pk=pk) if pk else None
    before = entry_of(row) if row else None
    form = OperatorForm(request.POST if request.method == "POST" else None, instance=row, by=request.user)
    if form.is_bound and form.is_valid():
        saved = form.save()
        new_password = bool(form.cleaned_data.get("new_password"))
        own = request.session.session_key if saved.pk == request.user.pk else None
        changed(saved, before, operator_of(request), address_of(request), new_password=new_password, but=own)
        if saved.pk == request.user.pk and new_password:
            update_session_auth_hash(request, saved)
        messages.success(request, gettext("Operator {saved} is saved.").format(saved=saved))
        return redirect("operators")
    context: dict[str, Any] = {"form": form, "row": row}
    if row is not None:
        context |= {
            "sessions": sessions.of_operator(row, request.session.session_key),
            "factors": entry_of(row).get("second_factors", []),
            "tokens": row.tokens.standing(timezone.now()),
        }
    return render(request, "account/operator.html", context, status=422 if form.is_bound else 200)


@never_too_often
@require_POST
@permission_required("change_operators")
@confirmed
def remove_factors(request: HttpRequest, pk: int) -> HttpResponse:
    """For an operator who has lost them; his own are removed on his own page, where more is asked."""
    row = get_object_or_404(Operator, pk=pk)
    if row.pk == request.user.pk:
        messages.error(request, gettext("Your own second factors are on the page My account."))
        return redirect("operators-edit", pk)
    factors.take_away(row, operator_of(request), address_of(request))
    messages.success(request, gettext("{name} has no second factor any more, and is logged out.").format(name=row))
    return redirect("operators-edit", pk)


@never_too_often
@require_POST
@permission_required("change_operators")
@transaction.atomic
def end_sessions(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(Operator, pk=pk)
    own = request.session.session_key if row.pk == request.user.pk else None
    count = sessions_ended(row, operator_of(request), address_of(request), but=own)
    messages.success(
        request,
        ngettext("{count} session of {operator} ended.", "{count} sessions of {operator} ended.", count).format(
            count=count, operator=row
        ),
    )
    return redirect("operators-edit", pk)


@never_too_often
@require_POST
@permission_required("change_operators")
@transaction.atomic
def revoke_tokens(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(Operator, pk=pk)
    count = tokens.revoke_all(row, operator_of(request), address_of(request))
    messages.success(
        request,
        ngettext("{count} token of {operator} revoked.", "{count} tokens of {operator} revoked.", count).format(
            count=count, operator=row
        ),
    )
    return redirect("operators-edit", pk)


urls = [
    path("operators/", operators, name="operators"),
    path("operators/add/", operator, name="operators-add"),
    path("operators/<int:pk>/", operator, name="operators-edit"),
    path("operators/<int:pk>/remove-factors/", remove_factors, name="operators-remove-factors"),
    path("operators/<int:pk>/end-sessions/", end_sessions, name="operators-end-sessions"),
    path("operators/<int:pk>/revoke-tokens/", revoke_tokens, name="operators-revoke-tokens"),
]
