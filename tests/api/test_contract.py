"""The API against its own document: whatever that lets somebody send is answered as it says, and nothing breaks it."""

import copy
import re
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.db.models import Model
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from console import tokens
from console.api.openapi import document
from console.api.urls import OPERATIONS
from console.models import CONFIRMED, PERMISSIONS, Job, JobState, Operator, TestRun
from identity.core.names import is_name
from tests.api.conftest import Caller
from tests.console.refused import saved_test

# Requests of each operation besides those that try every parameter at its bounds.
EXAMPLES = 4
# Besides what is done: what a document cannot say. A name refers to nothing; an object is not as was taken for granted.
LAWFUL = ["2xx", "304", "403", "404", "409", "412", "422", "503"]
REJECTED = ["400", "401", "404", "405", "409", "412", "415", "422"]
ANY_TEXT = {"expected-statuses": [*REJECTED, "202"]}
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"allow-x00": False, "deterministic": True},
        "checks": {
            "positive_data_acceptance": {"expected-statuses": LAWFUL},
            # What is taken for granted is looked at first (RFC 9110, section 13.2.1).
            "negative_data_rejection": {"expected-statuses": REJECTED},
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
        },
        # Whatever is sent is a text: what is in it, a worker finds out.
        "operations": [{"include-operation-id": "imports_take", "checks": {"negative_data_rejection": ANY_TEXT}}],
    }
)


def smaller() -> dict[str, Any]:
    """The document, but that three sections are applied: each of the thirteen is tried by itself, and making up a whole
    of all of them takes minutes. Nor are keys made that take seconds."""
    found = copy.deepcopy(document(OPERATIONS))
    whole = copy.deepcopy(found["components"]["schemas"]["document"])
    whole["properties"] = {name: whole["properties"][name] for name in ("version", "nodes", "groups", "users")}
    found["paths"]["/api/v1/apply"]["post"]["requestBody"]["content"]["application/json"]["schema"] = whole
    for operation in ("generate", "ask"):
        post = found["paths"][f"/api/v1/keystores/{{name}}/{operation}"]["post"]
        kind = post["requestBody"]["content"]["application/json"]["schema"]["properties"]["kind"]
        kind["enum"] = [each for each in kind["enum"] if not each.startswith("rsa")]
    return found


@schemathesis.serializer("application/zip")
def as_it_is(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


schema = schemathesis.openapi.from_dict(smaller(), config=CONFIG)
schema.app = get_wsgi_application()


def what_is_there(tag: str, world: dict[str, Model]) -> dict[str, str]:
    """Argument of an address → one that means something."""
    match tag:
        case "tests":
            run, _ = TestRun.objects.get_or_create(actor="tests", revision=1)
            return {"name": saved_test().name, "id": str(run.pk)}
        case "operators":
            return {"name": Operator.objects.get_or_create(username="olaf")[0].username}
        case "imports":
            state = JobState.CHECKED
            job, _ = Job.objects.get_or_create(kind="users", filename="users.csv", actor="tests", state=state)
            return {"id": str(job.pk)}
    return {"name": world[tag].name} if tag in world else {}  # type: ignore[attr-defined]


def is_lawful(argument: str, value: Any) -> bool:
    """What is to be refused for its form must stay as it is."""
    return bool(re.fullmatch(r"[0-9a-f-]{36}", str(value))) if argument == "id" else is_name(str(value))


@pytest.fixture
def in_one_transaction() -> Iterator[None]:
    """As Django's own test client has it: no request ends the connection that the test's transaction is on."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@pytest.mark.timeout(120)
@pytest.mark.usefixtures("in_one_transaction")
def test_every_answer_is_as_the_document_says(
    case: Case, owner: Caller, world: dict[str, Model], settings: Any
) -> None:
    settings.CONSOLE_LOGIN_FAILURES = 1_000_000  # wrong tokens are tried too, in number
    settings.CONSOLE_COSTLY_PER_MINUTE = settings.CONSOLE_API_PER_MINUTE = 1_000_000
    there = what_is_there(case.operation.tags[0], world)
    for argument, value in list((case.path_parameters or {}).items()):
        if argument in there and is_lawful(argument, value) and zlib.crc32(str(value).encode()) % 2:
            case.path_parameters[argument] = there[argument]  # half of what is asked for is there
    if case.operation.tags == ["tokens"]:  # the one that asks may be the one that is revoked
        tokens.revoke_all(owner.operator, "tests", None)
        owner = Caller(owner.operator, [*PERMISSIONS, CONFIRMED])
    case.call_and_validate(headers={"Authorization": f"Bearer {owner.text}"})
