"""The configuration as a whole, its history, answers about access, tests and state."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model

from console import jobs
from console.models import Job
from gateway.models import Change, ChangeSet
from identity.models import Group
from tests import factories
from tests.api.conftest import Caller
from tests.console.refused import refused_request

# --- apply and export ---


def test_an_export_applied_again_changes_nothing(owner: Caller, world: dict[str, Model]) -> None:
    factories.UserFactory(name="bob", password="a long password")
    document = owner.get("/export").json()
    told = owner.post("/apply?prune=true", document)
    assert (told.status_code, told.json()["changes"], told.json()["revision"]) == (200, [], None)


def test_prune_deletes_what_is_left_out_and_a_dry_run_lists_it_first(owner: Caller, world: dict[str, Model]) -> None:
    factories.GroupFactory(name="Idle")
    document = owner.get("/export").json()
    document["groups"] = [each for each in document["groups"] if each["name"] != "Idle"]
    assert owner.post("/apply", document).json()["changes"] == []
    looked = owner.post("/apply?prune=true&dry_run=true", document).json()
    assert [(each["action"], each["name"]) for each in looked["changes"]] == [("removed", "Idle")]
    assert Group.objects.filter(name="Idle").exists()
    done = owner.post("/apply?prune=true", document, Change_Message="spring cleaning").json()
    assert ChangeSet.objects.get(pk=done["revision"]).message == "spring cleaning (token t1)"
    assert not Group.objects.filter(name="Idle").exists()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "version"),
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"version": 1, "groops": []}, "groops"),
        ({"version": 1, "groups": {}}, "groups"),
        ({"version": 1, "groups": [{}]}, "groups[#1].name"),
        ({"version": 1, "users": [{"name": "u", "groups": ["None"]}]}, "users[u].groups"),
    ],
)
def test_what_is_wrong_in_it_is_told_with_its_place(document: Any, field: str, owner: Caller) -> None:
    before = ChangeSet.objects.count()
    answer = owner.post("/apply", document)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert ChangeSet.objects.count() == before


# --- history ---


def test_the_audit_log_can_be_read_and_a_change_undone(owner: Caller) -> None:
    number = owner.put("/groups/Fresh", {"description": "a"}).json()["revision"]
    one = owner.get(f"/changes/{number}").json()
    assert (one["actor"], one["configures"], one["changes"][0]["name"]) == ("olga-owner", True, "Fresh")
    listed = owner.get("/changes/?kind=groups&actor=olga-owner&q=Fresh").json()["items"]
    assert [each["number"] for each in listed] == [number]
    assert owner.get("/changes/?actor=nobody").json()["items"] == []
    looked = owner.post(f"/changes/{number}/undo?dry_run=true").json()
    assert (looked["dry_run"], looked["changes"][0]["action"]) == (True, "removed")
    assert Group.objects.filter(name="Fresh").exists()
    undone = owner.post(f"/changes/{number}/undo", Change_Message="too fresh").json()["revision"]
    assert ChangeSet.objects.get(pk=undone).message == f"undo of change {number}: too fresh (token t1)"
    assert not Group.objects.filter(name="Fresh").exists()
    again = owner.post(f"/changes/{number}/undo")
    assert (again.status_code, again.json()["code"]) == (409, "in_the_way")
    assert "was changed again" in again.json()["errors"][0]["problem"]
    assert owner.get("/changes/999999999").status_code == 404


def test_a_large_change_is_undone_by_a_worker(
    owner: Caller, caller_of: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch, world: dict[str, Model]
) -> None:
    monkeypatch.setattr("console.api.history.MOST", 1)
    entries = [{"name": f"g{number}"} for number in range(3)]
    number = owner.post("/apply", {"version": 1, "groups": entries}).json()["revision"]
    assert owner.post(f"/changes/{number}/undo?dry_run=true").json()["code"] == "too_many"
    asked = owner.post(f"/changes/{number}/undo")
    assert (asked.status_code, asked.json()["state"], asked.json()["number"]) == (202, "waiting", number)
    assert owner.post(f"/changes/{number}/undo")["Location"] == asked["Location"], "one that is at it is the same"
    where = asked["Location"].removeprefix("/api/v1")
    assert owner.get(where.replace("undoings", "imports")).status_code == 404
    jobs.work()
    done = owner.get(where).json()
    assert (done["state"], Group.objects.filter(name__startswith="g").exists()) == ("done", False)
    assert ChangeSet.objects.get(pk=done["revision"]).actor == "olga-owner"
    monkeypatch.setattr("console.views.undo.MOST_WRITTEN", 0)
    changed = owner.post("/apply", {"version": 1, "groups": [{"name": "Partners", "description": "a"}, {"name": "h"}]})
    refused = owner.post(f"/changes/{changed.json()['revision']}/undo")
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many")


def test_a_large_change_is_asked_about_before_a_worker_has_it(
    owner: Caller, caller_of: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch, world: dict[str, Model]
) -> None:
    monkeypatch.setattr("console.api.history.MOST", 1)
    for name in ("bob", "carol"):
        factories.UserFactory(name=name)
    number = owner.post("/bulk/users", {"action": "block", "names": ["bob", "carol"]}).json()["revision"]
    unattended = caller_of("owner", "view", "change_identity")
    refused = unattended.post(f"/changes/{number}/undo")
    assert (refused.status_code, Job.objects.exists()) == (403, False), "it would let them in again"
    assert owner.post(f"/changes/{number}/undo").status_code == 202


def test_the_log_comes_in_pages_the_last_first(owner: Caller) -> None:
    for number in range(5):
        owner.put(f"/groups/g{number}", {})
    found, query = [], "?kind=groups&limit=2"
    while query:
        page = owner.get(f"/changes/{query}").json()
        found += [each["number"] for each in page["items"]]
        query = f"?kind=groups&limit=2&cursor={page['next']}" if page["next"] else ""
    assert len(found) == 5
    assert found == sorted(found, reverse=True)


# --- answers, tests, state ---


def test_answers_about_access_are_those_of_the_pages(owner: Caller) -> None:
    partners = factories.GroupFactory(name="Partners")
    alice = factories.UserFactory(name="alice", groups=[partners], password="a long password")
    factories.CertificateFactory(name="alice", user=alice)
    acl = factories.ACLFactory(name="PartnerApi", allowed=[partners])
    external = factories.ExternalPortFactory(
        name="ext", registration_port__name="reg", service_access={"default": "allow"}
    )
    registration = factories.RegistrationFactory(name="in", port=external.registration_port, allow_test=True)
    factories.InternalPortFactory(name="dial", registration=registration, service_access={"default": "allow"})
    factories.ServiceFactory(name="orders", node=registration.node, path="/orders", execute_acl=acl)
    who = owner.get("/services/orders/access").json()["reached_by"]
    assert [(each["port"], each["callers"][0]["names"]) for each in who] == [("ext", ["alice"])]
    reaches = owner.get("/users/alice/access").json()["reaches"]
    assert {place["path"] for each in reaches for port in each["ports"] for place in port["reached"]} == {"/orders"}
    found = owner.get("/certificates/alice/access").json()
    assert {each["user"] for each in found["means"]} == {"alice"}
    assert owner.get("/services/none/access").status_code == 404
    asked = {"port": "ext", "method": "GET", "path": "/orders", "credential": "certificate", "certificate": "alice"}
    simulated = owner.post("/simulate", asked).json()
    assert (simulated["status"], simulated["lanes"][-1]["user"]) == (200, "alice")
    assert simulated["curl"].startswith("curl ")
    refused = owner.post("/simulate", asked | {"credential": "none"}).json()
    assert refused["status"] != 200 and refused["reason"]
    recorded = Change.objects.filter(kind="test_invoke")
    assert [each.after["simulated"] for each in recorded] == [True, True]


@pytest.mark.parametrize(
    ("more", "field", "status"),
    [
        ({"certificate": "nobody"}, "certificate", 422),
        ({"port": "nowhere"}, "port", 422),
        ({"path": "orders"}, "path", 422),
        ({"headers": [{"name": "X", "value": "a\r\nY: b"}]}, "headers", 400),
        ({"headers": {"X": "y"}}, "headers", 400),
        ({"headers": [{"name": "Content-Length", "value": "3"}]}, "headers", 422),
        ({"host": "elsewhere"}, "host", 400),
        ({"path": 3}, "path", 400),
    ],
)
def test_a_test_invoke_goes_to_a_configured_port_alone(
    more: dict[str, Any], field: str, status: int, owner: Caller, world: dict[str, Model]
) -> None:
    asked = {"port": "ext", "method": "GET", "path": "/orders", "credential": "none"} | more
    for operation in ("invoke", "simulate"):
        answer = owner.post(f"/{operation}", asked)
        assert answer.status_code == status, answer.content
        assert field in {each["field"] for each in answer.json()["errors"]}


def test_a_node_that_does_not_answer_is_a_problem(owner: Caller, world: dict[str, Model]) -> None:
    asked = {"port": "ext", "method": "GET", "path": "/orders", "credential": "none"}
    answer = owner.post("/invoke", asked)
    assert (answer.status_code, answer.json()["code"]) == (503, "no_answer")
    assert Change.objects.filter(kind="test_invoke").count() == 1
    state = owner.get("/state").json()
    assert {each["name"] for each in state["nodes"]} and not any(each["answers"] for each in state["nodes"])
    assert [each["status"] for each in state["tunnels"]] == ["unknown"]
    assert state["concerns"]


def test_refusals_are_found_by_what_they_were(owner: Caller) -> None:
    refused_request(trace_id="ab" * 16, port="ext", node="edge")
    refused_request(trace_id="cd" * 16, port="other", node="edge")
    assert [each["port"] for each in owner.get("/refusals/").json()["items"]] == ["other", "ext"]
    assert [each["trace_id"] for each in owner.get("/refusals/?port=ext").json()["items"]] == ["ab" * 16]
    assert [each["port"] for each in owner.get(f"/refusals/?q={'cd' * 16}").json()["items"]] == ["other"]
    assert owner.get("/refusals/?kind=handshake").json()["items"] == []
    assert owner.get("/state").json()["refused"] == [{"reason": "acl_denied", "count": 2, "before": 0, "trend": "new"}]


def test_what_ends_comes_in_pages_the_nearest_first(owner: Caller, world: dict[str, Model]) -> None:
    everything = owner.get("/expiry/?limit=200").json()["items"]
    assert len(everything) > 3
    assert [each["ends"] for each in everything] == sorted(each["ends"] for each in everything)
    found, query = [], "?limit=2"
    while query:
        page = owner.get(f"/expiry/{query}").json()
        found += page["items"]
        query = f"?limit=2&cursor={page['next']}" if page["next"] else ""
    assert found == everything
    assert owner.get("/expiry/?days=0").json()["items"] == []
    assert {each["kind"] for each in owner.get("/expiry/?kind=client").json()["items"]} == {"client"}
