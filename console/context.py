"""What every page shows around its content."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from console.nouns import GROUPS
from gateway.audit import current_revision


def navigation(request: HttpRequest) -> dict[str, Any]:
    """The side navigation, with the page that is shown marked in it."""
    if not getattr(request, "user", None) or not request.user.is_authenticated:
        return {}
    groups = [
        {
            "title": title,
            "links": [
                {"label": label, "url": reverse(name), "current": _is_current(request, name)} for label, name in links
            ],
        }
        for title, links in GROUPS
        if title != "Operators" or request.user.may("change_operators")
    ]
    return {"navigation": groups, "revision": current_revision()}


def _is_current(request: HttpRequest, name: str) -> bool:
    url = reverse(name)
    return request.path == url if url == "/" else request.path.startswith(url)
