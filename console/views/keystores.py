"""Pages of keystores: uploading and making one, its renewal, and the request that an authority answers."""

from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.forms.keystores import AnswerForm, AskForm, GenerateForm, KeystoreForm
from console.permissions import permission_required
from console.sign_in import confirmed
from console.templatetags.console import expiry_class, expiry_words
from console.views.pages import (
    DESCRIPTION,
    NAME,
    Cell,
    Column,
    Note,
    Noun,
    address_of,
    edit_page,
    operator_of,
    urlpatterns,
)
from gateway.audit import change_set
from gateway.renewals import known_by_certificate, prepare, swap
from identity.core.vault import VaultError
from identity.models import Keystore


def _expiry(row: Keystore) -> list[Cell]:
    cells = [Cell(expiry_words(row.not_after), expiry_class(row.not_after))]
    if row.renewal:
        cells.append(
            Cell(
                gettext("renewal ready") if row.renewal == "ready" else gettext("renewal asked for"),
                "ok",
            )
        )
    return cells


def _notes(row: Keystore) -> list[Note]:
    if row.certificate.self_issued:
        return [
            Note(
                gettext(
                    "Its certificate signs itself: only who has it in a truststore believes it. For an authority's, "
                    "download the request, and upload the answer as the certificate."
                ),
                "info",
            )
        ]
    return []


KEYSTORES = Noun(
    kind="keystores",
    form=KeystoreForm,
    secret=True,
    template="keystores/edit.html",
    notes=_notes,
    lede=gettext_lazy(
        "Certificates with their private keys: what ports show, and what endpoints call as. Keys are sealed at rest "
        "and never shown."
    ),
    columns=[
        NAME,
        Column(gettext_lazy("Certificate"), lambda row: Cell(row.subject), "subject"),
        Column("SHA-256", lambda row: Cell(f"…{row.sha256[-8:]}", "code")),
        Column(gettext_lazy("Valid"), _expiry, "not_after"),
        DESCRIPTION,
    ],
    search=("name", "subject", "sha256", "description"),
    adds=lambda: [
        (gettext("Upload certificate and key"), reverse("keystores-add")),
        (gettext("Make a key here"), reverse("keystores-generate")),
    ],
)
GENERATED = Noun(kind="keystores", form=GenerateForm, columns=[], lede=KEYSTORES.lede, secret=True)


def generate(request: HttpRequest) -> HttpResponse:
    return edit_page(request, GENERATED, None)


@require_http_methods(["GET", "POST"])
@permission_required("change_identity")
@confirmed
def renew(request: HttpRequest, pk: Any) -> HttpResponse:
    """Ask for the next certificate, or give it; one form is sent at a time, told by its button."""
    row = get_object_or_404(Keystore, pk=pk)
    step = request.POST.get("step", "")
    leaf = row.certificate
    named = {"subject": leaf.parsed.subject.rfc4514_string(), "names": list(leaf.alternative_names)}
    asking = AskForm(request.POST if step == "ask" else None, initial=named)
    answer = AnswerForm(request.POST if step == "answer" else None, request.FILES or None)
    form: AskForm | AnswerForm | None = {"ask": asking, "answer": answer}.get(step)  # type: ignore[assignment]
    if form is not None and form.is_valid():
        try:
            with change_set(operator_of(request), f"renewal of keystore {row}", address_of(request)):
                prepare(row, partial(form.ask if isinstance(form, AskForm) else form.answer, row))
        except ValidationError as error:
            for name, problems in getattr(error, "error_dict", {None: error.messages}).items():
                form.add_error(name if name in form.fields else None, problems)
            row.refresh_from_db()
        else:
            messages.success(request, _told(row))
            return redirect("keystores-renew", row.pk)
    context = {"row": row, "asking": asking, "answer": answer, **_followers(row)}
    return render(request, "keystores/renew.html", context, status=422 if form is not None else 200)


def _told(row: Keystore) -> str:
    if row.renewal == "asked":
        return gettext("The request is made: download it, and send it to the authority.")
    when = (
        gettext("It takes over at {next_from:%Y-%m-%d %H:%M} UTC.").format(next_from=row.next_from)
        if row.next_from
        else gettext("It takes over when you say so.")
    )
    return gettext("The renewal is stored. {when}").format(when=when)


def _followers(row: Keystore) -> dict[str, Any]:
    registrations, certificates = known_by_certificate(row)
    new = row.next_certificates[:1]
    on_file = [each for each in certificates if each.user]
    return {"registrations": registrations, "mappings": on_file if new and new[0].sha256 != row.sha256 else []}


@require_POST
@permission_required("change_identity")
@confirmed
def act(request: HttpRequest, pk: Any, action: str) -> HttpResponse:
    """Put the renewal in use, or drop it."""
    row = get_object_or_404(Keystore, pk=pk)
    try:
        with change_set(operator_of(request), f"renewal of keystore {row}: {action}", address_of(request)):
            if action == "swap":
                followed = swap(row)
            else:
                followed = []
                prepare(row, row.drop_next)
    except (ValidationError, VaultError) as error:
        messages.error(request, " ".join(getattr(error, "messages", [str(error)])))
        return redirect("keystores-renew", row.pk)
    if action == "swap":
        names = ", ".join(str(each) for each in followed)
        messages.success(
            request, gettext("{row} shows its new certificate from now on; connections live on.").format(row=row)
        )
        if followed:
            words = gettext("Registrations that know it admit both until no tunnel shows the old one: {names}.")
            messages.success(request, words.format(names=names))
    else:
        messages.success(request, gettext("The renewal of {row} is dropped, and its key with it.").format(row=row))
    return redirect("keystores-edit", row.pk)


@require_GET
@permission_required("change_identity")
def download_request(request: HttpRequest, pk: Any) -> HttpResponse:
    """Of the renewal that is under way, else of the key in use: nothing in it is secret."""
    row = get_object_or_404(Keystore, pk=pk)
    try:
        text = row.request()
    except VaultError as error:
        messages.error(request, gettext("The request cannot be signed: {error}").format(error=error))
        return redirect("keystores-edit", row.pk)
    answer = HttpResponse(text, content_type="application/x-pem-file")
    answer["Content-Disposition"] = f'attachment; filename="{row.pk.hex[:8]}.csr"'
    return answer


@require_GET
@permission_required("view")
def download_certificate(request: HttpRequest, pk: Any) -> HttpResponse:
    """The chain in PEM, for truststores elsewhere, and never the key. `?next`: of the renewal, where there is one."""
    row = get_object_or_404(Keystore, pk=pk)
    which = "next" if "next" in request.GET and row.next_chain else "present"
    answer = HttpResponse(row.next_chain if which == "next" else row.chain, content_type="application/x-pem-file")
    answer["Content-Disposition"] = f'attachment; filename="{row.pk.hex[:8]}{"-next" if which == "next" else ""}.pem"'
    return answer


urls = [
    path("keystores/generate/", generate, name="keystores-generate"),
    path("keystores/<uuid:pk>/renew/", renew, name="keystores-renew"),
    path("keystores/<uuid:pk>/request/", download_request, name="keystores-request"),
    path("keystores/<uuid:pk>/pem/", download_certificate, name="keystores-pem"),
    *(
        path(f"keystores/<uuid:pk>/{action}/", act, {"action": action}, name=f"keystores-{action}")
        for action in ("swap", "drop")
    ),
    *urlpatterns(KEYSTORES),
]
