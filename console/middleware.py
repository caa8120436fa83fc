"""Every page needs a login unless it says that it is public; and a second factor, where one is required."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from console import factors
from console.sessions import LOGIN, is_over
from console.sign_in import SINGLE_SIGN_ON


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
        if factors.is_required() and not getattr(view, "without_second_factor", False) and _lacks_one(request):
            return redirect("account")
        return None


def _lacks_one(request: HttpRequest) -> bool:
    """Whose identity provider proved him has his second factor there."""
    by = request.session.get(LOGIN, {}).get("how")
    return by != SINGLE_SIGN_ON and not request.user.has_second_factor  # type: ignore[union-attr]
