"""Saved tests and their runs: kept by name, run all together by a worker, each run beside the one before it."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Q

from console import saved_tests
from console.api.answers import form_data
from console.api.conditions import BOTH, check, is_known, tag_of
from console.api.operations import BASE, Answer, Call, Operation
from console.api.paging import PAGING, USUAL, offset_of, page, sealed
from console.api.problems import FieldError, Refused, not_found, of_form, of_validation
from console.api.schemas import (
    COUNT,
    FLAG,
    INVOCATION,
    MAYBE,
    MOMENT,
    RENAMING,
    TEXT,
    maybe,
    page_of,
    several,
    shape,
)  # fmt: skip
from console.curl import curl
from console.forms.invoke import SavedTestForm
from console.invocation import InvocationError
from console.kept import RunState, SavedTest, TestResult, TestRun
from gateway.topology.entries import kept
from gateway.topology.schema import KEPT

HISTORY = 50  # results that are told of one test


def listed(call: Call) -> Answer:
    """Without what may hold somebody's data: who may send it sees it on the test itself."""
    return Answer(page(SavedTest.objects.defer("body", "pem", "password"), call.query, "name", _summary))


def _summary(row: SavedTest) -> dict[str, Any]:
    recorded = row.record()
    return {name: recorded[name] for name in ("name", "request", "as", "expected")}


def one(call: Call) -> Answer:
    told = _told(_test(call))
    tag = tag_of(told)
    return Answer(None, 304, {"ETag": tag}) if is_known(call.request, tag) else Answer(told, headers={"ETag": tag})


@transaction.atomic
def put(call: Call) -> Answer:
    name = call.args["name"]
    row = SavedTest.objects.select_for_update().filter(name=name).first()
    check(call.request, tag_of(_told(row)) if row is not None else "")
    if call.body.get("name", name) != name:
        told = FieldError("name", "is another than the address has", "write the same, or leave it out")
        raise Refused(422, "invalid", "It cannot be stored; nothing was changed.", [told])
    body = _with_password(row, call.body)
    expected = {field: body[field] for field in _EXPECTED if field in body}
    form = SavedTestForm({"name": name, "expected_status": 200} | form_data(body) | expected, instance=row)
    if not form.is_valid():
        raise of_form(form)
    told = _told(saved_tests.keep(form.fill(), call.actor, call.address))
    headers = {"ETag": tag_of(told)} | ({} if row else {"Location": f"/{BASE}/tests/{name}"})
    return Answer(told, 200 if row else 201, headers)


@transaction.atomic
def renamed(call: Call) -> Answer:
    """Its results stay its own."""
    row, name = _test(call, to_change=True), call.body["name"]
    check(call.request, tag_of(_told(row)))
    before, row.name = row.name, name
    try:
        row.full_clean(exclude={each.name for each in SavedTest._meta.get_fields()} - {"name"})
    except ValidationError as error:
        raise of_validation(error) from error
    if name != before:
        saved_tests.keep(row, call.actor, call.address)
    told = _told(row)
    return Answer(told, headers={"ETag": tag_of(told), "Location": f"/{BASE}/tests/{name}"})


def _with_password(row: SavedTest | None, body: dict[str, Any]) -> dict[str, Any]:
    """`{"kept": …}` means the one that is stored; what is left out is none. Raises Refused."""
    given = body.get("password")
    if isinstance(given, dict):
        if row is None or not row.password or kept(row, "password") != given:
            told = FieldError("password", "another password is stored, or none", "give it in the clear")
            raise Refused(422, "invalid", "It cannot be stored; nothing was changed.", [told])
        return {field: value for field, value in body.items() if field != "password"}
    if row is not None and not given:
        row.password = b""
    return body


@transaction.atomic
def deleted(call: Call) -> Answer:
    row = _test(call, to_change=True)
    check(call.request, tag_of(_told(row)))
    saved_tests.remove(row, call.actor, call.address)
    return Answer(None, 204)


def results(call: Call) -> Answer:
    rows = _test(call).results.select_related("run").order_by("-run__started_at", "-pk")[:HISTORY]
    return Answer({"items": [_result(row) | {"run": str(row.run_id), "at": _moment(row.run)} for row in rows]})


def as_curl(call: Call) -> Answer:
    """A line for a shell, with names of files in place of keys, and no password."""
    try:
        return Answer({"curl": curl(saved_tests.invocation_of(_test(call)))})
    except InvocationError as error:
        raise Refused(409, "in_the_way", str(error)) from error


# --- runs ---


def asked_for(call: Call) -> Answer:
    if not SavedTest.objects.exists():
        raise Refused(409, "not_now", "There is no test to run yet.")
    run = saved_tests.ask_for_run(call.actor, call.address)
    return Answer(_run(run), 202, {"Location": f"/{BASE}/test-runs/{run.pk}"})


def runs(call: Call) -> Answer:
    begin, limit = offset_of(call.query), call.query.get("limit", USUAL)
    rows = TestRun.objects.annotate(done=Count("results"), wrong=Count("results", filter=Q(results__passed=False)))
    found = list(rows.order_by("-started_at")[begin : begin + limit + 1])
    following = sealed(begin + limit) if len(found) > limit else None
    items = [_run(row) | {"done": row.done, "wrong": row.wrong} for row in found[:limit]]
    return Answer({"items": items, "next": following})


