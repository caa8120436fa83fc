"""Imports, saved tests, refusals and the search over the API."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from console import jobs
from console.models import Job, JobPart, SavedTest, TestResult, TestRun
from gateway.models import Change, ChangeSet
from identity.models import User
from tests import factories
from tests.api.conftest import Caller
from tests.console.refused import lane, refused_request, saved_test
from tests.minting import mint

# --- imports ---


def sent(owner: Caller, data: bytes, query: str = "kind=users", media: str = "text/csv") -> Any:
    headers = {"Authorization": f"Bearer {owner.text}"}
    return Client().generic("POST", f"/api/v1/imports/?{query}", data, media, headers=headers)


def test_a_file_is_taken_looked_at_and_imported(owner: Caller) -> None:
    answer = sent(owner, b"name,description\nbob,a\nno good,b\n", "kind=users&filename=people.csv")
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    where = answer["Location"].removeprefix("/api/v1")
    early = owner.post(f"{where}/carry-out", {"mode": "good"})
    assert (early.status_code, early.json()["code"]) == (409, "not_now")
    jobs.work()
    seen = owner.get(where).json()
    assert (seen["state"], seen["counts"]["add"], seen["counts"]["refuse"]) == ("checked", 1, 1)
    assert ("no good", "refuse") in {(row["name"], row["action"]) for row in seen["rows"]}
    assert not User.objects.filter(name="bob").exists()
    refused = owner.get(f"{where}/refused")
    assert (refused["Content-Type"], "no good" in refused.content.decode()) == ("text/csv; charset=utf-8", True)
    done = owner.post(f"{where}/carry-out", {"mode": "good"})
    assert (done.status_code, done["Location"]) == (202, answer["Location"])
    jobs.work()
    finished = owner.get(where).json()
    assert finished["state"] == "done"
    assert ChangeSet.objects.get(pk=finished["revision"]).actor == "olga-owner"
    assert User.objects.filter(name="bob").exists()
    assert owner.delete(where).status_code == 409
    assert [each["filename"] for each in owner.get("/imports/").json()["items"]] == ["people.csv"]


def test_a_file_may_be_thrown_away(owner: Caller) -> None:
    where = sent(owner, b"name\nbob\n")["Location"].removeprefix("/api/v1")
    jobs.work()
    assert (owner.delete(where).status_code, Job.objects.exists()) == (204, False)
    assert owner.get(where).status_code == 404


@pytest.mark.parametrize(
    ("query", "media", "status"),
    [("", "text/csv", 400), ("kind=nodes", "text/csv", 400), ("kind=users", "application/json", 415)],
)
def test_what_no_import_is_made_of(query: str, media: str, status: int, owner: Caller) -> None:
    assert sent(owner, b"name\nbob\n", query, media).status_code == status
    assert not Job.objects.exists()


def test_a_file_is_larger_than_what_is_held_in_memory_and_has_its_end(
    owner: Caller, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    monkeypatch.setattr("console.api.imports.MAX_FILE", 100)
    assert sent(owner, b"name\n" + b"a" * 95).status_code == 202
    answer = sent(owner, b"name\n" + b"a" * 96)
    assert (answer.status_code, answer.json()["code"], JobPart.objects.count()) == (413, "too_large", 1)


def test_no_file_lets_somebody_in_again_by_itself(caller_of: Callable[..., Caller], owner: Caller) -> None:
    """Nor where nobody was shut out yet when it was looked at."""
    unattended = caller_of("owner", "view", "change_identity")
    bob = factories.UserFactory(name="bob")
    where = sent(unattended, b"name,enabled\nbob,true\n")["Location"].removeprefix("/api/v1")
    jobs.work()
    assert unattended.get(where).json()["counts"].get("same") == 1
    assert unattended.post("/users/bob/block").status_code == 200
    assert unattended.post(f"{where}/carry-out", {"mode": "all"}).status_code == 202
    jobs.work()
    told = unattended.get(where).json()
    assert (told["state"], "scope confirmed" in told["problem"]) == ("failed", True)
    bob.refresh_from_db()
    assert not bob.enabled
    where = sent(owner, b"name,enabled\nbob,true\n")["Location"].removeprefix("/api/v1")
    jobs.work()
    owner.post(f"{where}/carry-out", {"mode": "all"})
    jobs.work()
    bob.refresh_from_db()
    assert bob.enabled


# --- saved tests ---

KEPT = {"port": "ext", "method": "GET", "path": "/orders", "credential": "none", "expected_status": 401}


def test_a_test_is_kept_by_name(owner: Caller, world: dict[str, Model]) -> None:
    added = owner.put("/tests/orders", KEPT)
    assert (added.status_code, added["Location"]) == (201, "/api/v1/tests/orders")
    again = owner.put("/tests/orders", added.json())
    assert (again.status_code, again.json()) == (200, added.json())
    assert owner.get("/tests/orders").json() == KEPT | {"name": "orders"}
    assert owner.get("/tests/").json()["items"] == [
        {"name": "orders", "request": "GET /orders at ext", "as": "none", "expected": "401"}
    ]
    assert owner.get("/tests/orders/curl").json()["curl"].startswith("curl ")
    assert owner.delete("/tests/orders").status_code == 204
    actions = list(Change.objects.filter(kind="saved_tests").order_by("id").values_list("action", flat=True))
    assert (actions[0], actions[-1]) == ("added", "removed")
    assert owner.get("/tests/orders").status_code == 404


def test_a_test_is_changed_only_as_it_was_read(owner: Caller, world: dict[str, Model]) -> None:
    added = owner.put("/tests/orders", KEPT, If_None_Match="*")
    read = owner.get("/tests/orders")
    assert (added.status_code, read["ETag"]) == (201, added["ETag"])
    assert owner.get("/tests/orders", If_None_Match=read["ETag"]).status_code == 304
    assert owner.put("/tests/orders", KEPT, If_None_Match="*").json()["code"] == "is_there"
    assert owner.put("/tests/other", KEPT, If_Match="*").json()["code"] == "changed_meanwhile"
    done = owner.put("/tests/orders", KEPT | {"expected_status": 403}, If_Match=read["ETag"])
    assert (done.status_code, done["ETag"] != read["ETag"]) == (200, True)
    for late in (
        owner.put("/tests/orders", KEPT, If_Match=read["ETag"]),
        owner.delete("/tests/orders", If_Match=read["ETag"]),
        owner.post("/tests/orders/rename", {"name": "invoices"}, If_Match=read["ETag"]),
    ):
        assert (late.status_code, late.json()["code"], late["ETag"]) == (412, "changed_meanwhile", done["ETag"])
    assert SavedTest.objects.get().expected_status == 403
    assert owner.delete("/tests/orders", If_Match=done["ETag"]).status_code == 204


def test_a_test_is_renamed_with_its_password_and_results(owner: Caller, world: dict[str, Model]) -> None:
    by_password = KEPT | {"credential": "password", "username": "alice", "password": "planted secret"}
    owner.put("/tests/orders", by_password)
    owner.put("/tests/taken", KEPT)
    done = owner.post("/tests/orders/rename", {"name": "invoices"})
    assert (done.status_code, done["Location"]) == (200, "/api/v1/tests/invoices")
    assert (done.json(), done["ETag"]) == ((found := owner.get("/tests/invoices")).json(), found["ETag"])
    assert SavedTest.objects.get(name="invoices").open_password() == "planted secret"
    for name in ("taken", "no name"):
        told = owner.post("/tests/invoices/rename", {"name": name})
        assert (told.status_code, told.json()["errors"][0]["field"]) == (422, "name")
    assert owner.get("/tests/orders").status_code == 404


def test_a_password_is_kept_and_never_told(owner: Caller, world: dict[str, Model]) -> None:
    by_password = KEPT | {"credential": "password", "username": "alice", "password": "planted secret"}
    told = owner.put("/tests/orders", by_password)
    assert (told.status_code, "planted secret" in told.content.decode()) == (201, False)
    entry = told.json()
    assert owner.put("/tests/orders", entry).status_code == 200
    assert SavedTest.objects.get().open_password() == "planted secret"
    other = owner.put("/tests/orders", entry | {"password": {"kept": "another"}})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "password")
    left_out = owner.put("/tests/orders", {name: value for name, value in entry.items() if name != "password"})
    assert (left_out.status_code, left_out.json()["errors"][0]["field"]) == (422, "password")
    assert SavedTest.objects.get().open_password() == "planted secret"
    assert "planted secret" not in json.dumps(owner.get("/tests/orders").json())


@pytest.mark.parametrize(
    ("more", "field", "status"),
    [
        ({"expected_reason": "none"}, "expected_reason", 422),
        ({"expected_status": 99}, "expected_status", 400),
        ({"port": "none"}, "port", 422),
        ({"name": "other"}, "name", 422),
        ({"headers": [{"name": "Cookie", "value": "a"}]}, "headers", 422),
    ],
)
def test_what_no_test_is_made_of(
    more: dict[str, Any], field: str, status: int, owner: Caller, world: dict[str, Model]
) -> None:
    answer = owner.put("/tests/orders", KEPT | more)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (status, field)


def test_runs_are_compared(owner: Caller) -> None:
    none = owner.post("/test-runs/")
    assert (none.status_code, none.json()["code"]) == (409, "not_now")
    test = saved_test("orders")
    asked = owner.post("/test-runs/")
    assert (asked.status_code, asked.json()["state"], asked.json()["total"]) == (202, "waiting", 1)
    assert owner.post("/test-runs/")["Location"] == asked["Location"], "one that waits is the same"
    TestRun.objects.all().delete()
    for minutes, passed in ((2, True), (1, False)):
        run = TestRun.objects.create(
            actor="a", revision=1, state="done", started_at=timezone.now() - timedelta(minutes=minutes)
        )
        TestResult.objects.create(run=run, test=test, name="orders", passed=passed, status=200)
    told = owner.get(f"/test-runs/{run.pk}").json()
    assert (told["done"], told["wrong"], told["results"][0]["turn"]) == (1, 1, "broken")
    assert [each["wrong"] for each in owner.get("/test-runs/").json()["items"]] == [1, 0]
    assert [each["passed"] for each in owner.get("/tests/orders/results").json()["items"]] == [False, True]


# --- refusals ---


def test_a_refusal_tells_what_was_looked_at_and_what_to_change(owner: Caller, world: dict[str, Model]) -> None:
    trace = "ab" * 16
    refused_request(trace_id=trace, lanes=[lane(route="service orders:whoami")])
    told = owner.get(f"/refusals/{trace}").json()
    (request,) = told["requests"]
    assert (request["reason"], request["nodes"], request["found"]) == ("acl_denied", ["edge"], "user alice in Partners")
    assert request["lanes"][0]["steps"][0]["against"] == "ACL Orders allows none; denies none"
    assert request["remedy"] and any("PartnerApi" in each for each in request["to_change"])
    assert owner.get(f"/refusals/{'cd' * 16}").status_code == 404
    assert owner.get("/refusals/none").status_code == 404


def test_refusals_are_found_by_time_and_by_the_last_nodes_reason(owner: Caller) -> None:
    now = timezone.now()
    refused_request(at=now - timedelta(hours=2), trace_id="01" * 16, reason="endpoint_refused", cause="acl_denied")
    refused_request(at=now, trace_id="02" * 16)
    since = (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def found(query: str) -> list[str]:
        return [each["trace_id"][:2] for each in owner.get(f"/refusals/?{query}").json()["items"]]

    assert (found(f"since={since}"), found(f"until={since}")) == (["02"], ["01"])
    assert found("reason=acl_denied") == ["02", "01"]
    naive = owner.get("/refusals/?since=2027-01-01T00:00:00")
    assert (naive.status_code, naive.json()["errors"][0]["field"]) == (400, "since")


def test_certificates_that_were_refused_come_as_they_were_shown(owner: Caller, world: dict[str, Model]) -> None:
    from console.models import ShownCertificate

    stranger = mint("CN=stranger", factories.partner_ca())
    sha256 = stranger.certificate.sha256
    for _ in range(2):
        refused_request(kind="handshake", certificate=sha256, subject="CN=stranger", proven=True, port="ext")
    ShownCertificate.objects.create(sha256=sha256, pem=stranger.pem, seen_at=timezone.now())
    (told,) = owner.get("/refused-certificates/").json()["items"]
    assert (told["count"], told["certificate"], told["on_file"]) == (2, stranger.pem, None)
    assert owner.post("/certificate-block", {"certificate": told["certificate"]}).status_code == 200
    assert owner.get("/refused-certificates/").json()["items"][0]["on_file"] == "stranger"


# --- search ---


def test_one_search_over_all_kinds(owner: Caller, world: dict[str, Model]) -> None:
    found = {each["section"]: [hit["name"] for hit in each["found"]] for each in
             owner.get("/search?q=orders").json()["kinds"]}  # fmt: skip
    assert found == {"services": ["orders:whoami"], "endpoints": ["orders"], "apis": ["orders"]}
    refused_request(trace_id="ab" * 16)
    assert owner.get(f"/search?q={'ab' * 16}").json()["trace_id"] == "ab" * 16
    assert owner.get("/search").status_code == 400
