"""Names of what can be chosen in forms, for the script that completes what is typed."""

from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from console.forms.choosing import like
from console.permissions import permission_required
from gateway.topology.entries import SECTIONS


@require_safe
@permission_required("view")
def choices(request: HttpRequest, kind: str) -> JsonResponse:
    """Names of one kind that fit `?q=`, the first of them. The form has the last word on which may be chosen."""
    if kind not in SECTIONS:
        raise Http404
    names = like(SECTIONS[kind]._default_manager.all(), request.GET.get("q", "").strip()[:255])
    return JsonResponse({"names": names})


urls = [path("choices/<str:kind>/", choices, name="choices")]
