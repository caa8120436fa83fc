"""The audit log as pages: who, when, from where, and what differs."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from console.differences import Line, differences
from console.jobs import work
from console.models import Job
from gateway.audit import change_set, record_test
from gateway.models import ChangeSet
from gateway.topology.undo import undo
from identity.models import Group, User
from tests import factories
from tests.console.test_outlook import EDITS
from tests.console.test_queries import AT_MOST
from tests.minting import authority

CASES = [
    pytest.param({"a": 1}, {"a": 1}, [("a", [(" ", "1")])], id="as-before"),
    pytest.param({"a": 1}, {"a": 2}, [("a", [("-", "1"), ("+", "2")])], id="another-value"),
    pytest.param(None, {"a": True}, [("a", [("+", "yes")])], id="added"),
    pytest.param({"a": "x"}, None, [("a", [("-", "x")])], id="removed"),
    pytest.param(
        {"groups": ["A", "B"]}, {"groups": ["B", "C"]},
        [("groups", [("-", "A"), (" ", "B"), ("+", "C")])], id="a-list-line-by-line",
    ),
    pytest.param(
        {"password": {"kept": "f" * 32}}, {"password": {"kept": "0" * 32}},
        [("password", [("-", "a secret, fingerprint ffffffffffff"), ("+", "a secret, fingerprint 000000000000")])],
        id="a-secret-as-its-fingerprint",
    ),
    pytest.param(
        {"service_access": {"default": "deny", "allow": ["/a"]}},
        {"service_access": {"default": "deny", "allow": ["/a", "/b"]}},
        [
            (
                "service_access",
                [(" ", "default: deny"), ("-", "allow: /a"), ("+", "allow:"), ("+", "  /a"), ("+", "  /b")],
            )
        ],
        id="a-mapping-by-its-keys",
    ),
    pytest.param(
        {}, {"connect": [{"address": "e:1", "registration": "r"}]},
        [("connect", [("+", "address: e:1, registration: r")])], id="rows-on-one-line-each",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_differences(before: Any, after: Any, expected: Any) -> None:
    found = [(field.name, field.lines) for field in differences(before, after)]
    assert found == [(name, [Line(*line) for line in lines]) for name, lines in expected]


def test_a_certificate_is_told_by_what_it_is_known_by() -> None:
    ca = authority("CN=One")
    (field,) = differences({}, {"certificate": ca.pem})
    assert field.lines == [Line("+", f"CN=One, SHA-256 {ca.certificate.sha256[:16]}…")]


@pytest.fixture
def changed(db: None) -> ChangeSet:
    alice = factories.UserFactory(name="alice", description="old words")
    with change_set("olivia", "new words for alice", "192.0.2.4"):
        alice.description = "new words"
        alice.save()
    return ChangeSet.objects.latest("id")


def test_a_change_shows_old_and_new(owner: Client, changed: ChangeSet) -> None:
    page = owner.get(reverse("changes-detail", args=[changed.pk])).content.decode()
    assert "<del>old words</del><ins>new words</ins>" in page
    assert f"It made revision {changed.pk}." in page
    assert "192.0.2.4" in page
    alice = User.objects.get(name="alice")
    assert f'href="{reverse("users-edit", args=[alice.pk])}"' in page
    assert "1 field as before" in page


def test_a_change_of_what_is_gone_has_no_link(owner: Client, changed: ChangeSet) -> None:
    with change_set("olivia", "away with alice"):
        User.objects.get(name="alice").delete()
    assert (
        "/users/" not in owner.get(reverse("changes-detail", args=[changed.pk])).content.decode().partition("<main")[2]
    )


def test_the_list_is_searched_and_filtered(owner: Client, changed: ChangeSet) -> None:
    record_test("victor", "test invoke: GET /orders at ext", None, "ext", {"status": 200})

    def messages(query: str) -> list[str]:
        return [row.message for row in owner.get(f"/changes/?{query}").context["page"]]

    assert messages("")[0] == "test invoke: GET /orders at ext"
    assert messages("q=new+words") == ["new words for alice"]
    assert messages("q=alice") == ["new words for alice", "User made"]
    assert messages("kind=test_invoke") == ["test invoke: GET /orders at ext"]
    assert messages("actor=olivia&kind=users") == ["new words for alice"]
    assert messages("kind=nonsense&q=zzz") == []


def test_a_test_is_told_from_a_revision(owner: Client) -> None:
    record_test("victor", "test invoke: GET / at ext", None, "ext", {"status": 200})
    page = owner.get(reverse("changes-detail", args=[ChangeSet.objects.latest("id").pk])).content.decode()
    assert "It changed nothing of what the nodes do." in page


def test_the_queries_of_a_large_change_do_not_grow(owner: Client, django_assert_max_num_queries: Any) -> None:
    with change_set("apply", "many"):
        for number in range(30):
            User(name=f"u{number}").save()
    url = reverse("changes-detail", args=[ChangeSet.objects.latest("id").pk])
    with django_assert_max_num_queries(12):
        assert owner.get(url).status_code == 200
    with django_assert_max_num_queries(12):
        assert owner.get("/changes/").status_code == 200


# --- undo ---


def undo_url(made: ChangeSet) -> str:
    return reverse("changes-undo", args=[made.pk])


def test_an_undo_is_shown_before_it_is_done(owner: Client, changed: ChangeSet) -> None:
    assert f'href="{undo_url(changed)}"' in owner.get(reverse("changes-detail", args=[changed.pk])).content.decode()
    page = owner.get(undo_url(changed)).content.decode()
    assert "<del>new words</del><ins>old words</ins>" in page
    assert User.objects.get(name="alice").description == "new words", "shown alone"
    answer = owner.post(undo_url(changed), follow=True)
    assert "is undone" in answer.content.decode()
    assert User.objects.get(name="alice").description == "old words"
    made = ChangeSet.objects.latest("id")
    assert (made.actor, made.address) == ("olivia-owner", "127.0.0.1")
    assert made.message == f"undo of change {changed.pk}: new words for alice"


def test_an_undo_that_is_barred_says_by_what(owner: Client, changed: ChangeSet) -> None:
    with change_set("victor", "newest words"):
        alice = User.objects.get(name="alice")
        alice.description = "newest"
        alice.save()
    assert "It cannot be undone." in owner.get(undo_url(changed)).content.decode()
    answer = owner.post(undo_url(changed))
    assert answer.status_code == 409
    assert f"by change {ChangeSet.objects.latest('id').pk} (newest words): undo that first." in answer.content.decode()


def test_what_was_changed_again_and_back_bars_no_undo(owner: Client, changed: ChangeSet) -> None:
    alice = User.objects.get(name="alice")
    for words in ("newest", "new words"):
        with change_set("victor", "words"):
            alice.description = words
            alice.save()
    assert owner.get(undo_url(changed)).context["reasons"] == []
    assert "is undone" in owner.post(undo_url(changed), follow=True).content.decode()


def test_what_only_the_attempt_can_tell_is_told_by_it_and_nothing_is_changed(owner: Client) -> None:
    with change_set("victor", "a group") as made:
        group = factories.GroupFactory(name="needed")
    with change_set("victor", "its first"):
        factories.UserFactory(name="alice", groups=[group])
    url = undo_url(ChangeSet.objects.get(pk=made.revision))
    assert "you are told what" in owner.get(url).content.decode()
    answer = owner.post(url)
    assert (answer.status_code, Group.objects.filter(name="needed").exists()) == (409, True)
    assert "user alice uses group needed" in answer.content.decode()


def test_an_undo_takes_what_the_change_took(as_role: Any, changed: ChangeSet) -> None:
    operator = as_role("operator")
    assert "Undo…" not in operator.get(reverse("changes-detail", args=[changed.pk])).content.decode()
    assert operator.post(undo_url(changed)).status_code == 403
    assert User.objects.get(name="alice").description == "new words"


def test_a_test_is_not_undone(owner: Client) -> None:
    record_test("victor", "test invoke: GET / at ext", None, "ext", {"status": 200})
    assert "there is nothing to undo" in owner.get(undo_url(ChangeSet.objects.latest("id"))).content.decode()


# --- undoing an import ---


@pytest.fixture
def imported(db: None) -> ChangeSet:
    """600 groups and 2 users, one of them in a group that was there before."""
    with change_set("tests", "an import") as recorder:
        rows = [Group(name=f"g{number}") for number in range(600)]
        recorder.add_many(rows)
        factories.UserFactory(name="alice", groups=[rows[0]])
    return ChangeSet.objects.latest("id")


def test_a_large_change_is_undone_by_a_worker(owner: Client, imported: ChangeSet) -> None:
    page = owner.get(undo_url(imported)).content.decode()
    assert "600" in page and "taken away" in page
    followed = owner.post(undo_url(imported))["Location"]
    assert owner.post(undo_url(imported))["Location"] == followed, "once"
    assert followed == f"{undo_url(imported)}?job={Job.objects.get().pk}"
    page = owner.get(followed).content.decode()
    assert "Waiting for a worker" in page
    assert Job.objects.get().filename not in owner.get("/import/").content.decode()
    assert work() and not work()
    made = ChangeSet.objects.latest("id")
    assert (made.actor, made.changes.count()) == ("olivia-owner", 601)
    assert made.message == f"undo of change {imported.pk}: an import"
    assert not Group.objects.filter(name__startswith="g").exists()
    assert owner.get(followed)["Location"] == reverse("changes-detail", args=[made.pk])
    owner.post(undo_url(made))
    assert work(), "what undid is undone in the same way"
    assert Group.objects.get(name="g0").users.get().name == "alice"
    assert "taken away" in owner.get(undo_url(imported)).content.decode(), "and this one can be undone again"


def test_what_stands_in_the_way_of_a_large_one_is_told(owner: Client, imported: ChangeSet) -> None:
    with change_set("tests", "a group is used"):
        factories.UserFactory(name="bob", groups=[Group.objects.get(name="g7")])
        changed = Group.objects.get(name="g9")
        changed.description = "used"
        changed.save()
    followed = owner.post(undo_url(imported))["Location"]
    assert work()
    page = owner.get(followed).content.decode()
    assert "nothing was changed" in page
    assert "group g9 was changed again" in page
    assert Group.objects.filter(name__startswith="g").count() == 600
    assert ChangeSet.objects.latest("id").message == "a group is used"


def test_what_would_take_too_long_is_undone_on_the_host(owner: Client, imported: ChangeSet, monkeypatch: Any) -> None:
    undo(imported, "tests")
    made = ChangeSet.objects.latest("id")
    monkeypatch.setattr("console.views.undo.MOST_WRITTEN", 600)
    for answer in (owner.get(undo_url(made)), owner.post(undo_url(made))):
        assert answer.status_code == 409
        assert f"manage.py undo {made.pk}" in answer.content.decode()
    assert not Job.objects.exists()


def test_what_the_page_of_an_undo_asks_of_the_database(owner: Client, world: dict[str, Any]) -> None:
    """No more for a change of much than for one edit: nothing is tried before it is asked for."""
    asked = {}
    for kind, fields in EDITS.items():
        row = type(world[kind]).objects.get(pk=world[kind].pk)
        with change_set("tests", "an edit"):
            for name, value in fields.items():
                setattr(row, name, value)
            row.save()
        url = undo_url(ChangeSet.objects.latest("id"))
        with CaptureQueriesContext(connection) as queries:
            page = owner.get(url)
        assert page.status_code == 200 and page.context["changes"] and not page.context["reasons"], kind
        asked[kind] = len(queries)
    with change_set("tests", "an edit of much"):
        for kind in EDITS:
            row = type(world[kind]).objects.get(pk=world[kind].pk)
            row.description = "another"
            row.save()
    with CaptureQueriesContext(connection) as queries:
        page = owner.get(undo_url(ChangeSet.objects.latest("id")))
    assert len(page.context["changes"]) > 5 and not page.context["reasons"]
    asked["much"] = len(queries)
    assert {kind: number for kind, number in asked.items() if number > AT_MOST} == {}
