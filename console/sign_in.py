"""From proofs to a session: the steps of a login, the same whatever the proof; and being asked again.

A password alone is half a login where the operator has a second factor. The half is remembered in a session that is
nobody's, for a few minutes.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext

from console import sessions
from console.authentication import note_success
from console.models import Operator
from gateway.audit import record_event
from gateway.models import Action, Change

HALF = "half_login"  # key in a session
HALF_SECONDS = 300  # that the second proof may take
PASSWORD, PASSKEY, SINGLE_SIGN_ON = "password", "passkey", "single sign-on"
_FORM_TIMES = 3  # what was opened in time may be filled in for this many times as long

View = Callable[..., HttpResponseBase]


def sign_in(request: HttpRequest, operator: Operator, how: str) -> None:
    """All proofs are there: a new session, recorded. `how`: by which proofs, in words."""
    address = request.META.get("REMOTE_ADDR", "")
    logins = Change.objects.filter(kind="operators", name=operator.username, action=Action.LOGGED_IN)
    before = logins.select_related("change_set").order_by("-id").first()
    request.session.flush()  # nothing of the half login goes on
    request.proved_by = how  # type: ignore[attr-defined]
    login(request, operator)
    sessions.remove_expired()
    note_success(operator, address)
    change = Change(
        action=Action.LOGGED_IN,
        kind="operators",
        name=operator.username,
        before=None,
        after={"name": operator.username, "by": how},
    )
    record_event(operator.username, f"operator {operator.username} logged in", address or None, change)
    if before is not None:
        last = before.change_set
        if last.address:
            words = gettext("You logged in last at {at} UTC from {address}.")
        else:
            words = gettext("You logged in last at {at} UTC.")
        messages.info(request, words.format(at=f"{last.at:%Y-%m-%d %H:%M}", address=last.address))


def begin_half(request: HttpRequest, operator: Operator, next_url: str) -> None:
    """The password was right."""
    request.session.flush()
    request.session[HALF] = {"operator": operator.pk, "at": time.time(), "next": next_url}


def half_login(request: HttpRequest) -> tuple[Operator, str] | None:
    """Who has shown his password, and where he wanted to go; None where nobody has, or too long ago."""
    half = request.session.get(HALF)
    if half is None or time.time() - half["at"] > HALF_SECONDS:
        return None
    operator = Operator.objects.filter(pk=half["operator"], is_active=True).first()
    return (operator, half["next"]) if operator is not None else None


def has_to_choose(request: HttpRequest) -> bool:
    """Whether this login was by a password that somebody else has set, which is good for choosing another one alone.

    Who came by a passkey need not know it, and could not change it.
    """
    by: str = request.session.get(sessions.LOGIN, {}).get("how", "")
    return by.startswith(PASSWORD) and request.user.one_time_password  # type: ignore[union-attr]


def safe_next(request: HttpRequest, next_url: str) -> str:
    """Where to go on: in this house, or to the overview."""
    if next_url and url_has_allowed_host_and_scheme(next_url, {request.get_host()}, request.is_secure()):
        return next_url
    return reverse("overview")


# --- being asked again ---


def is_fresh(request: HttpRequest) -> bool:
    """Whether the operator has proved who he is a short while ago."""
    seconds = settings.CONSOLE_CONFIRM_SECONDS * (1 if request.method in ("GET", "HEAD") else _FORM_TIMES)
    return time.time() - request.session.get(sessions.PROVED, 0) < seconds


def ask_again(request: HttpRequest) -> HttpResponse:
    """To the page that asks, and from there back to the page that was shown."""
    if request.method in ("GET", "HEAD"):
        next_url = request.get_full_path()
    else:
        shown = urlsplit(request.META.get("HTTP_REFERER", ""))
        next_url = shown.path if shown.netloc == request.get_host() else reverse("overview")
    return redirect(f"{reverse('confirm')}?{urlencode({'next': next_url})}")


class AskAgain(Exception):
    """What is being done is known to be dangerous only once it is done: raised where that is taken back again."""


def asks_again(view: View) -> View:
    """For a view that may raise `AskAgain`."""

    @wraps(view)
    def asking(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except AskAgain:
            return ask_again(request)

    return asking


def confirmed(view: View) -> View:
    """Asks for the password or the second factor again, before anything secret or dangerous."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, *args, **kwargs) if is_fresh(request) else ask_again(request)

    return checked
