"""Saved tests: kept, changed, run all together, and compared with the run before."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.curl import curl
from console.forms.invoke import SavedTestForm
from console.invocation import InvocationError
from console.kept import RunState, SavedTest, TestResult, TestRun
from console.permissions import permission_required
from console.saved_tests import ask_for_run, compared, invocation_of, keep, remove
from console.views.pages import PAGE, address_of, operator_of

RUNS_SHOWN = 10
HISTORY = 20  # results of one test on its page


@require_safe
@permission_required("view")
def tests(request: HttpRequest) -> HttpResponse:
    last = TestRun.objects.filter(state=RunState.DONE).first()
    page = Paginator(SavedTest.objects.defer("body", "pem", "password"), PAGE).get_page(request.GET.get("page"))
    results = (
        {each.test_id: each for each in TestResult.objects.filter(run=last, test__in=page.object_list)} if last else {}
    )
    context = {
        "page": page,
        "table": [(test, results.get(test.pk)) for test in page],
        "last": last,
        "runs": _runs(),
        "waits": TestRun.objects.exclude(state=RunState.DONE).exists(),
    }
    return render(request, "saved_tests/list.html", context)


def _runs() -> Any:
    """The last ones, each with how many results there are, and how many are not as expected."""
    rows = TestRun.objects.annotate(done=Count("results"), wrong=Count("results", filter=Q(results__passed=False)))
    return rows.order_by("-started_at")[:RUNS_SHOWN]


@require_http_methods(["GET", "POST"])
@permission_required("test_invoke")
def add(request: HttpRequest) -> HttpResponse:
    """From nothing, or from the test invoke that was just sent (`take`), which fills the form in."""
    if request.method == "POST" and "take" in request.POST:
        initial = {name: value for name, value in request.POST.items() if name != "password"}
        return render(request, "saved_tests/edit.html", {"form": SavedTestForm(initial=initial)})
    return _edit(request, None)


@require_http_methods(["GET", "POST"])
@permission_required("test_invoke")
def edit(request: HttpRequest, pk: Any) -> HttpResponse:
    return _edit(request, get_object_or_404(SavedTest, pk=pk))


def _edit(request: HttpRequest, row: SavedTest | None) -> HttpResponse:
    bound = request.method == "POST"
    form = SavedTestForm(request.POST if bound else None, request.FILES if bound else None, instance=row)
    if bound and form.is_valid():
        saved = keep(form.fill(), operator_of(request), address_of(request))
        messages.success(request, gettext("Test {name} is saved.").format(name=saved))
        return redirect("tests")
    context: dict[str, Any] = {"form": form, "row": row}
    if row is not None:
        context["history"] = row.results.select_related("run").order_by("-run__started_at")[:HISTORY]
        try:
            context["curl"] = curl(invocation_of(SavedTest.objects.get(pk=row.pk)))
        except InvocationError as error:
            context["problem"] = str(error)
    return render(request, "saved_tests/edit.html", context, status=422 if bound else 200)


@require_POST
@permission_required("test_invoke")
def delete(request: HttpRequest, pk: Any) -> HttpResponse:
    row = get_object_or_404(SavedTest, pk=pk)
    remove(row, operator_of(request), address_of(request))
    messages.success(request, gettext("Test {name} is deleted.").format(name=row))
    return redirect("tests")


@require_POST
@permission_required("test_invoke")
def run(request: HttpRequest) -> HttpResponse:
    if not SavedTest.objects.exists():
        messages.error(request, gettext("There is no test to run yet."))
        return redirect("tests")
    return redirect("tests-run", ask_for_run(operator_of(request), address_of(request)).pk)


@require_safe
@permission_required("view")
def run_page(request: HttpRequest, pk: Any) -> HttpResponse:
    row = get_object_or_404(TestRun, pk=pk)
    rows = compared(row)
    wrong = sum(not each.now.passed for each in rows)
    return render(request, "saved_tests/run.html", {"run": row, "rows": rows, "wrong": wrong, "done": len(rows)})


urls = [
    path("tests/", tests, name="tests"),
    path("tests/add/", add, name="tests-add"),
    path("tests/run/", run, name="tests-run-all"),
    path("tests/<uuid:pk>/", edit, name="tests-edit"),
    path("tests/<uuid:pk>/delete/", delete, name="tests-delete"),
    path("tests/runs/<uuid:pk>/", run_page, name="tests-run"),
]
