"""Nobody locks the operators out: what would is refused, and the host gives access back."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from console.models import LoginFailure, Operator, Role
from gateway.models import Change
from tests.console.conftest import PASSWORD


def save(client: Client, row: Operator, **typed: str) -> Any:
    values = {"username": row.username, "role": row.role, "is_active": "on"} | typed
    return client.post(f"/operators/{row.pk}/", {key: value for key, value in values.items() if value})


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        pytest.param({"role": "security"}, "You cannot change your own role", id="demoted"),
        pytest.param({"role": "none"}, "You cannot change your own role", id="without-a-role"),
        pytest.param({"is_active": ""}, "You cannot disable yourself", id="disabled"),
    ],
)
def test_nobody_takes_access_away_from_himself(owner: Client, typed: dict[str, str], words: str) -> None:
    Operator.objects.create_operator("second", PASSWORD, Role.OWNER)
    row = Operator.objects.get(username="olivia-owner")
    answer = save(owner, row, **typed)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    row.refresh_from_db()
    assert row.may("change_operators")


def test_another_owner_does_it(owner: Client) -> None:
    second = Operator.objects.create_operator("second", PASSWORD, Role.OWNER)
    assert save(owner, second, role="viewer").status_code == 302


def test_one_changes_ones_own_name(owner: Client) -> None:
    row = Operator.objects.get(username="olivia-owner")
    assert save(owner, row, username="olivia").status_code == 302
    assert owner.get("/").status_code == 200


@pytest.fixture
def anna(db: None) -> Operator:
    return Operator.objects.create_operator("anna", PASSWORD, Role.VIEWER, is_active=False)


def run(name: str) -> str:
    out = StringIO()
    call_command("rescue", name, stdout=out)
    return out.getvalue()


def test_the_host_gives_access_back(anna: Operator, client: Client) -> None:
    LoginFailure.objects.create(key="account:anna", count=99, first_at="2026-01-01T00:00Z")
    told = run("anna")
    password = told.partition("one-time password: ")[2].split()[0]
    assert client.post("/login/", {"username": "anna", "password": password})["Location"] == "/"
    assert client.get("/operators/")["Location"] == "/account/", "another password first"
    own = {"new_password": "what anna has chosen", "new_password_again": "what anna has chosen"}
    client.post("/account/", {"current_password": password} | own)
    assert client.get("/operators/").status_code == 200
    anna.refresh_from_db()
    assert (anna.role, anna.is_active) == (Role.OWNER, True)
    assert not anna.check_password(PASSWORD)
    assert not LoginFailure.objects.exists()
    change = Change.objects.filter(name="anna", change_set__actor="rescue").earliest("id")
    assert (change.before["role"], change.after["role"]) == ("viewer", "owner")
    assert password not in str(list(Change.objects.values()))


def test_a_name_that_is_none_is_told(anna: Operator) -> None:
    with pytest.raises(CommandError, match=r"There is no operator 'bob'\. There are: anna\."):
        run("bob")
