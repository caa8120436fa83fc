"""What every page shows around its content."""

from typing import Any

from django.db.models import Count, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from console.middleware import is_all_proved
from console.nouns import GROUPS, PERMISSION_OF_LINK
from gateway.audit import current_revision
from gateway.models import Unconfirmed
from gateway.topology.entries import SECTIONS


def navigation(request: HttpRequest) -> dict[str, Any]:
    """The side navigation, with the page that is shown marked in it."""
    if not getattr(request, "user", None) or not is_all_proved(request):
        return {}
    counts = _counts()
    groups = [
        {
            "title": title,
            "links": [
                {
                    "label": label,
                    "url": reverse(name),
                    "current": _is_current(request, name),
                    "count": counts.get(name.removesuffix("-list")),
                }
                for label, name in links
                if (permission := PERMISSION_OF_LINK.get(name, "view")) is None or request.user.may(permission)
            ],
        }
        for title, links in GROUPS
    ]
    shown = [group for group in groups if group["links"]]
    return {
        "navigation": shown,
        # Asked only where the view has not told it.
        "revision": SimpleLazyObject(current_revision) if request.user.may("view") else 0,
        "unconfirmed": list(Unconfirmed.objects.waiting().select_related("change_set"))
        if request.user.may("change_gateway")
        else [],
    }


def _counts() -> dict[str, int]:
    """How many there are of each kind, in one query."""
    parts = [
        model._default_manager.order_by().annotate(kind=Value(kind)).values("kind").annotate(number=Count("pk"))
        for kind, model in SECTIONS.items()
    ]
    found = parts[0].union(*parts[1:], all=True)
    return dict.fromkeys(SECTIONS, 0) | {row["kind"]: row["number"] for row in found}


def _is_current(request: HttpRequest, name: str) -> bool:
    url = reverse(name)
    return request.path == url if url == "/" else request.path.startswith(url)
