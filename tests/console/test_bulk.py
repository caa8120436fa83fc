"""Several at once: one change or none, confirmed before, by the roles that may change one."""

from typing import Any

import pytest
from django.test import Client

from console import bulk
from gateway.models import ChangeSet, Registration
from identity.models import Certificate, Group, User
from tests import factories


def ask(client: Client, kind: str, action: str, rows: Any, **more: str) -> Any:
    return client.get(f"/{kind}/bulk/", {"action": action, "pk": [str(row.pk) for row in rows], **more})


def confirm(client: Client, kind: str, action: str, rows: Any, **more: str) -> Any:
    return client.post(f"/{kind}/bulk/", {"action": action, "pk": [str(row.pk) for row in rows], **more})


@pytest.fixture
def users(db: None) -> list[User]:
    return [factories.UserFactory(name=name) for name in ("alice", "bob", "carol")]


def test_nothing_is_done_before_it_is_confirmed(owner: Client, users: list[User]) -> None:
    before = ChangeSet.objects.count()
    page = ask(owner, "users", "block", users[:2])
    text = page.content.decode()
    assert "Disable: Users (2)" in text and "alice" in text and "bob" in text and "carol" not in text
    assert "What would change" in text
    assert ChangeSet.objects.count() == before
    assert User.objects.filter(enabled=False).count() == 0


def test_it_is_one_change(owner: Client, users: list[User]) -> None:
    before = ChangeSet.objects.count()
    answer = confirm(owner, "users", "block", users[:2])
    assert (answer.status_code, answer["Location"]) == (302, "/users/")
    assert set(User.objects.filter(enabled=False)) == set(users[:2])
    assert ChangeSet.objects.count() == before + 1
    assert ChangeSet.objects.latest("id").message == "2 users disabled"
    confirm(owner, "users", "unblock", users)
    assert not User.objects.filter(enabled=False).exists()


def test_certificates_and_registrations_likewise(owner: Client) -> None:
    certificates = [factories.CertificateFactory() for _ in range(2)]
    registrations = [factories.RegistrationFactory() for _ in range(2)]
    confirm(owner, "certificates", "block", certificates)
    confirm(owner, "registrations", "block", registrations)
    assert Certificate.objects.filter(blocked=True).count() == 2
    assert Registration.objects.filter(enabled=False).count() == 2
    confirm(owner, "certificates", "delete", certificates)
    assert not Certificate.objects.exists()


def test_users_join_and_leave_a_group(owner: Client, users: list[User]) -> None:
    partners = factories.GroupFactory(name="Partners")
    assert "Look at what would change" in ask(owner, "users", "join", users).content.decode()
    assert "Group: <code>Partners</code>" in ask(owner, "users", "join", users, group="Partners").content.decode()
    assert confirm(owner, "users", "join", users).status_code == 422
    confirm(owner, "users", "join", users, group="Partners")
    assert set(partners.users.all()) == set(users)
    confirm(owner, "users", "leave", users[:1], group="Partners")
    assert set(partners.users.all()) == set(users[1:])


def test_a_group_whose_members_are_fixed_is_not_to_choose(owner: Client, users: list[User]) -> None:
    answer = confirm(owner, "users", "join", users, group="Everybody")
    assert answer.status_code == 422
    assert Group.objects.get(name="Everybody").users.count() == 0


def test_where_one_is_refused_nothing_is_done(owner: Client, users: list[User]) -> None:
    factories.CertificateFactory(name="of-bob", user=users[1])
    page = ask(owner, "users", "delete", users)
    assert "bob is referred to by certificate of-bob." in page.content.decode()
    assert confirm(owner, "users", "delete", users).status_code == 422
    default = User.objects.get(name="Default")
    assert "Default" in confirm(owner, "users", "block", [*users, default]).content.decode()
    assert User.objects.count() == 4
    assert not User.objects.filter(enabled=False).exists()


def test_all_that_the_list_shows(owner: Client, users: list[User]) -> None:
    for name in ("team-x", "team-y"):
        factories.UserFactory(name=name)
    answer = owner.get("/users/bulk/", {"action": "block", "all": "1", "q": "team-"})
    assert answer.context["count"] == 2
    owner.post("/users/bulk/", {"action": "block", "pk": [str(key) for key in answer.context["keys"]]})
    assert {row.name for row in User.objects.filter(enabled=False)} == {"team-x", "team-y"}


def test_more_than_a_change_should_hold_are_refused(
    owner: Client, users: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    from console.views import bulk as view

    monkeypatch.setattr(view, "MOST", 2)
    assert "more than 2 at once" in confirm(owner, "users", "block", users).content.decode()
    assert bulk.MOST == 500


@pytest.mark.parametrize("query", ["", "?action=block", "?action=explode&pk=x", "?action=block&pk=no-uuid"])
def test_what_makes_no_sense_is_said(query: str, owner: Client) -> None:
    assert "Nothing is chosen" in owner.get(f"/users/bulk/{query}").content.decode()


def test_a_list_offers_it_to_who_may(as_role: Any, users: list[User]) -> None:
    assert "With those ticked" in as_role("owner").get("/users/").content.decode()
    assert "With those ticked" not in as_role("viewer").get("/users/").content.decode()
