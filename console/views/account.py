"""One's own account: password, second factors, sessions."""

import base64
import time
from typing import Any

import segno
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from console import factors, operators, passkeys, sessions, totp
from console.authentication import locked_until, note_failure
from console.factors import FactorNeeded
from console.forms.operators import CodeForm, PasskeyForm, PasswordForm
from console.models import Authenticator, Operator, Passkey
from console.operators import choose_password, entry_of
from console.pace import never_too_often
from console.passkeys import PasskeyRefused
from console.permissions import public, with_one_time_password, without_second_factor
from console.sign_in import confirmed, has_to_choose
from console.views.login import too_many
from console.views.pages import address_of, operator_of
from gateway.audit import record_operators
from gateway.models import Change, ChangeSet
from identity.core.vault import VaultError
from identity.models import sealing

LATELY = 12  # of what was done with an account, on its page
_PENDING_SECRET, _PENDING_PASSKEY = "pending_secret", "pending_passkey"
_NEVER_AN_ADDRESS = gettext_lazy(
    "This console is called by an address. Passkeys need a name, over HTTPS, or localhost."
)


@never_too_often
@with_one_time_password
@without_second_factor
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    operator = _operator(request)
    form = PasswordForm(operator, request.POST if request.method == "POST" else None)
    if form.is_bound:
        _no_guessing(request, form)
    if form.is_bound and form.is_valid():
        choose_password(operator, form.cleaned_data["new_password"], operator)
        operator.save(update_fields=["password", "one_time_password"])
        update_session_auth_hash(request, operator)
        sessions.end_all(operator, but=request.session.session_key)
        entry = entry_of(operator)
        record_operators(
            operator_of(request), address_of(request), operator.username, entry, entry | {"password": "set anew"}
        )
        messages.success(request, gettext("Your password is changed; every other session of yours has ended."))
        return redirect("account")
    context = {
        "form": form if operator.has_usable_password() else None,
        "authenticator": Authenticator.objects.filter(operator=operator).first(),
        "passkeys": operator.passkeys.all(),
        "codes": operator.recovery_codes.filter(used_at=None).count(),
        "has_factor": operator.has_second_factor,
        "required": factors.is_required(),
        "one_time": has_to_choose(request),
        "sessions": sessions.of_operator(operator, request.session.session_key),
        "lately": _lately(operator),
        "tokens": operator.tokens.standing(timezone.now()).count(),
        "may_tokens": operator.may("view"),
        "chosen_language": request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME),
    }
    return render(request, "account/account.html", context, status=422 if form.is_bound else 200)


def _lately(operator: Operator) -> list[ChangeSet]:
    """What was done with this account and what it gets in by, logins too: nobody does it behind his back."""
    about = Q(kind="operators", name=operator.username) | Q(kind="tokens", after__operator=operator.username)
    found = Change.objects.filter(about | Q(kind="tokens", before__operator=operator.username))
    return list(ChangeSet.objects.filter(pk__in=found.values("change_set")).order_by("-pk")[:LATELY])


def _no_guessing(request: HttpRequest, form: PasswordForm) -> None:
    """Whoever sits at somebody's open session tries the password here no oftener than at the login."""
    name, address = operator_of(request), address_of(request) or ""
    if (until := locked_until(name, address)) is not None:
        form.errors.clear()
        form.add_error("current_password", too_many(until))
    elif "current_password" in form.errors:
        note_failure(name, address)


def _operator(request: HttpRequest) -> Operator:
    return request.user  # type: ignore[return-value]


# --- second factors ---


@without_second_factor
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@confirmed
def authenticator(request: HttpRequest) -> HttpResponse:
    """The secret is taken on once the app has shown a code of it."""
    operator = _operator(request)
    place = f"console.authenticator:{operator.pk}:pending"
    form = CodeForm(request.POST if request.method == "POST" else None)
    secret = _pending(request, place)
    if form.is_bound and form.is_valid() and secret is not None:
        given = "".join(form.cleaned_data["code"].split())
        step = totp.step_of(secret, given, now=time.time(), after=0)
        if step is not None:
            del request.session[_PENDING_SECRET]
            factors.add_authenticator(operator, secret, step, operator_of(request), address_of(request))
            messages.success(request, gettext("Your authenticator app is set up."))
            return _after_adding(request)
        form.add_error(
            "code",
            gettext("The app shows another code. Wait for the next one; if that is wrong too, compare the clocks."),
        )
    if secret is None:
        secret = totp.new_secret()
        request.session[_PENDING_SECRET] = base64.b64encode(sealing.vault().seal(secret, place)).decode()
    address = totp.address_of(secret, "Postern", operator.username)
    image = segno.make(address, error="m").svg_inline(
        omitsize=True, border=2, svgclass="qr", lineclass=None, light="#fff"
    )
    context = {"form": form, "image": image, "secret": totp.text_of(secret)}
    return render(request, "account/authenticator.html", context, status=422 if form.is_bound else 200)


