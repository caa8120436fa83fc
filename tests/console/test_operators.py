"""Operators: kept by owners, and never without one."""

import pytest
from django.test import Client

from console.models import Operator, Role
from gateway.models import Change
from tests.console.conftest import PASSWORD

NEW = {"new_password": PASSWORD, "new_password_again": PASSWORD}


def test_an_owner_adds_one_and_it_is_recorded(owner: Client) -> None:
    answer = owner.post("/operators/add/", {"username": "victor", "role": "viewer", "is_active": "on", **NEW})
    assert answer.status_code == 302
    assert Operator.objects.get(username="victor").check_password(PASSWORD)
    change = Change.objects.get(kind="operators", name="victor")
    assert change.after == {"name": "victor", "full_name": "", "role": "viewer", "active": True}
    assert not change.change_set.configures
    assert change.change_set.actor == "olivia-owner"


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param({"role": "viewer", "is_active": "on"}, id="demoted"),
        pytest.param({"role": "owner"}, id="disabled"),
    ],
)
def test_the_last_owner_stays(owner: Client, typed: dict[str, str]) -> None:
    row = Operator.objects.get()
    answer = owner.post(f"/operators/{row.pk}/", {"username": row.username, **typed})
    assert answer.status_code == 422
    assert "This is the last active owner" in answer.content.decode()
    row.refresh_from_db()
    assert row.may("change_operators")


def test_one_of_two_owners_may_go(owner: Client) -> None:
    second = Operator.objects.create_operator("second", PASSWORD, Role.OWNER)
    answer = owner.post(f"/operators/{second.pk}/", {"username": "second", "role": "viewer", "is_active": "on"})
    assert answer.status_code == 302
    second.refresh_from_db()
    assert second.role == Role.VIEWER
    assert second.check_password(PASSWORD), "an empty password keeps it"


def test_a_name_is_taken_once(owner: Client) -> None:
    answer = owner.post("/operators/add/", {"username": "olivia-owner", "role": "viewer", "is_active": "on", **NEW})
    assert answer.status_code == 422
    assert Operator.objects.count() == 1
