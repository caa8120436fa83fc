"""Logging in, step by step, and out."""

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from console import factors, passkeys, sessions
from console.authentication import locked_until, note_failure
from console.forms.operators import CodeForm, LoginForm
from console.models import Operator
from console.pace import never_too_often
from console.passkeys import PasskeyRefused
from console.permissions import public, with_one_time_password, without_second_factor
from console.sign_in import PASSKEY, PASSWORD, begin_half, half_login, safe_next, sign_in
from console.views.pages import address_of

QUESTION = "passkey_question"  # key in a session: what has to be remembered of it
_ANONYMOUS_SECONDS = 300  # that the session of who has not logged in lasts


@public
@never_cache
@csrf_protect
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    form = LoginForm(request.POST if request.method == "POST" else None)
    next_url = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    if form.is_bound and form.is_valid():
        username, password = form.cleaned_data["username"], form.cleaned_data["password"]
        address = address_of(request) or ""
        until = locked_until(username, address)
        operator: Any = authenticate(request, username=username, password=password)  # takes as long while locked
        if until is not None:
            form.add_error(None, too_many(until))
        elif operator is None:
            note_failure(username, address)
            form.add_error(None, gettext("User name or password is wrong."))
        elif operator.has_second_factor:
            begin_half(request, operator, next_url)
            _is_anonymous(request)
            return redirect("login-second")
        else:
            sign_in(request, operator, PASSWORD)
            return redirect(next_url)
    context = {
        "form": form,
        "next": next_url,
        "single_sign_on": settings.CONSOLE_OIDC_ISSUER and settings.CONSOLE_OIDC_NAME,
    }
    return render(request, "account/login.html", context, status=422 if form.is_bound else 200)


def too_many(until: Any) -> str:
    return gettext("Too many wrong passwords. Try again after {until:%H:%M} UTC.").format(until=until)


def _is_anonymous(request: HttpRequest) -> None:
    """A session of nobody's is gone soon, so that asking for many fills no table."""
    sessions.remove_expired()
    request.session.set_expiry(_ANONYMOUS_SECONDS)


@public
@never_cache
@csrf_protect
@sensitive_post_parameters("code", "answer")
@require_http_methods(["GET", "POST"])
def second(request: HttpRequest) -> HttpResponse:
    """The second proof: a code, a recovery code, or a passkey."""
    half = half_login(request)
    if half is None:
        return redirect("login")
    operator, next_url = half
    form = CodeForm(request.POST if "code" in request.POST else None)
    problem = ""
    if request.method == "POST":
        how, problem = prove(request, operator)
        if how:
            sign_in(request, operator, f"{PASSWORD} and {how}")
            return redirect(next_url)
        if form.is_bound:
            form.is_valid()
            form.add_error("code", problem)
    context = {"form": form, "problem": "" if form.is_bound else problem, "operator": operator}
    context |= {"question": ask(request, operator)} if has_passkey(request, operator) else {}
    return render(request, "account/second.html", context, status=422 if request.method == "POST" else 200)


@public
@never_cache
@csrf_protect
@sensitive_post_parameters("answer")
@require_http_methods(["GET", "POST"])
def with_passkey(request: HttpRequest) -> HttpResponse:
    """A passkey says by itself who logs in, and proves it."""
    problem = ""
    next_url = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    if request.method == "POST":
        operator, problem = _operator_of_passkey(request)
        if operator is not None:
            sign_in(request, operator, PASSKEY)
            return redirect(next_url)
    if not request.user.is_authenticated:
        _is_anonymous(request)
    context = {"question": ask(request, None), "problem": problem, "next": next_url}
    return render(request, "account/passkey_login.html", context, status=422 if problem else 200)


@never_too_often
@with_one_time_password
@without_second_factor
@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("login")


# --- proofs, for every page that takes them ---


def has_passkey(request: HttpRequest, operator: Operator) -> bool:
    return bool(passkeys.of(operator, request.get_host()))


def ask(request: HttpRequest, operator: Operator | None) -> str:
    """A question for the browser; the one before is answered no more."""
    question, request.session[QUESTION] = passkeys.ask_to_prove(request.get_host(), operator)
    return question


def prove(request: HttpRequest, operator: Operator) -> tuple[str, str]:
    """How the operator proved himself by what was posted, in words; or "" and what was wrong."""
    address = address_of(request) or ""
    if (until := locked_until(operator.username, address)) is not None:
        return "", too_many(until)
    if "answer" in request.POST:
        found, problem = _answered(request)
        how = PASSKEY if found is not None and found.pk == operator.pk else ""
    else:
        how = factors.prove_code(operator, request.POST.get("code", "")[:64])
        problem = gettext("This code is wrong, or was used already. An app's code changes every 30 seconds.")
    if how:
        return how, ""
    note_failure(operator.username, address)
    return "", problem or gettext("This passkey is another operator's.")


def _operator_of_passkey(request: HttpRequest) -> tuple[Operator | None, str]:
    operator, problem = _answered(request)
    if operator is None:
        note_failure("", address_of(request) or "")
        return None, problem
    if (until := locked_until(operator.username, address_of(request) or "")) is not None:
        return None, too_many(until)
    if not operator.is_active:
        return None, gettext("This passkey is not known here, or its answer does not hold.")
    return operator, ""


def _answered(request: HttpRequest) -> tuple[Operator | None, str]:
    """Whose passkey it was that answered the question, which is over then; or what was wrong."""
    try:
        used = passkeys.prove(request.get_host(), request.session.pop(QUESTION, None), request.POST.get("answer", ""))
    except PasskeyRefused as error:
        return None, str(error)
    if not factors.note_use(used):
        return None, gettext("This answer was given already.")
    return used.operator, ""


urls = [
    path("login/", log_in, name="login"),
    path("login/second/", second, name="login-second"),
    path("login/passkey/", with_passkey, name="login-passkey"),
    path("logout/", log_out, name="logout"),
]
