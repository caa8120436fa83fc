"""Certificates: upload with a preview, mapping, and what each may do."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_http_methods

from console.certificate_preview import preview, proposed_name
from console.forms.certificates import CertificateForm, NewCertificateForm, UploadForm
from console.permissions import permission_required
from console.templatetags.console import expiry_class, expiry_words
from console.views.pages import Cell, Column, Noun, name_cell, save, urlpatterns, who
from identity.core import certificates
from identity.models import Certificate


def _state(row: Certificate) -> Cell:
    if row.blocked:
        return Cell("blocked", "bad")
    return Cell(expiry_words(row.not_after), expiry_class(row.not_after))


CERTIFICATES = Noun(
    kind="certificates",
    form=CertificateForm,
    lede="Partners' certificates on file, and whom each runs as. Their private keys stay with the partners.",
    columns=[
        Column("Name", name_cell, "name"),
        Column("Subject", lambda row: Cell(row.subject), "subject"),
        Column("Runs as", lambda row: who(row.user), "user__name"),
        Column("SHA-256", lambda row: Cell(f"…{row.sha256[-8:]}", "code")),
        Column("Valid", _state, "not_after"),
    ],
    search=("name", "subject", "alternative_names", "serial", "sha256", "user__name", "description"),
    filters={
        "mapped": ("mapped", Q(user__isnull=False)),
        "unmapped": ("unmapped", Q(user__isnull=True)),
        "blocked": ("blocked", Q(blocked=True)),
        "expired": ("expired", Q(not_after__lt=Now())),
    },
    rows=lambda rows: rows.select_related("user"),
    template="certificates/edit.html",
    extra=lambda row: {"preview": preview(row.certificate)},
)


@require_http_methods(["GET", "POST"])
@permission_required("change_identity")
def add(request: HttpRequest) -> HttpResponse:
    """First the file, then the preview with the mapping; nothing is stored before the second is saved."""
    if request.method == "POST" and "pem" in request.POST:
        return _save(request)
    form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
    if form.is_bound and form.is_valid():
        chain = form.chain
        found = preview(chain[0], chain[1:])
        if found.on_file is not None:
            messages.info(request, f"This certificate is on file already, as {found.on_file.name}.")
        initial = {
            "pem": certificates.pem_of(chain),
            "name": proposed_name(chain[0]),
            "user": found.renews.user if found.renews else None,
        }
        context = {"preview": found, "form": NewCertificateForm(initial=initial)}
        return render(request, "certificates/preview.html", context)
    return render(request, "certificates/add.html", {"form": form}, status=422 if form.is_bound else 200)


def _save(request: HttpRequest) -> HttpResponse:
    form = NewCertificateForm(request.POST)
    if form.is_valid() and (saved := save(request, CERTIFICATES, form)) is not None:
        messages.success(request, f"Certificate {saved} is saved.")
        if "then_test" in request.POST:
            return redirect(f"{reverse('invoke')}?{urlencode({'certificate': saved.pk})}")
        return redirect("certificates-edit", saved.pk)
    try:
        chain = certificates.from_file(request.POST.get("pem", "").encode())
    except certificates.CertificateError:
        messages.error(request, "The certificate was lost on the way; upload it again.")
        return redirect("certificates-add")
    context: dict[str, Any] = {"preview": preview(chain[0], chain[1:]), "form": form}
    return render(request, "certificates/preview.html", context, status=422)


@permission_required("view")
def download(request: HttpRequest, pk: Any) -> HttpResponse:
    row = get_object_or_404(Certificate, pk=pk)
    answer = HttpResponse(row.certificate.pem(), content_type="application/x-pem-file")
    answer["Content-Disposition"] = f'attachment; filename="{row.sha256[:16]}.pem"'
    return answer


urls = [
    path("certificates/add/", add, name="certificates-add"),
    path("certificates/<uuid:pk>/pem/", download, name="certificates-pem"),
    *urlpatterns(CERTIFICATES, with_add=False),
]
