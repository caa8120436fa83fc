"""Pages for what cannot be shown."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console import security_log
from console.models import PERMISSIONS, Role
from console.pace import TooOften


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    security_log.refused(request, _who(request), f"it takes {exception}")
    needed = PERMISSIONS.get(str(exception))
    role = Role(needed).label if needed else ""
    without = getattr(request.user, "role", "") == Role.NONE
    return render(request, "errors/403.html", {"role": role, "without": without}, status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form's token is not the session's: cookies are off, or the login ended in another tab."""
    security_log.refused(request, _who(request), "the form's token is not the session's")
    return render(request, "errors/403.html", {"role": "", "stale": True}, status=403)


def too_often(request: HttpRequest, exception: TooOften) -> HttpResponse:
    security_log.refused(request, _who(request), f"it is too often; {exception}")
    response = render(request, "errors/429.html", {"seconds": exception.seconds}, status=429)
    response["Retry-After"] = str(exception.seconds)
    return response


def _who(request: HttpRequest) -> str:
    return request.user.get_username() or "nobody"


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return render(request, "errors/404.html", status=404)
