"""Certificates: upload with a preview, mapping, and what each may do."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.bulk import BLOCKING, DELETE
from console.certificate_preview import examine, preview, proposed_name
from console.forms.certificates import CertificateForm, NewCertificateForm, UploadForm, overlap_end
from console.forms.fields import KEY_LEFT_OUT
from console.kept import ShownCertificate
from console.permissions import permission_required
from console.sign_in import asks_again
from console.templatetags.console import expiry_class, expiry_words
from console.views.pages import (
    Cell,
    Column,
    Noun,
    address_of,
    list_page,
    look_ahead,
    name_cell,
    operator_of,
    save,
    urlpatterns,
    who,
)
from gateway.audit import change_set
from identity.core import certificates, files
from identity.models import Certificate, Usage

# A fingerprint or serial as other programs print it: pairs of hex digits with colons or blanks between.
_PRINTED_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}[: ]){2,}[0-9A-Fa-f]{0,2}:?")


def _state(row: Certificate) -> list[Cell]:
    expiry = Cell(expiry_words(row.not_after), expiry_class(row.not_after))
    if row.blocked:
        return [expiry, Cell(gettext("blocked"), "bad")]
    if row.logs_in_until:
        return [expiry, Cell(gettext("logs in until {until}").format(until=f"{row.logs_in_until:%Y-%m-%d}"), "warn")]
    return [expiry]


def _runs_as(row: Certificate) -> Cell:
    if row.usage != Usage.SSL_AUTHENTICATION:
        return Cell(row.get_usage_display(), "soft")
    return who(row.user)


CERTIFICATES = Noun(
    kind="certificates",
    form=CertificateForm,
    more=lambda: [(gettext("Refused certificates"), reverse("certificates-refused"))],
    lede=gettext_lazy(
        "Partners' certificates on file, and whom each runs as. Their private keys stay with the partners."
    ),
    columns=[
        Column(gettext_lazy("Name"), name_cell, "name"),
        Column(gettext_lazy("Subject"), lambda row: Cell(row.subject), "subject"),
        Column(gettext_lazy("Runs as"), _runs_as, "user__name"),
        Column("SHA-256", lambda row: Cell(f"…{row.sha256[-8:]}", "code")),
        Column(gettext_lazy("Valid"), _state, "not_after"),
    ],
    search=("name", "subject", "alternative_names", "serial", "sha256", "user__name", "description"),
    filters={
        "mapped": (gettext_lazy("mapped"), Q(user__isnull=False)),
        "unmapped": (gettext_lazy("unmapped"), Q(user__isnull=True)),
        "blocked": (gettext_lazy("blocked"), Q(blocked=True)),
        "expired": (gettext_lazy("expired"), Q(not_after__lt=Now())),
    },
    rows=lambda rows: rows.select_related("user"),
    template="certificates/edit.html",
    bulk=(*BLOCKING, DELETE),
    context=lambda row: {"preview": examine(row)},
)


@require_GET
@permission_required("view")
def certificate_list(request: HttpRequest) -> HttpResponse:
    """As every list; a fingerprint or serial is found however it was printed where it was copied from."""
    text = request.GET.get("q", "").strip()
    if _PRINTED_HEX.fullmatch(text):
        request.GET = request.GET.copy()  # type: ignore[assignment]
        request.GET["q"] = re.sub("[: ]", "", text).lower().lstrip("0")  # type: ignore[index]
    return list_page(request, CERTIFICATES)


@require_http_methods(["GET", "POST"])
@permission_required("change_identity")
@asks_again
def add(request: HttpRequest) -> HttpResponse:
    """First the file, then the preview with the mapping; nothing is stored before the second is saved.

    A certificate that a node was shown (`shown`, its SHA-256) needs no file.
    """
    if request.method != "POST":
        if (seen := ShownCertificate.objects.filter(pk=request.GET.get("shown", "")).first()) is not None:
            return _previewed(request, files.chain_from(seen.pem.encode()))
        ends = Certificate.objects.filter(name=request.GET.get("renews", "")).first()
        return render(request, "certificates/add.html", {"form": UploadForm(), "ends": ends})
    if "pem" in request.POST:
        return _save(request)
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return render(request, "certificates/add.html", {"form": form}, status=422)
    if form.left_out:
        messages.warning(request, KEY_LEFT_OUT)
    return _previewed(request, form.chain)


def _previewed(request: HttpRequest, chain: Sequence[certificates.Certificate]) -> HttpResponse:
    found = preview(chain[0], chain[1:])
    old = found.renews
    initial = {
        "pem": certificates.pem_of(chain),
        "name": proposed_name(chain[0]),
        "user": old.user if old else None,
        "usage": old.usage if old else Usage.SSL_AUTHENTICATION,
        "ports": old.ports if old else [],  # what was limited stays so
        "replaces": old,
        "old_until": overlap_end(old) if old else None,
    }
    proposed = NewCertificateForm(initial=initial, candidates=found.candidates)
    return render(request, "certificates/preview.html", {"preview": found, "form": proposed})


def _save(request: HttpRequest) -> HttpResponse:
    try:
        chain = files.chain_from(request.POST["pem"].encode())
    except certificates.CertificateError as error:
        messages.error(
            request, gettext("The certificate was damaged on the way ({error}) Upload it again.").format(error=error)
        )
        return redirect("certificates-add")
    form = NewCertificateForm(request.POST, candidates=Certificate.objects.may_be_renewed_by(chain[0]))
    outlook = None
    if "would_change" in request.POST:
        outlook = look_ahead(request, CERTIFICATES, form) if form.is_valid() else None
    elif form.is_valid() and (saved := save(request, CERTIFICATES, form)) is not None:
        messages.success(request, gettext("Certificate {saved} is saved.").format(saved=saved))
        if "then_test" in request.POST:
            return redirect(f"{reverse('invoke')}?{urlencode({'certificate': saved.pk})}")
        return redirect("certificates-edit", saved.pk)
    context: dict[str, Any] = {"preview": preview(chain[0], chain[1:]), "form": form, "would_change": outlook}
    return render(request, "certificates/preview.html", context, status=422 if outlook is None else 200)


@require_POST
@permission_required("change_identity")
def unmap(request: HttpRequest, pk: Any) -> HttpResponse:
    """Take the mapping away: one step that needs no form."""
    row = get_object_or_404(Certificate.objects.select_related("user"), pk=pk)
    row.user = None
    with change_set(operator_of(request), f"Certificate {row} is mapped to nobody now", address_of(request)):
        row.save()
    messages.success(request, gettext("Certificate {name} is mapped to nobody now.").format(name=row))
    return redirect("certificates-edit", row.pk)


@require_GET
@permission_required("view")
def download(request: HttpRequest, pk: Any) -> HttpResponse:
    row = get_object_or_404(Certificate, pk=pk)
    answer = HttpResponse(row.certificate.pem(), content_type="application/x-pem-file")
    answer["Content-Disposition"] = f'attachment; filename="{row.sha256[:16]}.pem"'
    return answer


urls = [
    path("certificates/", certificate_list, name="certificates-list"),
    path("certificates/add/", add, name="certificates-add"),
    path("certificates/<uuid:pk>/pem/", download, name="certificates-pem"),
    path("certificates/<uuid:pk>/unmap/", unmap, name="certificates-unmap"),
    *urlpatterns(CERTIFICATES, with_add=False),
]
