"""Block and unblock with one click."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from console.blocking import SWITCHES, put_on_file, throw
from console.nouns import label_of, permission_of, recorded, url_of
from console.pace import never_too_often
from console.permissions import permission_required, require
from console.sign_in import ask_again, is_fresh
from console.views.pages import address_of, operator_of
from gateway.audit import change_set
from gateway.topology.entries import KIND_OF, SECTIONS
from identity.core import files
from identity.core.certificates import CertificateError


@never_too_often
@require_POST
def switch(request: HttpRequest, kind: str, pk: Any, block: bool) -> HttpResponse:
    """Block an object, or unblock it; only that lets somebody in, and asks again who does it."""
    require(request, permission_of(kind))
    if not block and not is_fresh(request):
        return ask_again(request)
    row = get_object_or_404(SECTIONS[kind], pk=pk)
    done = f"{capfirst(recorded(row))} is {'blocked' if block else 'no longer blocked'}"
    words = gettext("{object} is blocked.") if block else gettext("{object} is no longer blocked.")
    try:
        with change_set(operator_of(request), done, address_of(request)):
            throw(row, block=block)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, capfirst(words.format(object=label_of(row))))
    return redirect(url_of(row) or "overview")


@never_too_often
@require_POST
@permission_required("change_identity")
def block_pem(request: HttpRequest) -> HttpResponse:
    """Block a certificate that need not be on file: it is put there for it."""
    try:
        certificate = files.chain_from(request.POST.get("pem", "").encode())[0]
    except CertificateError as error:
        messages.error(
            request, gettext("The certificate was damaged on the way ({error}) Upload it again.").format(error=error)
        )
        return redirect("certificates-add")
    row = put_on_file(certificate)
    try:
        with change_set(operator_of(request), f"Certificate {row} is blocked", address_of(request)):
            throw(row, block=True)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("certificates-add")
    messages.success(request, gettext("Certificate {name} is blocked.").format(name=row))
    return redirect("certificates-edit", row.pk)


urls = [
    path("certificates/block/", block_pem, name="certificates-block-pem"),
    *(
        path(f"{kind}/<uuid:pk>/{word}/", switch, {"kind": kind, "block": block}, name=f"{kind}-{word}")
        for kind in (KIND_OF[model] for model in SWITCHES)
        for word, block in (("block", True), ("unblock", False))
    ),
]
