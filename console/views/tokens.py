"""One's own tokens for the API: made, shown once, revoked."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST

from console import tokens
from console.forms.tokens import WORDS, TokenForm
from console.models import Token
from console.pace import never_too_often
from console.permissions import permission_required
from console.sign_in import confirmed
from console.views.pages import address_of, operator_of


@require_http_methods(["GET", "POST"])
@permission_required("view")
@confirmed
def own(request: HttpRequest) -> HttpResponse:
    """A new one is on this answer, and nowhere else from then on."""
    operator: Any = request.user
    form = TokenForm(operator, request.POST if request.method == "POST" else None)
    made, text = None, ""
    if form.is_bound and form.is_valid():
        data = form.cleaned_data
        try:
            made, text = tokens.create(operator, data["name"], data["scopes"], form.lifetime, address_of(request))
        except ValidationError as error:
            form.add_error(None, error)
    context = {
        "form": TokenForm(operator) if made else form,
        "made": made,
        "text": text,
        "base": request.build_absolute_uri("/api/v1/"),
        "rows": [(row, [WORDS[name] for name in row.scopes]) for row in operator.tokens.standing(timezone.now())],
    }
    return render(request, "account/tokens.html", context, status=422 if form.is_bound and made is None else 200)


@never_too_often
@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    token = get_object_or_404(Token, pk=pk, operator=request.user)
    if tokens.revoke(token, operator_of(request), address_of(request)):
        messages.success(
            request, gettext("Token {token} is revoked: nobody gets in with it from now on.").format(token=token)
        )
    return redirect("account-tokens")


urls = [
    path("account/tokens/", own, name="account-tokens"),
    path("account/tokens/<int:pk>/revoke/", revoke, name="account-tokens-revoke"),
]
