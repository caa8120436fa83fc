"""Every noun over the API: as the file has it, by name, in pages, and only as the client takes it for granted."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model

from gateway.models import ChangeSet, Node, Port, Service
from gateway.topology.entries import SECTIONS, entry_of, stored
from identity.models import Certificate, Group, User
from tests import factories
from tests.api.conftest import Caller


def entries(section: str) -> dict[str, Any]:
    return {row.name: entry_of(row) for row in stored(SECTIONS[section])}


# --- reading ---


@pytest.mark.parametrize("section", list(SECTIONS))
def test_each_is_represented_as_the_file_has_it(section: str, owner: Caller, world: dict[str, Model]) -> None:
    listed = owner.get(f"/{section}/")
    assert (listed.status_code, listed["Content-Type"]) == (200, "application/json")
    assert {each["name"]: each for each in listed.json()["items"]} == entries(section)
    name = world[section].name  # type: ignore[attr-defined]
    assert owner.get(f"/{section}/{name}").json() == entries(section)[name]


@pytest.mark.parametrize("section", list(SECTIONS))
def test_what_was_read_can_be_put_back_and_changes_nothing(
    section: str, owner: Caller, world: dict[str, Model]
) -> None:
    before, name = ChangeSet.objects.count(), world[section].name  # type: ignore[attr-defined]
    read = owner.get(f"/{section}/{name}")
    told = owner.put(f"/{section}/{name}", read.json(), If_Match=read["ETag"])
    assert (told.status_code, told.json()["changes"], told.json()["revision"]) == (200, [], None)
    assert (told["ETag"], ChangeSet.objects.count()) == (read["ETag"], before)


@pytest.mark.parametrize("section", list(SECTIONS))
def test_the_queries_of_a_list_do_not_grow(
    section: str, owner: Caller, world: dict[str, Model], django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(9):
        assert owner.get(f"/{section}/").status_code == 200


def test_a_list_comes_in_pages_without_losing_or_repeating(owner: Caller) -> None:
    for number in range(7):
        factories.GroupFactory(name=f"g{number}")
    found, query = [], "?q=g&limit=3"
    while query:
        page = owner.get(f"/groups/{query}").json()
        found += [each["name"] for each in page["items"]]
        factories.GroupFactory(name=f"g0-{len(found)}")  # what comes meanwhile, before, moves nothing
        query = f"?q=g&limit=3&cursor={page['next']}" if page["next"] else ""
    assert [name for name in found if len(name) == 2] == [f"g{number}" for number in range(7)]
    assert len(found) == len(set(found))


def test_text_is_looked_for_where_the_pages_look_for_it(owner: Caller, world: dict[str, Model]) -> None:
    fingerprint = world["certificates"].sha256  # type: ignore[attr-defined]
    assert [each["name"] for each in owner.get(f"/certificates/?q={fingerprint[:20]}").json()["items"]] == ["alice"]
    assert owner.get("/certificates/?q=nobody-has-this").json() == {"items": [], "next": None}


def test_an_entity_tag_tells_whether_it_was_changed(owner: Caller, world: dict[str, Model]) -> None:
    first = owner.get("/users/alice")
    same = owner.get("/users/alice", If_None_Match=f"W/{first['ETag']}")
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])
    assert owner.put("/users/alice", {"description": "changed"}).status_code == 200
    again = owner.get("/users/alice", If_None_Match=first["ETag"])
    assert again.status_code == 200
    assert again["ETag"] != first["ETag"]


# --- writing ---


def test_put_adds_and_then_makes_equal(owner: Caller) -> None:
    added = owner.put(
        "/groups/Partners", {"description": "who buys"}, Change_Message="für Ada".encode().decode("latin-1")
    )
    assert (added.status_code, added["Location"]) == (201, "/api/v1/groups/Partners")
    change = added.json()["changes"][0]
    assert (change["action"], change["section"], change["name"], change["before"]) == (
        "added",
        "groups",
        "Partners",
        None,
    )
    made = ChangeSet.objects.get(pk=added.json()["revision"])
    assert (made.actor, made.message, made.address) == ("olga-owner", "für Ada (token t1)", "127.0.0.1")
    again = owner.put("/groups/Partners", {"description": "who buys"})
    assert (again.status_code, again.json()["changes"]) == (200, [])
    assert owner.put("/groups/Partners", {}).status_code == 200
    assert Group.objects.get(name="Partners").description == "", "what is left out is gone: put replaces"


@pytest.mark.parametrize("section", list(SECTIONS))
def test_what_is_renamed_stays_what_it_is(section: str, owner: Caller, world: dict[str, Model]) -> None:
    row, count = world[section], SECTIONS[section]._default_manager.count()
    before = owner.get(f"/{section}/{row.name}")  # type: ignore[attr-defined]
    looked = owner.post(f"/{section}/{row.name}/rename?dry_run=true", {"name": "another"})  # type: ignore[attr-defined]
    assert (looked.status_code, owner.get(f"/{section}/another").status_code) == (200, 404)
    done = owner.post(f"/{section}/{row.name}/rename", {"name": "another"}, If_Match=before["ETag"])  # type: ignore[attr-defined]
    assert (done.status_code, done["Location"]) == (200, f"/api/v1/{section}/another")
    assert done.json()["changes"] == looked.json()["changes"] != []
    found = owner.get(f"/{section}/another")
    assert (found.json(), found["ETag"]) == (before.json() | {"name": "another"}, done["ETag"])
    assert (SECTIONS[section]._default_manager.count(), entries(section)["another"]) == (count, found.json())
    assert not [
        each for each in SECTIONS[section]._default_manager.all() if each.pk == row.pk and each.name == row.name
    ]  # type: ignore[attr-defined]


def test_what_names_it_follows_the_new_name(owner: Caller, world: dict[str, Model]) -> None:
    factories.UserFactory(name="limited", ports=["reg"])
    factories.EndpointFactory(name="through", url="reverse://reg/orders")
    assert owner.post("/ports/reg/rename", {"name": "dialled"}).status_code == 200
    assert owner.get("/users/limited").json()["ports"] == ["dialled"]
    assert owner.get("/endpoints/through").json()["url"] == "reverse://dialled/orders"


@pytest.mark.parametrize(
    ("place", "name", "status", "field"),
    [
        pytest.param("/users/alice", "Default", 422, "name", id="taken"),
        pytest.param("/users/alice", "no name", 422, "name", id="no-name"),
        pytest.param("/users/Default", "nobody", 422, "name", id="predefined"),
        pytest.param("/users/nobody", "somebody", 404, None, id="not-there"),
    ],
)
def test_a_name_that_cannot_be_had_is_refused(
    place: str, name: str, status: int, field: str | None, owner: Caller, world: dict[str, Model]
) -> None:
    before = ChangeSet.objects.count()
    answer = owner.post(f"{place}/rename", {"name": name})
    assert (answer.status_code, answer.json().get("errors", [{}])[0].get("field")) == (status, field)
    assert ChangeSet.objects.count() == before


def test_a_rename_of_what_somebody_has_changed_is_refused(owner: Caller, world: dict[str, Model]) -> None:
    tag = owner.get("/users/alice")["ETag"]
    owner.put("/users/alice", {"description": "first"})
    assert owner.post("/users/alice/rename", {"name": "alicia"}, If_Match=tag).status_code == 412


def test_a_list_is_narrowed_as_that_of_the_page(owner: Caller, world: dict[str, Model]) -> None:
    factories.UserFactory(name="gone", enabled=False)
    assert [each["name"] for each in owner.get("/users/?show=disabled").json()["items"]] == ["gone"]
    assert "alice" not in [each["name"] for each in owner.get("/users/?show=without").json()["items"]]
    assert {each["type"] for each in owner.get("/ports/?show=external").json()["items"]} == {"external"}
    assert owner.get("/users/?show=nonsense").status_code == 400


def test_delete_takes_what_nothing_uses(owner: Caller, world: dict[str, Model]) -> None:
    refused = owner.delete("/nodes/" + world["nodes"].name)  # type: ignore[attr-defined]
    assert (refused.status_code, refused.json()["code"]) == (409, "in_the_way")
    assert "still used by" in refused.json()["errors"][0]["problem"]
    assert owner.delete("/groups/Everybody").status_code == 409
    factories.NodeFactory(name="lonely")
    assert owner.delete("/nodes/lonely").json()["changes"][0]["action"] == "removed"
    assert not Node.objects.filter(name="lonely").exists()
    assert owner.delete("/nodes/lonely").status_code == 404


def test_a_change_is_refused_where_somebody_was_faster(owner: Caller, world: dict[str, Model]) -> None:
    tag = owner.get("/users/alice")["ETag"]
    assert owner.put("/users/alice", {"description": "first"}, If_Match=tag).status_code == 200
    late = owner.put("/users/alice", {"description": "second"}, If_Match=tag)
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
    assert owner.delete("/users/alice", If_Match=tag).status_code == 412
    assert User.objects.get(name="alice").description == "first"


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [
        pytest.param("alice", {"If_None_Match": "*"}, 412, id="none-was-wanted-and-there-is-one"),
        pytest.param("nobody", {"If_Match": "*"}, 412, id="one-was-wanted-and-there-is-none"),
        pytest.param("nobody", {"If_None_Match": "*"}, 201, id="none-was-wanted-and-there-is-none"),
        pytest.param("alice", {"If_Match": '"x", *'}, 200, id="any-of-a-list"),
        pytest.param("alice", {"If_Match": 'W/"x"'}, 412, id="weak-ones-never-match"),
    ],
)
def test_what_is_taken_for_granted_is_checked(
    name: str, headers: dict[str, str], status: int, owner: Caller, world: dict[str, Model]
) -> None:
    assert owner.put(f"/users/{name}", {"description": "x"}, **headers).status_code == status


@pytest.mark.parametrize("section", list(SECTIONS))
def test_a_dry_run_changes_nothing_and_tells_the_same(section: str, owner: Caller, world: dict[str, Model]) -> None:
    name: str = world[section].name  # type: ignore[attr-defined]
    before, count = entries(section)[name], ChangeSet.objects.count()
    entry = before | ({"description": "another"} if section != "mapping_rules" else {"priority": 7})
    if section == "registrations":
        entry = before | {"allow_test": True}
    looked = owner.put(f"/{section}/{name}?dry_run=true", entry)
    assert (looked.status_code, looked.json()["dry_run"], looked.json()["revision"]) == (200, True, None)
    assert (entries(section)[name], ChangeSet.objects.count()) == (before, count)
    done = owner.put(f"/{section}/{name}", entry)
    assert done.json()["changes"] == looked.json()["changes"]
    assert done.json()["revision"] is not None


def test_a_dry_run_tells_what_changes_for_whom(owner: Caller, world: dict[str, Model]) -> None:
    factories.InternalPortFactory(name="dial", registration=world["registrations"], service_access={"default": "allow"})
    Port.objects.filter(name="ext").update(
        service_access={"default": "allow", "allow": [], "deny": []},
        client_auth="request", client_truststore=world["truststores"].pk,
    )  # fmt: skip
    user = factories.UserFactory(name="bob", groups=[world["groups"]], password="a long password")
    looked = owner.put(f"/users/{user.name}?dry_run=true", {"groups": []}).json()
    assert looked["access"]["effects"], looked
    assert not looked["access"]["effects"][0]["gained"]
    assert looked["access"]["effects"][0]["callers"]["names"] == ["bob"]
    assert User.objects.get(name="bob").groups.exists()


def test_what_is_wrong_is_told_field_by_field(owner: Caller, world: dict[str, Model]) -> None:
    answer = owner.put("/services/x", {"node": "nowhere", "path": 3, "metods": []})
    assert (answer.status_code, answer["Content-Type"]) == (422, "application/problem+json")
    told = answer.json()
    assert (told["title"], told["status"], told["code"]) == ("Unprocessable Entity", 422, "invalid")
    by_field = {each["field"]: each for each in told["errors"]}
    assert by_field["node"]["problem"] == 'there is no node "nowhere"'
    assert by_field["path"] == {
        "field": "path",
        "problem": "must be a text, not a number",
        "remedy": "put it in quotes",
    }
    assert by_field["metods"]["remedy"] == 'did you mean "methods"?'
    assert not Service.objects.filter(name="x").exists()


def test_what_would_be_wrong_elsewhere_is_told_with_its_place(owner: Caller, world: dict[str, Model]) -> None:
    node = world["ports"].node  # type: ignore[attr-defined]
    answer = owner.put(f"/nodes/{node.name}", {"role": "internal"})
    assert answer.status_code == 422
    assert any(each["field"].startswith("ports[ext]") for each in answer.json()["errors"])


def test_files_of_this_machine_are_not_read(owner: Caller, tmp_path: Any) -> None:
    """Neither their content nor whether they are there is learnt by naming them."""
    secret = tmp_path / "secret.pem"
    secret.write_text("-----BEGIN CERTIFICATE-----")
    for path in (str(secret), "/no/such/file", "../../etc/passwd"):
        answers = [
            owner.put("/truststores/t", {"certificates": path}),
            owner.put("/truststores/t", {"certificates": [{"file": path, "password": "x"}]}),
            owner.put("/keystores/k", {"certificate": path, "private_key": path}),
            owner.post("/apply", {"version": 1, "certificates": [{"name": "c", "certificate": path}]}),
        ]
        for answer in answers:
            assert answer.status_code == 422
            problems = {each["problem"] for each in answer.json()["errors"]}
            assert problems == {"must be PEM, which begins with -----BEGIN"}


def test_another_name_in_the_body_is_refused(owner: Caller) -> None:
    answer = owner.put("/groups/One", {"name": "Two"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")
    assert owner.put("/groups/One", {"name": "One"}).status_code == 201


def test_a_change_of_a_port_may_go_back_by_itself(owner: Caller, world: dict[str, Model]) -> None:
    entry = owner.get("/ports/ext").json() | {"description": "risky"}
    number = owner.put("/ports/ext?goes_back=true", entry).json()["revision"]
    waits = owner.put("/ports/ext", entry | {"description": "another"})
    assert (waits.status_code, waits.json()["code"]) == (409, "change_waits")
    assert owner.post(f"/changes/{number}/take-back").status_code == 200
    assert Port.objects.get(name="ext").description == ""
    assert owner.post(f"/changes/{number}/keep").status_code == 409
    number = owner.put("/ports/ext?goes_back=true", entry).json()["revision"]
    assert owner.post(f"/changes/{number}/keep").json()["number"] == number
    assert Port.objects.get(name="ext").description == "risky"


def test_a_port_that_is_deleted_may_come_back_by_itself(owner: Caller, world: dict[str, Model]) -> None:
    number = owner.delete("/ports/ext?goes_back=true").json()["revision"]
    assert owner.get("/ports/ext").status_code == 404
    assert owner.post(f"/changes/{number}/take-back").status_code == 200
    assert owner.get("/ports/ext").status_code == 200
    assert owner.delete("/groups/Partners?goes_back=true").status_code == 400, "ports alone have it"


def test_block_and_unblock(owner: Caller, world: dict[str, Model]) -> None:
    assert owner.post("/certificates/alice/block?dry_run=true").json()["changes"][0]["after"]["blocked"] is True
    assert not Certificate.objects.get(name="alice").blocked
    assert owner.post("/certificates/alice/block").status_code == 200
    assert Certificate.objects.get(name="alice").blocked
    assert owner.post("/certificates/alice/unblock").status_code == 200
    assert not Certificate.objects.get(name="alice").blocked
    assert owner.post("/users/Default/block").status_code == 409
    assert owner.post("/users/nobody/block").status_code == 404


def test_roles_decide_as_on_the_pages(caller_of: Callable[..., Caller], world: dict[str, Model]) -> None:
    viewer, operator, security = (caller_of(role) for role in ("viewer", "operator", "security"))
    assert viewer.get("/users/alice").status_code == 200
    assert viewer.put("/groups/G", {}).status_code == 403
    assert operator.put("/groups/G", {}).status_code == 403
    assert operator.put("/nodes/n", {"role": "edge"}).status_code == 201
    assert security.put("/groups/G", {}).status_code == 201
    assert security.get("/operators/").status_code == 403
    assert caller_of("owner").get("/operators/").status_code == 200
