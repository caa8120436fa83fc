"""Logging in: one answer for every kind of wrong, and an end to guessing."""

import logging
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from console import operators
from console.models import LoginFailure, Operator, Role
from tests.console.conftest import PASSWORD


@pytest.fixture
def olivia(db: None) -> Operator:
    return Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)


def log_in(client: Client, username: str = "olivia", password: str = PASSWORD, **more: str):
    return client.post("/login/", {"username": username, "password": password, **more})


def text(answer) -> str:
    return answer.content.decode()


def test_it_works(client: Client, olivia: Operator) -> None:
    answer = log_in(client)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200


def test_unknown_and_wrong_are_answered_alike(client: Client, olivia: Operator) -> None:
    wrong, unknown = log_in(client, password="no"), log_in(client, username="nobody")
    assert wrong.status_code == unknown.status_code == 422
    for answer in (wrong, unknown):
        assert "User name or password is wrong." in text(answer)


def test_a_disabled_operator_hears_the_same(client: Client, olivia: Operator) -> None:
    olivia.is_active = False
    olivia.save()
    assert "User name or password is wrong." in text(log_in(client))


def test_too_many_wrong_ones_lock_the_account_for_the_right_one_too(client: Client, olivia: Operator, settings) -> None:
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        log_in(client, password="no")
    answer = log_in(client)
    assert answer.status_code == 422
    assert "Too many wrong passwords. Try again after" in text(answer)


def test_an_account_that_does_not_exist_is_locked_alike(client: Client, db: None, settings) -> None:
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        log_in(client, username="nobody")
    assert "Too many wrong passwords" in text(log_in(client, username="nobody"))


def test_an_address_is_locked_for_every_account(client: Client, olivia: Operator, settings) -> None:
    for number in range(settings.CONSOLE_LOGIN_FAILURES * 5):
        log_in(client, username=f"guess{number}")
    assert "Too many wrong passwords" in text(log_in(client))
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert log_in(elsewhere).status_code == 302


def test_a_lock_ends_and_leaves_nothing_behind(client: Client, olivia: Operator, settings) -> None:
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        log_in(client, password="no")
    past = timezone.now() - timedelta(seconds=1)
    LoginFailure.objects.update(locked_until=past, first_at=past - timedelta(hours=1))
    log_in(client, password="no")
    assert {row.count for row in LoginFailure.objects.all()} == {1}, "what was over counts no more"
    assert log_in(client).status_code == 302
    assert not LoginFailure.objects.filter(key__startswith="pair:olivia").exists()


def test_the_way_on_stays_in_this_house(client: Client, olivia: Operator) -> None:
    assert log_in(client, next="/users/")["Location"] == "/users/"
    client.post("/logout/")
    assert log_in(client, next="https://evil.example/")["Location"] == "/"


def test_logging_out_takes_a_post(client: Client, olivia: Operator) -> None:
    log_in(client)
    assert client.get("/logout/").status_code == 405
    assert client.get("/").status_code == 200
    client.post("/logout/")
    assert client.get("/").status_code == 302