def run(call: Call) -> Answer:
    row = TestRun.objects.filter(pk=call.args["id"]).first()
    if row is None:
        raise not_found(f"There is no run of this number; the last {TestRun.KEPT} are kept.")
    found = saved_tests.compared(row)
    told = [
        _result(each.now) | {"turn": each.turn, "before": _result(each.before) if each.before else None}
        for each in found
    ]
    wrong = sum(not each.now.passed for each in found)
    return Answer(_run(row) | {"done": len(found), "wrong": wrong, "results": told})


def _run(row: TestRun) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "at": _moment(row),
        "actor": row.actor,
        "state": row.state,
        "revision": row.revision,
        "total": row.total,
    }


def _moment(run: TestRun) -> str:
    return run.started_at.isoformat()


def _result(row: TestResult) -> dict[str, Any]:
    return {
        "name": row.name,
        "passed": row.passed,
        "status": row.status,
        "reason": row.reason or None,
        "user": row.user or None,
        "words": row.words,
        "seconds": row.seconds,
        "trace_id": row.trace_id,
    }


def _test(call: Call, *, to_change: bool = False) -> SavedTest:
    rows = SavedTest.objects.select_for_update() if to_change else SavedTest.objects.all()
    row = rows.filter(name=call.args["name"]).first()
    if row is None:
        raise not_found("There is no saved test of this name.")
    return row


def _told(row: SavedTest) -> dict[str, Any]:
    """What PUT takes."""
    chosen = {row.credential: row.certificate} if row.credential in ("certificate", "keystore") else {}
    password = {"password": kept(row, "password")} if row.password else {}
    told = {
        "port": row.port,
        "method": row.method,
        "path": row.path,
        "credential": row.credential,
        **chosen,
        "pem": row.pem,
        "username": row.username,
        **password,
        "headers": [{"name": name, "value": value} for name, value in row.headers],
        "body": row.body,
        "expected_status": row.expected_status,
        "expected_user": row.expected_user,
        "expected_reason": row.expected_reason,
    }
    return {"name": row.name} | {name: value for name, value in told.items() if value}


_EXPECTED = {
    "expected_status": {"type": "integer", "minimum": 100, "maximum": 599, "description": "Left out: 200"},
    "expected_user": {"type": "string", "description": "Whom it runs as on the last node; left out: whoever it is"},
    "expected_reason": {"type": "string", "description": "Left out: whichever, or none"},
}
_TEST = INVOCATION | {
    "properties": INVOCATION["properties"]
    | {
        "name": TEXT,
        "password": {"anyOf": [INVOCATION["properties"]["password"], KEPT]},
        **_EXPECTED,
    }
}
_SUMMARY = shape(name=TEXT, request=TEXT, expected=TEXT, **{"as": TEXT})
_RESULT = {
    "name": TEXT, "passed": FLAG, "status": {"type": ["integer", "null"]}, "reason": MAYBE, "user": MAYBE,
    "words": TEXT, "seconds": {"type": ["number", "null"]}, "trace_id": TEXT,
}  # fmt: skip
_RUN = {
    "id": TEXT, "at": MOMENT, "actor": TEXT, "state": {"enum": RunState.values}, "revision": COUNT, "total": COUNT,
}  # fmt: skip
_COUNTED = {"done": COUNT, "wrong": COUNT}
_COMPARED = shape(**_RESULT, turn=TEXT, before=maybe(shape(**_RESULT)))
_INVOKING, _ONE = ("view", "test_invoke"), "/tests/{name}"
OPERATIONS = [
    Operation("tests_list", "GET", "/tests/", "Saved tests, in the order of their names",
              listed, ("view",), {200: page_of(_SUMMARY)}, "tests", PAGING),
    Operation("tests_get", "GET", _ONE, "One saved test",
              one, _INVOKING, {200: _TEST}, "tests", headers=("If-None-Match",), refusals=(404,)),
    Operation("tests_put", "PUT", _ONE, "Keep a test invoke, with what is expected to come of it",
              put, _INVOKING, {200: _TEST, 201: _TEST}, "tests", headers=BOTH, body=_TEST, refusals=(412, 422)),
    Operation("tests_rename", "POST", f"{_ONE}/rename", "Give it another name; its results stay its own",
              renamed, _INVOKING, {200: _TEST}, "tests", headers=("If-Match",), body=RENAMING,
              refusals=(404, 412, 422)),
    Operation("tests_delete", "DELETE", _ONE, "Delete a saved test",
              deleted, _INVOKING, {204: None}, "tests", headers=("If-Match",), refusals=(404, 412)),
    Operation("tests_results", "GET", f"{_ONE}/results", "What came of it in the last runs",
              results, ("view",), {200: shape(items=several(shape(**_RESULT, run=TEXT, at=MOMENT)))}, "tests",
              refusals=(404,)),
    Operation("tests_curl", "GET", f"{_ONE}/curl", "The curl that would send the same",
              as_curl, _INVOKING, {200: shape(curl=TEXT)}, "tests", refusals=(404, 409)),
    Operation("test_runs_list", "GET", "/test-runs/", "Runs of all saved tests, the last ones first",
              runs, ("view",), {200: page_of(shape(**_RUN, **_COUNTED))}, "tests", PAGING),
    Operation("test_runs_ask", "POST", "/test-runs/", "Run all saved tests; a worker begins at once",
              asked_for, _INVOKING, {202: shape(**_RUN)}, "tests", refusals=(409,), costly=True),
    Operation("test_runs_get", "GET", "/test-runs/{id}", "A run, each result beside that of the run before",
              run, ("view",), {200: shape(**_RUN, **_COUNTED, results=several(_COMPARED))}, "tests", refusals=(404,)),
]  # fmt: skip
