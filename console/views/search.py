"""One search for all kinds. A trace id leads to its refusal."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, path, reverse
from django.views.decorators.http import require_GET

from console.permissions import permission_required
from console.search import SHORTEST, search, trace_id


@require_GET
@permission_required("view")
def page(request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()[:300]
    if (trace := trace_id(text)) and (url := _refusal(trace)):
        return redirect(url)
    found = search(text)
    return render(
        request, "search/page.html", {"text": text, "searched": text, "found": found, "short": 0 < len(text) < SHORTEST}
    )


def _refusal(trace: str) -> str:
    """The page of a refused request; "" where refusals have none."""
    try:
        return reverse("refusals-detail", args=[trace])
    except NoReverseMatch:
        return ""


urls = [path("search/", page, name="search")]
