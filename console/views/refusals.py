"""What nodes refused: requests, each with its trace in words; and certificates that came to nothing, in one place."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from console.blocking import is_blocked
from console.kept import Refusal, RefusalKind, ShownCertificate
from console.permissions import permission_required
from console.refusals import Stranger, refusals_by_reason, strangers
from console.suggestions import link
from console.traces import traced
from console.views.pages import PAGE
from gateway.core.reasons import BY_CODE, REASONS
from gateway.models import Port
from identity.models import Certificate, Usage

HEX = frozenset("0123456789abcdef")
PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
COUNTED = 5000  # rows of a search that are counted: of more, nobody turns the pages
LOOSE = 50  # handshakes without a certificate that are shown


class Newest(Paginator):  # type: ignore[type-arg]
    """The newest first. Counted are keys, and only so many: rows are wide, and nobody turns so many pages."""

    def __init__(self, rows: QuerySet[Refusal], per_page: int) -> None:
        super().__init__(rows.order_by("-at", "-id").defer("lanes")[:COUNTED], per_page)
        self._keys = rows.order_by().values("pk")[:COUNTED]

    @cached_property
    def count(self) -> int:
        return self._keys.count()


@require_safe
@permission_required("view")
def refusals(request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()
    trace_id = text.replace("-", "").lower()
    if len(trace_id) == 32 and set(trace_id) <= HEX and Refusal.objects.filter(trace_id=trace_id).exists():
        return redirect("refusals-detail", trace_id)
    now = timezone.now()
    rows, chosen = _filtered(request, text, now)
    counts = refusals_by_reason(now)
    context = {
        "page": Newest(rows, PAGE).get_page(request.GET.get("page")),
        "text": text,
        "chosen": chosen,
        "reasons": sorted(code for code in BY_CODE if code != "client_gone"),
        "ports": Port.objects.exclude(type="internal").order_by("name").values_list("name", flat=True),
        "periods": [
            ("hour", gettext("the last hour")),
            ("day", gettext("the last day")),
            ("week", gettext("the last week")),
        ],
        "counts": [each for each in counts if each.count],
        "days": settings.REFUSALS_DAYS,
        "counted": COUNTED,
    }
    return render(request, "refusals/list.html", context)


def _filtered(request: HttpRequest, text: str, now: datetime) -> tuple[QuerySet[Refusal], dict[str, str]]:
    """What the address asks for; of what it asks wrongly, nothing is filtered."""
    chosen = {name: request.GET.get(name, "").strip() for name in
              ("reason", "port", "user", "certificate", "since", "until", "tests")}  # fmt: skip
    rows = Refusal.objects.requests()
    if chosen["tests"] != "yes":
        rows = rows.filter(test=False)
    if chosen["reason"] in BY_CODE:
        rows = rows.filter(Q(cause=chosen["reason"]) | Q(reason=chosen["reason"]))
    if chosen["port"]:
        rows = rows.filter(port=chosen["port"])
    if chosen["user"]:
        rows = rows.filter(user=chosen["user"])
    if certificate := chosen["certificate"].replace(":", "").lower():
        if len(certificate) == 64:
            rows = rows.filter(certificate=certificate)
        else:
            rows = rows.filter(Q(certificate__endswith=certificate) | Q(subject__icontains=chosen["certificate"]))
    if (since := _moment(chosen["since"], now)) is not None:
        rows = rows.filter(at__gte=since)
    if (until := _moment(chosen["until"], now)) is not None:
        rows = rows.filter(at__lte=until)
    if text:
        rows = rows.filter(
            Q(trace_id__startswith=text.lower()) | Q(path__icontains=text) | Q(subject__icontains=text)
            | Q(user__icontains=text) | Q(peer=text)
        )  # fmt: skip
    return rows, chosen


def _moment(text: str, now: datetime) -> datetime | None:
    """`hour`, `day`, `week` ago; or a time, in the console's zone where it names none."""
    if text in PERIODS:
        return now - PERIODS[text]
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return timezone.make_aware(found) if found is not None and timezone.is_naive(found) else found


@require_safe
@permission_required("view")
def refusal(request: HttpRequest, trace_id: str) -> HttpResponse:
    """Every request of a trace, with what each node decided of it."""
    requests = traced(trace_id)
    if not requests:
        raise Http404
    certificate = next((each.row.certificate for each in requests if each.row.certificate), "")
    context = {
        "trace_id": trace_id,
        "requests": requests,
        "on_file": Certificate.objects.speaking_for(certificate) if certificate else None,
        "shown": ShownCertificate.objects.filter(pk=certificate).first() if certificate else None,
    }
    return render(request, "refusals/detail.html", context)


# --- certificates that came to nothing ---


@require_safe
@permission_required("view")
def refused_certificates(request: HttpRequest) -> HttpResponse:
    """Those that were shown and not let in, in a handshake or in a request; and handshakes that showed none."""
    page = Paginator(strangers()[:COUNTED], PAGE).get_page(request.GET.get("page"))
    loose = Refusal.objects.filter(kind=RefusalKind.HANDSHAKE, head=True, proven=False).defer("lanes")[:LOOSE]
    context = {"page": page, "rows": _strangers(list(page.object_list)), "loose": loose, "days": settings.REFUSALS_DAYS}
    return render(request, "certificates/refused.html", context)


def _strangers(found: Any) -> list[dict[str, Any]]:
    """Rows of the page, with what of each is on file and what could be changed."""
    last = Refusal.objects.defer("lanes").in_bulk([each["last"] for each in found])
    fingerprints = [each["certificate"] for each in found]
    shown = ShownCertificate.objects.in_bulk(fingerprints)
    stored = Certificate.objects.filter(sha256__in=fingerprints).select_related("user")
    # Of one that is there for several usages, the entry that logs in.
    on_file = {row.sha256: row for row in sorted(stored, key=lambda row: row.usage == Usage.SSL_AUTHENTICATION)}
    ports = {
        port.name: port
        for port in Port.objects.filter(name__in={row.port for row in last.values()}).select_related("tls_truststore")
    }
    rows = []
    for each in found:
        row, sha256 = last[each["last"]], each["certificate"]
        known, port = on_file.get(sha256), ports.get(row.port)
        stranger = Stranger(row, each["count"], shown.get(sha256), known)
        reason = BY_CODE.get(row.reason)
        distrusted = row.reason == "certificate_untrusted" and port is not None and port.tls_truststore is not None
        rows.append(
            {
                "stranger": stranger,
                "reason": REASONS[reason] if reason else None,
                "blocked": known is not None and is_blocked(known),
                "trust": link("", port.tls_truststore, trust=sha256)[1] if distrusted and stranger.shown else "",
                "store": port.tls_truststore if distrusted else None,
            }
        )
    return rows


urls = [
    path("refusals/", refusals, name="refusals"),
    path("refusals/<str:trace_id>/", refusal, name="refusals-detail"),
    path("certificates/refused/", refused_certificates, name="certificates-refused"),
]
