"""Pages for what cannot be shown."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.models import PERMISSIONS, Role


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    needed = PERMISSIONS.get(str(exception))
    role = Role(needed).label if needed else ""
    without = getattr(request.user, "role", "") == Role.NONE
    return render(request, "errors/403.html", {"role": role, "without": without}, status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form's token is not the session's: cookies are off, or the login ended in another tab."""
    return render(request, "errors/403.html", {"role": "", "stale": True}, status=403)


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return render(request, "errors/404.html", status=404)