def test_every_wrong_proof_is_logged_with_name_and_address(olivia: Operator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_in(Client(REMOTE_ADDR="192.0.2.7"), password="no")
        log_in(Client(REMOTE_ADDR="192.0.2.8"), username="a-password-typed-as-a-name")
    assert "wrong proof for olivia from 192.0.2.7" in caplog.text
    assert "wrong proof for somebody unknown from 192.0.2.8" in caplog.text
    assert "a-password-typed-as-a-name" not in caplog.text


def test_no_password_is_logged(client: Client, olivia: Operator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_in(client, password="a-secret-that-was-mistyped")
    assert "a-secret-that-was-mistyped" not in caplog.text


@pytest.mark.parametrize(
    ("current", "new", "again", "words"),
    [
        pytest.param("wrong", "another password here", "another password here", "not your current", id="wrong-current"),
        pytest.param(PASSWORD, "another password here", "another one", "The two passwords differ", id="typed-unlike"),
        pytest.param(PASSWORD, "short", "short", "too short", id="too-short"),
        pytest.param(PASSWORD, "qwerty123456", "qwerty123456", "too common", id="on-every-list"),
    ],
)
def test_a_new_password_is_refused(
    client: Client, olivia: Operator, current: str, new: str, again: str, words: str
) -> None:
    client.force_login(olivia)
    answer = client.post("/account/", {"current_password": current, "new_password": new, "new_password_again": again})
    assert answer.status_code == 422
    assert words in text(answer)
    olivia.refresh_from_db()
    assert olivia.check_password(PASSWORD)


def test_a_new_password_ends_other_sessions_and_keeps_this_one(client: Client, olivia: Operator) -> None:
    other = Client()
    log_in(client), log_in(other)
    new = "quite another password"
    answer = client.post("/account/", {"current_password": PASSWORD, "new_password": new, "new_password_again": new})
    assert answer.status_code == 302
    assert client.get("/").status_code == 200
    assert other.get("/").status_code == 302


def test_the_current_password_is_not_guessed_at_in_an_open_session(client: Client, olivia: Operator, settings) -> None:
    client.force_login(olivia)
    new = {"new_password": "quite another password", "new_password_again": "quite another password"}
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        client.post("/account/", {"current_password": "no", **new})
    answer = client.post("/account/", {"current_password": PASSWORD, **new})
    assert (answer.status_code, "Too many wrong passwords" in text(answer)) == (422, True)
    olivia.refresh_from_db()
    assert olivia.check_password(PASSWORD)


def test_what_was_typed_as_a_name_is_not_logged(client: Client, db: None, settings, caplog) -> None:
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        log_in(client, username="a-secret-in-the-wrong-field")
    assert "too many wrong proofs for somebody unknown" in caplog.text
    assert "a-secret-in-the-wrong-field" not in caplog.text


# --- passwords that somebody else has set ---


@pytest.fixture
def anna(db: None) -> tuple[Operator, str]:
    password = operators.create("anna", Role.OWNER, "tests")
    return Operator.objects.get(username="anna"), password


def choose(client: Client, current: str, new: str):
    return client.post("/account/", {"current_password": current, "new_password": new, "new_password_again": new})


def test_a_one_time_password_opens_what_changes_it_and_nothing_else(client: Client, anna: tuple[Operator, str]) -> None:
    assert log_in(client, "anna", anna[1])["Location"] == "/"
    for url in ("/", "/users/", "/account/tokens/", "/account/authenticator/", "/confirm/", "/operators/add/"):
        answer = client.get(url)
        assert (answer.status_code, answer["Location"]) == (302, "/account/"), url
    assert client.post("/groups/add/", {"name": "Mine"})["Location"] == "/account/"
    page = text(client.get("/account/"))
    assert "Choose a password of your own first" in page
    assert "Certificates" not in page, "what there is is not shown around it either"
    assert "Certificates" not in text(client.get("/no/such/page"))
    refused = choose(client, anna[1], anna[1])
    assert "This is the one-time password" in text(refused)
    assert choose(client, anna[1], "a password of my own").status_code == 302
    assert client.get("/users/").status_code == 200
    assert log_in(Client(), "anna", anna[1]).status_code == 422
    assert Client().get("/").status_code == 302


def test_it_is_the_same_with_a_password_that_an_owner_sets(client: Client, olivia: Operator) -> None:
    client.force_login(olivia)
    new = "a password of words"
    typed = {"username": "victor", "role": "viewer", "is_active": "on", "new_password": new, "new_password_again": new}
    assert client.post("/operators/add/", typed).status_code == 302
    assert "one-time password" in text(client.get("/operators/"))
    victor, other = Operator.objects.get(username="victor"), Client()
    for password in (new, "an owner sets another one"):
        log_in(other, "victor", password)
        assert other.get("/users/")["Location"] == "/account/"
        choose(other, password, "what victor himself has chosen")
        assert other.get("/users/").status_code == 200
        again = {"new_password": "an owner sets another one", "new_password_again": "an owner sets another one"}
        client.post(f"/operators/{victor.pk}/", typed | again)
        assert other.get("/users/")["Location"].startswith("/login/"), "a session of before has ended"


def test_ones_own_password_set_on_the_page_of_operators_stays(client: Client, olivia: Operator) -> None:
    log_in(client)
    new = "what olivia has chosen"
    typed = {"username": "olivia", "role": "owner", "is_active": "on", "new_password": new, "new_password_again": new}
    assert client.post(f"/operators/{olivia.pk}/", typed).status_code == 302
    log_in(other := Client(), password=new)
    assert other.get("/users/").status_code == 200
