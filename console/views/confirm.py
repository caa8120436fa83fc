"""Being asked again who one is, before anything secret or dangerous."""

import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from console.authentication import locked_until, note_failure
from console.forms.operators import CodeForm, ConfirmForm
from console.pace import never_too_often
from console.permissions import without_second_factor
from console.sessions import PROVED
from console.sign_in import safe_next
from console.views.login import ask, has_passkey, prove, too_many
from console.views.pages import address_of


@never_too_often
@without_second_factor
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """By password, by a code, or by a passkey: whichever the operator has."""
    operator: Any = request.user
    next_url = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    by_password = ConfirmForm(request.POST if "password" in request.POST else None)
    by_code = CodeForm(request.POST if "code" in request.POST else None)
    problem = ""
    if request.method == "POST":
        problem = _prove_password(request, by_password) if by_password.is_bound else prove(request, operator)[1]
        if not problem:
            request.session[PROVED] = time.time()
            return redirect(next_url)
        for form, name in ((by_password, "password"), (by_code, "code")):
            if form.is_bound and form.is_valid():
                form.add_error(name, problem)
    context = {
        "next": next_url,
        "by_password": by_password if operator.has_usable_password() else None,
        "by_code": by_code if operator.has_second_factor else None,
        "problem": problem if "answer" in request.POST else "",
        "single_sign_on": settings.CONSOLE_OIDC_NAME if operator.single_sign_on else "",
    }
    context |= {"question": ask(request, operator)} if has_passkey(request, operator) else {}
    return render(request, "account/confirm.html", context, status=422 if request.method == "POST" else 200)


def _prove_password(request: HttpRequest, form: ConfirmForm) -> str:
    """What was wrong; "" where it is the operator's password."""
    operator: Any = request.user
    address = address_of(request) or ""
    if (until := locked_until(operator.username, address)) is not None:
        return too_many(until)
    if form.is_valid() and operator.check_password(form.cleaned_data["password"]):
        return ""
    note_failure(operator.username, address)
    return gettext("This is not your password.")


urls = [path("confirm/", confirm, name="confirm")]
