"""Importing users, groups and certificates from files: upload, what it would do, then all or the good rows."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from console.jobs import PART, go_on, take, throw_away
from console.models import Job, JobMode, JobState
from console.nouns import TITLES
from console.permissions import permission_required
from console.progress import done_of
from console.sign_in import confirmed
from console.views.pages import address_of, operator_of
from gateway.bulk.imports import IMPORTERS
from gateway.bulk.sheets import SheetError

SHOWN = 20  # imports that are listed
# Action → its title and look, in the order of the page.
ACTIONS = {
    "refuse": (gettext_lazy("Refused"), "bad"),
    "add": (gettext_lazy("Added"), "ok"),
    "change": (gettext_lazy("Changed"), "warn"),
    "same": (gettext_lazy("As it is"), ""),
}


class ImportForm(forms.Form):
    kind = forms.ChoiceField(choices=[(kind, TITLES[kind]) for kind in IMPORTERS], label=gettext_lazy("What is in it"))
    file = forms.FileField(
        help_text=gettext_lazy(
            "CSV in UTF-8; for certificates also a ZIP of PEM or DER files, each named after its user."
        )
    )


@require_http_methods(["GET", "POST"])
@permission_required("change_identity")
def imports(request: HttpRequest) -> HttpResponse:
    form = ImportForm(request.POST or None, request.FILES or None, initial={"kind": request.GET.get("kind", "users")})
    if form.is_bound and form.is_valid():
        try:
            file = form.cleaned_data["file"]
            job = take(
                form.cleaned_data["kind"], file.name, file.chunks(PART), operator_of(request), address_of(request)
            )
        except SheetError as error:
            form.add_error("file", str(error))
        else:
            return redirect("imports-detail", job.pk)
    context = {
        "form": form,
        "jobs": Job.objects.imports().defer("refused", "shown")[:SHOWN],
        "sheets": [(TITLES[kind], each.columns, each.needed) for kind, each in IMPORTERS.items()],
    }
    return render(request, "imports/page.html", context, status=422 if form.is_bound else 200)


@require_GET
@permission_required("change_identity")
def detail(request: HttpRequest, pk: Any) -> HttpResponse:
    job = get_object_or_404(Job.objects.imports().defer("refused"), pk=pk)
    groups = [
        {
            "title": title,
            "tone": tone,
            "count": job.counts.get(action, 0),
            "rows": [row for row in job.shown if row["action"] == action],
        }
        for action, (title, tone) in ACTIONS.items()
    ]
    good = job.counts.get("add", 0) + job.counts.get("change", 0)
    context = {
        "job": job,
        "title": TITLES[job.kind],
        "groups": groups,
        "good": good,
        "refused": job.counts.get("refuse", 0),
        "checked": job.state == JobState.CHECKED,
        "finished": job.state == JobState.DONE,
        "counting": job.phase in ("looking at each row", "writing") and job.total,
        "done": done_of(job),
    }
    return render(request, "imports/detail.html", context)


@require_POST
@permission_required("change_identity")
@confirmed
def carry_out(request: HttpRequest, pk: Any, mode: str) -> HttpResponse:
    job = get_object_or_404(Job.objects.imports().defer("refused", "shown"), pk=pk)
    if not go_on(job, JobMode(mode), operator_of(request), address_of(request)):
        messages.error(request, gettext("It is carried out already, or was not looked at yet."))
    return redirect("imports-detail", job.pk)


@require_POST
@permission_required("change_identity")
def discard(request: HttpRequest, pk: Any) -> HttpResponse:
    if throw_away(get_object_or_404(Job.objects.imports().defer("refused", "shown"), pk=pk)):
        messages.success(request, gettext("The file is thrown away; nothing of it was imported."))
    return redirect("imports")


@require_GET
@permission_required("change_identity")
def refused(request: HttpRequest, pk: Any) -> HttpResponse:
    """The rows that were refused, each with its error."""
    job = get_object_or_404(Job.objects.imports(), pk=pk)
    answer = HttpResponse(job.refused, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{job.kind}-refused.csv"'
    return answer


urls = [
    path("import/", imports, name="imports"),
    path("import/<uuid:pk>/", detail, name="imports-detail"),
    path("import/<uuid:pk>/all/", carry_out, {"mode": "all"}, name="imports-all"),
    path("import/<uuid:pk>/good/", carry_out, {"mode": "good"}, name="imports-good"),
    path("import/<uuid:pk>/discard/", discard, name="imports-discard"),
    path("import/<uuid:pk>/refused.csv", refused, name="imports-refused"),
]