def _pending(request: HttpRequest, place: str) -> bytes | None:
    """The secret that is on its way into an app."""
    try:
        return sealing.vault().open(base64.b64decode(request.session.get(_PENDING_SECRET, "")), place)
    except VaultError:
        return None


@without_second_factor
@require_http_methods(["GET", "POST"])
@confirmed
def passkey(request: HttpRequest) -> HttpResponse:
    operator, host = _operator(request), request.get_host()
    form = PasskeyForm(request.POST if request.method == "POST" else None)
    name = passkeys.name_of(host)
    problem = "" if any(letter.isalpha() for letter in name) and ":" not in name else _NEVER_AN_ADDRESS
    if form.is_bound and form.is_valid() and not problem:
        state, answer = request.session.pop(_PENDING_PASSKEY, None), form.cleaned_data["answer"]
        try:
            made = passkeys.make(operator, host, form.cleaned_data["name"], state, answer)
        except PasskeyRefused as error:
            problem = str(error)
        else:
            factors.add_passkey(made, operator_of(request), address_of(request))
            messages.success(
                request,
                gettext("Passkey {made} is set up. From now on you can log in with it alone.").format(made=made),
            )
            return _after_adding(request)
    context: dict[str, Any] = {"form": form, "problem": problem}
    if problem != _NEVER_AN_ADDRESS:
        context["question"], request.session[_PENDING_PASSKEY] = passkeys.ask_to_make(operator, host)
    return render(request, "account/passkey.html", context, status=422 if form.is_bound else 200)


def _after_adding(request: HttpRequest) -> HttpResponse:
    """With the first factor come the codes for the day when it is lost."""
    operator = _operator(request)
    return redirect("account") if operator.recovery_codes.filter(used_at=None).exists() else _show_codes(request)


def _show_codes(request: HttpRequest) -> HttpResponse:
    codes = factors.new_recovery_codes(_operator(request), operator_of(request), address_of(request))
    return render(request, "account/recovery_codes.html", {"codes": codes})


@without_second_factor
@require_POST
@confirmed
def recovery_codes(request: HttpRequest) -> HttpResponse:
    if not _operator(request).has_second_factor:
        messages.error(request, gettext("Recovery codes stand in for a second factor; add one first."))
        return redirect("account")
    return _show_codes(request)


@require_POST
@confirmed
def remove_authenticator(request: HttpRequest) -> HttpResponse:
    return _remove(request, get_object_or_404(Authenticator, operator=_operator(request)))


@require_POST
@confirmed
def remove_passkey(request: HttpRequest, pk: int) -> HttpResponse:
    return _remove(request, get_object_or_404(Passkey, operator=_operator(request), pk=pk))


def _remove(request: HttpRequest, factor: Authenticator | Passkey) -> HttpResponse:
    try:
        factors.remove(_operator(request), factor, operator_of(request), address_of(request))
    except FactorNeeded as error:
        messages.error(request, str(error))
    else:
        messages.success(request, gettext("The second factor is removed."))
    return redirect("account")


# --- sessions ---


@never_too_often
@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """One of one's own, or all but this one."""
    operator, mark, by = _operator(request), request.POST.get("mark", ""), (operator_of(request), address_of(request))
    if mark:
        count = operators.end_session(operator, mark, *by)
    else:
        count = operators.end_sessions(operator, *by, but=request.session.session_key)
    messages.success(request, ngettext("{count} session ended.", "{count} sessions ended.", count).format(count=count))
    return redirect("account")


@without_second_factor
@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Of this browser, for who reads in another than it asks for; none: what it asks for."""
    response = redirect("account")
    chosen = request.POST.get("language", "")
    if chosen in dict(settings.LANGUAGES):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            chosen,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            secure=settings.LANGUAGE_COOKIE_SECURE,
            httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
            samesite=settings.LANGUAGE_COOKIE_SAMESITE,
        )
    else:
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME, samesite=settings.LANGUAGE_COOKIE_SAMESITE)
    return response


@public
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


urls = [
    path("account/", account, name="account"),
    path("account/authenticator/", authenticator, name="account-authenticator"),
    path("account/authenticator/remove/", remove_authenticator, name="account-authenticator-remove"),
    path("account/passkeys/add/", passkey, name="account-passkey"),
    path("account/passkeys/<int:pk>/remove/", remove_passkey, name="account-passkey-remove"),
    path("account/recovery-codes/", recovery_codes, name="account-recovery-codes"),
    path("account/sessions/end/", end_sessions, name="account-sessions-end"),
    path("account/language/", language, name="account-language"),
    path("healthz", healthz, name="healthz"),
]
