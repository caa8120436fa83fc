"""Every operation, walked over: who may, what it answers to what it does not understand, what it tells of itself."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import get_resolver

from console.api.openapi import document
from console.api.operations import Operation
from console.api.urls import OPERATIONS
from console.models import CONFIRMED, PERMISSIONS, Job, JobState, Operator, Role, TestRun, Token
from gateway.models import ChangeSet
from gateway.topology.entries import SECTIONS
from tests.api.conftest import Caller
from tests.console.refused import refused_request, saved_test

IDS = [operation.id for operation in OPERATIONS]


def address(operation: Operation, world: dict[str, Model]) -> str:
    row = world.get(operation.tag)
    name = getattr(row, "name", "")
    match operation.id.partition("_")[0]:
        case "operators":
            name = Operator.objects.get_or_create(username="olaf")[0].username
        case "tests":
            name = saved_test().name
    number = Token.objects.latest("id").pk if operation.tag == "tokens" else ChangeSet.objects.latest("id").pk
    if operation.tag in ("imports", "undoings"):
        more = {"kind": "users"} if operation.tag == "imports" else {"kind": "undo", "undoes": number}
        job, _ = Job.objects.get_or_create(filename="users.csv", actor="tests", state=JobState.CHECKED, **more)
        key = job.pk
    else:
        key = TestRun.objects.get_or_create(actor="tests", revision=1)[0].pk if "{id}" in operation.path else None
    trace = refused_request(trace_id="ab" * 16).trace_id if "{trace_id}" in operation.path else ""
    needed = {"kind": "users", "q": "alice"}
    query = "&".join(f"{each.name}={needed[each.name]}" for each in operation.queries if each.required)
    arguments = {"name": name, "number": number, "id": key, "trace_id": trace, "mark": "ab" * 20}
    return f"{operation.path}{f'?{query}' if query else ''}".format(**arguments)


def asked(caller: Caller, operation: Operation, world: dict[str, Model]) -> Any:
    body = {"": "nothing that anybody would take"} if operation.body is not None else None
    return caller.ask(operation.method, address(operation, world), body)


# --- who may ---


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_each_takes_the_permissions_that_it_declares(
    operation: Operation, caller_of: Callable[..., Caller], world: dict[str, Model]
) -> None:
    """With all scopes but one of those an owner is refused; with those alone he is heard."""
    for missing in operation.permissions:
        others = [each for each in PERMISSIONS if each != missing]
        answer = asked(caller_of("owner", *others), operation, world)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), missing
        assert f'scope="{missing}"' in answer["WWW-Authenticate"]
    if operation.confirmed:
        answer = asked(caller_of("owner", *operation.permissions), operation, world)
        assert (answer.status_code, 'scope="confirmed"' in answer["WWW-Authenticate"]) == (403, True)
    answer = asked(caller_of("owner", *operation.permissions, CONFIRMED), operation, world)
    assert answer.status_code != 401
    takes_more = operation.id in ("changes_undo", "apply")  # what it takes hangs on what it is about
    assert answer.status_code != 403 or takes_more


def test_no_operation_is_open_to_every_token() -> None:
    assert all(operation.permissions for operation in OPERATIONS)
    changing = [
        each for each in OPERATIONS
        if each.method != "GET" and each.tag not in ("tests", "changes", "configuration", "tokens")
    ]  # fmt: skip
    changes = {each for each in PERMISSIONS if each.startswith("change_")}
    assert all(set(each.permissions) & changes for each in changing)


@pytest.mark.parametrize("role", ["none", "viewer", "operator", "security"])
def test_roles_change_what_they_may_and_leave_no_trace_of_the_rest(
    role: str, caller_of: Callable[..., Caller], world: dict[str, Model]
) -> None:
    caller, rank = caller_of("owner"), list(Role)
    caller.operator.role = role
    caller.operator.save()
    before = ChangeSet.objects.count()
    for operation in OPERATIONS:
        needed = max(rank.index(PERMISSIONS[each]) for each in operation.permissions)
        if rank.index(Role(role)) < needed:
            assert asked(caller, operation, world).status_code == 403, operation.id
    assert ChangeSet.objects.count() == before


def test_undoing_takes_what_the_change_took(caller_of: Callable[..., Caller], world: dict[str, Model]) -> None:
    number = caller_of("owner").put("/groups/Fresh", {}).json()["revision"]
    without = caller_of("owner", "view", "change_gateway")
    assert without.post(f"/changes/{number}/undo").status_code == 403
    assert caller_of("owner", "view", "change_identity").post(f"/changes/{number}/undo").status_code == 200


def test_applying_takes_what_its_sections_take(caller_of: Callable[..., Caller]) -> None:
    gateway = caller_of("owner", "view", "change_gateway")
    assert gateway.post("/apply", {"version": 1, "nodes": [{"name": "n", "role": "edge"}]}).status_code == 200
    assert gateway.post("/apply", {"version": 1, "users": [{"name": "u"}]}).status_code == 403
    assert gateway.post("/apply?prune=true", {"version": 1}).status_code == 403, "it would delete users"


# --- what is not understood ---


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_unknown_methods_parameters_and_bodies_are_problems(
    operation: Operation, owner: Caller, world: dict[str, Model]
) -> None:
    path, before = address(operation, world), ChangeSet.objects.count()
    others = owner.ask("PATCH", path)
    assert (others.status_code, operation.method in others["Allow"]) == (405, True)
    mistyped = owner.ask(
        operation.method, f"{path}{'&' if '?' in path else '?'}dryrun=true", {} if operation.body is not None else None
    )
    assert (mistyped.status_code, mistyped.json()["errors"][0]["field"]) == (400, "dryrun")
    answers = [others, mistyped]
    if operation.body is not None:
        form = Client().generic(
            operation.method, f"/api/v1{path}", "a=b", "application/x-www-form-urlencoded",
            headers={"Authorization": f"Bearer {owner.text}"},
        )  # fmt: skip
        answers += [form]
        assert form.status_code == 415
        if operation.takes == ("application/json",):
            answers += [owner.ask(operation.method, path, "[]"), owner.ask(operation.method, path, "{")]
            assert [answer.status_code for answer in answers[3:]] == [400, 400]
    for answer in answers:
        assert answer["Content-Type"] == "application/problem+json"
    assert ChangeSet.objects.count() == before


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"description": "a", "description": "b"}', id="a-key-twice"),
        pytest.param('{"description": "\\u0000"}', id="nul"),
        pytest.param('{"description": "\\ud800"}', id="half-a-character"),
        pytest.param('{"a": ' + "[" * 30 + "]" * 30 + "}", id="deep"),
        pytest.param("[" * 100_000, id="deeper-than-the-parser-goes"),
        pytest.param('{"a": NaN}', id="no-number"),
        pytest.param('{"a": ' + "9" * 5000 + "}", id="a-number-too-long"),
        pytest.param(b"\xff", id="no-text"),
    ],
)
def test_bodies_that_no_database_could_hold(text: str | bytes, owner: Caller) -> None:
    answer = owner.put("/groups/G", text)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_body_that_is_too_large(owner: Caller, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = owner.put("/groups/G", {"description": "x" * 2000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?limit=0", "limit"), ("?limit=201", "limit"), ("?limit=x", "limit"), ("?limit=1&limit=2", "limit"),
        ("?cursor=!", "cursor"), ("?cursor=AA", "cursor"), ("?cursor=w6k", ""), ("?q=%00", "q"),
        ("?q=" + "x" * 201, "q"),
    ],
)  # fmt: skip
def test_parameters_are_read_strictly(query: str, field: str, owner: Caller) -> None:
    answer = owner.get(f"/groups/{query}")
    assert answer.status_code == (422 if field == "cursor" else 400 if field else 200)
    assert not field or answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("text", ["x" * 501, "caf\xe9", "a\tb"])
def test_a_message_is_words(text: str, owner: Caller) -> None:
    answer = owner.put("/groups/G", {}, Change_Message=text)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Change-Message")


@pytest.mark.parametrize(
    "path", ["/api/", "/api/v1/", "/api/v1/no/such", "/api/v1/users", "/api/v1/users/a%2Fb", "/api"]
)
def test_elsewhere_there_is_a_problem_too(path: str, db: None) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")


def test_what_goes_wrong_in_here_is_told_without_the_inside(
    owner: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("console.api.paging.sealed", lambda place: 1 / 0)
    factory = [owner.put(f"/groups/g{number}", {}) for number in range(2)]
    assert all(answer.status_code == 201 for answer in factory)
    answer = owner.get("/groups/?limit=1")
    assert (answer.status_code, answer.json()["code"]) == (500, "failed")
    assert "division" not in answer.content.decode()
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.method == "GET"], ids=lambda each: each.id)
def test_no_answer_takes_more_than_twenty_queries(
    operation: Operation, owner: Caller, world: dict[str, Model], django_assert_max_num_queries: Any
) -> None:
    asked(owner, operation, world)  # what is in force is read once for all who ask, after each change
    with django_assert_max_num_queries(20 if operation.id != "export" else 3 * len(SECTIONS)):
        assert asked(owner, operation, world).status_code == 200


# --- what it tells of itself ---


def test_the_document_is_open_and_stable(client: Client) -> None:
    answer = client.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.json()["openapi"]) == (200, "3.1.0")
    assert answer.json() == json.loads(json.dumps(document(OPERATIONS)))
    assert client.post("/api/v1/openapi.json").status_code == 405


def test_every_route_is_in_the_document_and_each_name_once() -> None:
    told = {re.sub(r"\{\w+\}", "*", path): set(methods) for path, methods in document(OPERATIONS)["paths"].items()}
    routes = {str(each.pattern) for each in get_resolver().url_patterns if str(each.pattern).startswith("api/v1/")}
    assert {re.sub(r"<\w+:\w+>", "*", f"/{route}") for route in routes} == told.keys() | {"/api/v1/openapi.json"}
    assert len(IDS) == len(set(IDS))
    assert all(re.fullmatch(r"[a-z_]+", each) for each in IDS)


def test_no_answer_of_it_has_a_secret_that_was_planted(owner: Caller, world: dict[str, Model]) -> None:
    password = "correct horse battery staple"
    told = owner.put("/endpoints/batch", {"url": "https://x.example", "identity": "basic", "username": "b",
                                          "password": password})  # fmt: skip
    assert told.status_code == 201, told.content
    assert owner.put("/users/bob", {"password": password}).status_code == 201
    wrong = owner.put("/users/bob", {"password": password, "no_such": password})
    answers = [
        told,
        wrong,
        owner.get("/export"),
        owner.get("/changes/"),
        owner.put("/keystores/k", {"private_key": password}),
    ]
    answers += [owner.ask("GET", address(each, world)) for each in OPERATIONS if each.method == "GET"]
    answers += [owner.get("/endpoints/batch"), owner.get("/users/bob")]
    assert all(password not in answer.content.decode() for answer in answers)
    assert set(owner.get("/users/bob").json()["password"]) == {"kept"}
