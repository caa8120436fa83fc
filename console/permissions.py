"""Who may do what: asked on the server, for every page and every action."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

View = Callable[..., HttpResponse]


def permission_required(permission: str) -> Callable[[View], View]:
    """403 unless the operator has `permission`, one of `console.models.PERMISSIONS`."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            require(request, permission)
            return view(request, *args, **kwargs)

        return checked

    return decorate


def require(request: HttpRequest, permission: str) -> None:
    """Raises PermissionDenied."""
    if not request.user.may(permission):  # type: ignore[union-attr]
        raise PermissionDenied(permission)


def public(view: View) -> View:
    """Let in without a login."""
    view.login_exempt = True  # type: ignore[attr-defined]
    return view


def with_one_time_password(view: View) -> View:
    """Open to who has logged in with a password that somebody else has set, and has to choose his own first."""
    view.with_one_time_password = True  # type: ignore[attr-defined]
    return view


def without_second_factor(view: View) -> View:
    """Open to who has yet to set one up where one is required."""
    view.without_second_factor = True  # type: ignore[attr-defined]
    return view
