"""Nobody locks the operators out: what would is refused, and the host gives access back."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from console.models import LoginFailure, Operator, Passkey, Role
from gateway.models import Change
from tests.api.conftest import caller_of
from tests.console.conftest import PASSWORD

__all__ = ["caller_of"]


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


# --- whatever state it is that he is in ---


def back_in(client: Client, name: str = "anna") -> None:
    """Rescued, logged in, with a password of his own."""
    password = run(name).partition("one-time password: ")[2].split()[0]
    assert client.post("/login/", {"username": name, "password": password}).status_code == 302
    own = {"new_password": "what nobody else knows", "new_password_again": "what nobody else knows"}
    assert client.post("/account/", {"current_password": password} | own).status_code == 302


def test_where_no_owner_is_left(anna: Operator, client: Client) -> None:
    Operator.objects.update(role=Role.NONE, is_active=False)
    back_in(client)
    assert client.get("/operators/").status_code == 200


def test_where_everybody_is_known_by_a_provider_that_is_gone(anna: Operator, client: Client) -> None:
    anna.single_sign_on, anna.is_active = "https://gone.example 7", True
    anna.set_unusable_password()
    anna.save()
    back_in(client)
    assert client.get("/operators/").status_code == 200


def test_where_the_second_factor_is_lost_and_one_is_required(anna: Operator, client: Client, settings: Any) -> None:
    settings.CONSOLE_SECOND_FACTOR = "required"
    Passkey.objects.create(operator=anna, name="lost", host="localhost", credential_id=b"1", credential=b"2")
    back_in(client)
    assert client.get("/operators/")["Location"] == "/account/", "first another factor"
    assert client.get("/account/authenticator/").status_code == 200


def test_where_somebody_guesses_from_the_same_address(anna: Operator, client: Client, settings: Any) -> None:
    """Behind a proxy that nobody believes all come from one."""
    for number in range(settings.CONSOLE_LOGIN_FAILURES * 5):
        client.post("/login/", {"username": f"guess{number}", "password": "no"})
    assert "Too many" in client.post("/login/", {"username": "anna", "password": PASSWORD}).content.decode()
    back_in(client)


# --- the last one who could get in ---


def owner_by_provider(name: str = "erika") -> Operator:
    row = Operator(username=name, role=Role.OWNER, single_sign_on="https://idp.example 7")
    row.set_unusable_password()
    row.save()
    return row


@pytest.mark.parametrize(
    ("issuer", "passkey", "taken"),
    [
        pytest.param("https://idp.example", False, True, id="the-provider-is-asked"),
        pytest.param("", False, False, id="none-is-asked-any-more"),
        pytest.param("https://other.example", False, False, id="another-one-is-asked"),
        pytest.param("", True, True, id="but-there-is-a-passkey"),
    ],
)
def test_an_owner_who_could_not_log_in_counts_for_none(
    client: Client, db: None, settings: Any, issuer: str, passkey: bool, taken: bool
) -> None:
    settings.CONSOLE_OIDC_ISSUER = issuer
    erika = owner_by_provider()
    if passkey:
        Passkey.objects.create(operator=erika, name="key", host="localhost", credential_id=b"1", credential=b"2")
    last = Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)
    client.force_login(erika)  # logged in since before
    answer = save(client, last, role="viewer")
    assert (answer.status_code == 302) is taken
    if not taken:
        assert "This is the last active owner" in answer.content.decode()


def test_nor_by_the_api(caller_of: Any, db: None) -> None:
    program = caller_of("owner")
    name = program.operator.username
    for sent in ({"role": "viewer"}, {"role": "owner", "active": False}):
        assert program.put(f"/operators/{name}", sent).status_code == 422
    Operator.objects.create_operator("second", PASSWORD, Role.OWNER)
    for sent in ({"role": "viewer"}, {"role": "owner", "active": False}):
        assert program.put(f"/operators/{name}", sent).status_code == 422, "of oneself another one does it"
    program.operator.refresh_from_db()
    assert program.operator.may("change_operators")
