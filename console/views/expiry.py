"""What ends: one page for all that has an end, and the metrics of it."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_safe

from console.metrics import CONTENT_TYPE, exposition
from console.permissions import permission_required, public
from console.views.pages import PAGE
from gateway.expiry import Endings, Kind, State, Wanted, counted, few, states

WORDS = {
    Kind.SERVER: gettext_lazy("Server certificates"),
    Kind.CLIENT: gettext_lazy("Clients on file"),
    Kind.REGISTRATION: gettext_lazy("Registrations"),
    Kind.AUTHORITY: gettext_lazy("Authorities"),
    Kind.CRL: gettext_lazy("Revocation lists"),
    Kind.MACHINE: gettext_lazy("Machines of nodes"),
}
ORDERS = ("ends", "name", "kind")


@require_safe
@permission_required("view")
def expiry(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    kind, state = request.GET.get("kind", ""), request.GET.get("show", "soon")
    order = request.GET.get("sort", "ends")
    if order.removeprefix("-") not in ORDERS:
        order = "ends"
    text = request.GET.get("q", "").strip()
    wanted = Wanted(
        kinds=frozenset({Kind(kind)}) if kind in set(Kind) else frozenset(Kind), text=text, order=order,
        **_bounds(state, now),
    )  # fmt: skip
    known = list(few())
    counts = counted(now, known)
    names = [name for name, _, _ in states(now)]
    context = {
        "page": Paginator(Endings(wanted, known), PAGE).get_page(request.GET.get("page")),
        "text": text,
        "kind": kind,
        "show": state,
        "sort": order,
        "kinds": [(each.value, words) for each, words in WORDS.items()],
        "states": [(name, state_words(name)) for name in names],
        "columns": [
            (gettext("Kind"), "kind"),
            (gettext("Name"), "name"),
            (gettext("Whose"), ""),
            (gettext("Subject"), ""),
            (gettext("Ends"), "ends"),
        ],
        "words_of": WORDS,
        "table": [(each.value, words, [(name, counts[each][name]) for name in names]) for each, words in WORDS.items()],
    }
    return render(request, "expiry/page.html", context)


def _bounds(state: State, now: datetime) -> dict[str, Any]:
    """When what is shown ends: in one state, soon (ended, or within the longest threshold), or whenever."""
    for name, since, until in states(now):
        if name == state:
            return {"since": since, "until": until}
    if state == "all":
        return {}
    return {"until": states(now)[-1][1]}


def state_words(state: State) -> str:
    return {"ended": gettext("ended"), "later": gettext("later")}.get(
        state, gettext("within {state} days").format(state=state)
    )


@public
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For who has the token; where none is set there is no such page."""
    if not settings.CONSOLE_METRICS_TOKEN:
        raise Http404
    if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {settings.CONSOLE_METRICS_TOKEN}"):
        return HttpResponse("A bearer token is needed.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(exposition(timezone.now()), content_type=CONTENT_TYPE)


urls = [path("expiry/", expiry, name="expiry"), path("metrics", metrics, name="metrics")]
