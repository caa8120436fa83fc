"""Before any page: who calls from where, in which language he reads, with what can be stored, and that he is logged in
unless the page is public.

A password that somebody else has set opens nothing but the page that changes it. A second factor is needed besides,
where one is required.
"""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect
from django.utils import translation
from django.utils.cache import patch_vary_headers

from console import factors
from console.pace import TooOften, is_costly, spend_costly
from console.sessions import LOGIN, is_over
from console.sign_in import SINGLE_SIGN_ON, has_to_choose
from console.views.errors import too_often
from gateway.core.addresses import behind_proxies, parse_address

API = "/api/"


class CallersAddress:
    """`REMOTE_ADDR` is the caller's own, where a proxy of `CONSOLE_TRUSTED_PROXIES` tells it.

    Else all operators would be at one address, the proxy's: whoever guesses at a password would shut out its owner,
    and the audit log would not know from where a change came.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        told = request.headers.get("X-Forwarded-For")
        if settings.CONSOLE_TRUSTED_PROXIES and told:
            try:
                peer = parse_address(request.META["REMOTE_ADDR"])
                caller = behind_proxies(peer, [told], settings.CONSOLE_TRUSTED_PROXIES)
            except ValueError:
                return HttpResponseBadRequest("X-Forwarded-For holds what is no address.\n", content_type="text/plain")
            request.META["REMOTE_ADDR"] = str(caller)
        return self.get_response(request)


class NoNul:
    """What holds a NUL is refused: none of our texts has one, and PostgreSQL fails on it wherever it looks for one.

    The API tells that itself, naming the field.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if request.path.startswith(API):
            return None
        for sent in (request.GET, request.POST):
            for name, values in sent.lists():
                if "\0" in name or any("\0" in value for value in values):
                    return HttpResponseBadRequest("A field holds a NUL.\n", content_type="text/plain")
        return None


class Language:
    """Pages in the reader's language: what he chose in this browser, else what the browser asks for.

    Programs read the API, and are told the same in every language.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(API):
            with translation.override(settings.LANGUAGE_CODE):
                return self.get_response(request)
        language = translation.get_language_from_request(request)
        with translation.override(language):
            response = self.get_response(request)
        patch_vary_headers(response, ("Accept-Language",))
        response.headers.setdefault("Content-Language", language)
        return response


class LoginRequired:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # What an operator saw is not shown again by "back" once he has logged out.
        response.headers.setdefault("Cache-Control", "no-store, private")
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if getattr(view, "login_exempt", False):
            return None
        if request.user.is_authenticated and is_over(request):
            logout(request)
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if has_to_choose(request) and not getattr(view, "with_one_time_password", False):
            return redirect("account")
        if _lacks_factor(request) and not getattr(view, "without_second_factor", False):
            return redirect("account")
        return None


class Pace:
    """After `LoginRequired`: what costs is counted of whoever is logged in, and refused where it is too often."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        if getattr(view, "login_exempt", False) or not is_costly(request, view):
            return None
        try:
            spend_costly(request.user, time.time())  # type: ignore[arg-type]
        except TooOften as error:
            return too_often(request, error)
        return None


def is_all_proved(request: HttpRequest) -> bool:
    """Whether somebody is logged in to whom pages are open, and not only the one that has to be filled in first."""
    if not request.user.is_authenticated or is_over(request):
        return False
    return not has_to_choose(request) and not _lacks_factor(request)


def _lacks_factor(request: HttpRequest) -> bool:
    """Whose identity provider proved him has his second factor there."""
    if not factors.is_required():
        return False
    by = request.session.get(LOGIN, {}).get("how")
    return by != SINGLE_SIGN_ON and not request.user.has_second_factor  # type: ignore[union-attr]
