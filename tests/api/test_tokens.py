"""Who gets in: a token that was made, stands, and may; nobody else, and by nothing else."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from console import operators, tokens
from console.models import LoginFailure, Operator, Role, Token
from gateway.models import ChangeSet
from tests.api.conftest import Caller


def with_token(text: str, path: str = "/api/v1/nodes/", **more: Any) -> Any:
    return Client().get(path, headers={"Authorization": f"Bearer {text}"}, **more)


# --- made, shown once, revoked: the page ---


@pytest.fixture
def page(caller_of: Callable[..., Caller]) -> tuple[Client, Operator]:
    client, operator = Client(), Operator.objects.create_operator("ada", "a password of some words", Role.SECURITY)
    client.force_login(operator)
    return client, operator


def made_on(client: Client, **typed: Any) -> str:
    answer = client.post("/account/tokens/", {"name": "ci", "scopes": ["view"], "expires": 30} | typed)
    assert answer.status_code == 200, answer.content.decode()
    text: str = answer.context["text"]
    assert text in answer.content.decode()
    return text


def test_a_token_is_shown_once_and_stored_as_a_digest(page: tuple[Client, Operator]) -> None:
    client, operator = page
    text = made_on(client)
    assert text.startswith("postern_") and len(text) > 45
    assert text not in client.get("/account/tokens/").content.decode()
    row = Token.objects.get()
    assert (row.operator, row.scopes, row.used_at) == (operator, ["view"], None)
    stored = str(list(Token.objects.values())) + str(list(ChangeSet.objects.values("message", "changes__after")))
    assert text not in stored and text.removeprefix("postern_") not in stored
    assert with_token(text).status_code == 200
    row.refresh_from_db()
    assert row.used_from == "127.0.0.1" and row.used_at is not None


def test_making_and_revoking_are_recorded(page: tuple[Client, Operator]) -> None:
    client, _ = page
    text = made_on(client)
    answer = client.post(f"/account/tokens/{Token.objects.get().pk}/revoke/")
    assert answer["Location"] == "/account/tokens/"
    made, revoked = ChangeSet.objects.order_by("id").filter(changes__kind="tokens")
    assert (made.actor, made.message, made.configures) == ("ada", "token ci of operator ada made", False)
    assert made.changes.get().after["scopes"] == ["view"]
    assert (revoked.message, revoked.changes.get().after) == ("token ci of operator ada revoked", None)
    assert client.get(f"/changes/{revoked.pk}/").status_code == 200
    answer = with_token(text)
    assert (answer.status_code, answer.json()["detail"]) == (401, "This token was revoked.")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"scopes": ["change_operators"]}, "not one of the available choices"),
        ({"scopes": []}, "required"),
        ({"expires": 0}, "greater than or equal to 1"),
        ({"expires": 367}, "less than or equal to 366"),
        ({"expires": ""}, "required"),
        ({"name": "a b"}, "letters, digits"),
    ],
)
def test_what_cannot_be_made_is_said(page: tuple[Client, Operator], typed: dict[str, Any], words: str) -> None:
    answer = page[0].post("/account/tokens/", {"name": "ci", "scopes": ["view"], "expires": 30} | typed)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Token.objects.exists()


def test_two_that_stand_have_two_names(page: tuple[Client, Operator]) -> None:
    client, _ = page
    made_on(client)
    again = client.post("/account/tokens/", {"name": "ci", "scopes": ["view"], "expires": 30})
    assert (again.status_code, "of this name" in again.content.decode()) == (422, True)
    tokens.revoke(Token.objects.get(), "ada", None)
    made_on(client)


def test_nobody_revokes_somebody_elses_but_owners_all(page: tuple[Client, Operator], owner: Caller) -> None:
    client, operator = page
    assert client.post(f"/account/tokens/{owner.token.pk}/revoke/").status_code == 404
    text = made_on(client)
    boss = Client()
    boss.force_login(owner.operator)
    shown = boss.get(f"/operators/{operator.pk}/").content.decode()
    assert "Revoke all of them" in shown and text not in shown
    boss.post(f"/operators/{operator.pk}/revoke-tokens/")
    assert with_token(text).status_code == 401
    assert owner.get("/nodes/").status_code == 200


def test_there_is_an_end_to_how_many(page: tuple[Client, Operator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST", 1)
    made_on(page[0])
    with pytest.raises(ValidationError, match="revoke one"):
        tokens.create(page[1], "another", ["view"], timedelta(days=1), None)


# --- what becomes of it ---


def test_it_ends(page: tuple[Client, Operator]) -> None:
    text = made_on(page[0])
    Token.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answer = with_token(text)
    assert answer.status_code == 401
    assert "is over since" in answer.json()["detail"]
    made_on(page[0])  # the name is free again


def test_its_operator_disabled_it_is_worth_nothing_even_when_he_is_back(
    page: tuple[Client, Operator], owner: Caller
) -> None:
    text = made_on(page[0])
    boss = Client()
    boss.force_login(owner.operator)
    form = {"username": "ada", "full_name": "", "role": "security"}
    assert boss.post(f"/operators/{page[1].pk}/", form).status_code == 302
    assert with_token(text).json()["detail"] in ("This token was revoked.", "The token's operator is disabled.")
    assert boss.post(f"/operators/{page[1].pk}/", form | {"is_active": "on"}).status_code == 302
    assert with_token(text).json()["detail"] == "This token was revoked."


def test_a_rescue_ends_the_tokens_too(page: tuple[Client, Operator]) -> None:
    text = made_on(page[0])
    operators.renew_password(page[1], "rescue")
    assert with_token(text).status_code == 401


def test_what_its_operator_may_no_longer_it_may_no_longer(page: tuple[Client, Operator]) -> None:
    text = made_on(page[0], scopes=["view", "change_identity"])
    Operator.objects.filter(pk=page[1].pk).update(role=Role.VIEWER)
    answer = Client().put(
        "/api/v1/groups/G", {}, content_type="application/json", headers={"Authorization": f"Bearer {text}"}
    )
    assert answer.status_code == 403
    assert answer.json()["detail"] == "The token's operator may not: this takes change_identity."


# --- nobody else ---


def test_a_session_opens_nothing(page: tuple[Client, Operator]) -> None:
    answer = page[0].get("/api/v1/nodes/")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="postern"')
    assert page[0].post("/api/v1/apply", {"version": 1}, content_type="application/json").status_code == 401


@pytest.mark.parametrize("given", ["", "Basic YTpi", "Bearer", "Bearer ", "Bearer postern_x", "bearer x y", "Bearer é"])
def test_what_is_no_token_is_refused(given: str, db: None) -> None:
    answer = Client().get("/api/v1/nodes/", headers={"Authorization": given})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_the_scheme_is_read_in_any_case(owner: Caller) -> None:
    assert Client().get("/api/v1/nodes/", headers={"Authorization": f"bearer {owner.text}"}).status_code == 200


def test_wrong_tokens_come_to_an_end(owner: Caller, settings: Any) -> None:
    settings.CONSOLE_LOGIN_FAILURES = 1  # five from one address
    for _ in range(5):
        assert with_token("postern_wrong").status_code == 401
    answer = with_token("postern_wrong")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_wrong_tokens")
    assert 0 < int(answer["Retry-After"]) <= settings.CONSOLE_LOGIN_LOCK_SECONDS
    assert owner.get("/nodes/").status_code == 429, "whoever is there waits"
    assert with_token(owner.text, REMOTE_ADDR="192.0.2.7").status_code == 200, "and nobody elsewhere"
    LoginFailure.objects.update(locked_until=timezone.now() - timedelta(seconds=1))
    assert owner.get("/nodes/").status_code == 200


def test_one_that_was_good_is_no_guess(owner: Caller, settings: Any) -> None:
    """A job that goes on with its old token locks nobody out."""
    settings.CONSOLE_LOGIN_FAILURES = 1
    tokens.revoke(owner.token, "tests", None)
    for _ in range(8):
        assert owner.get("/nodes/").status_code == 401
    assert not LoginFailure.objects.exists()


def test_who_is_refused_is_logged(page: tuple[Client, Operator], caplog: pytest.LogCaptureFixture) -> None:
    client, _ = page
    text = made_on(client)
    refused = with_token(text, "/api/v1/operators/", REMOTE_ADDR="192.0.2.7")
    assert refused.status_code == 403
    Token.objects.update(revoked_at=timezone.now())
    with_token(text)
    with caplog.at_level(logging.INFO):
        with_token("postern_guessed")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("postern.")] == [
        "refused ada by token ci from 192.0.2.7: GET /api/v1/operators/: it takes change_operators",
        "refused ada by token ci from 127.0.0.1: GET /api/v1/nodes/: This token was revoked.",
        "wrong token from 127.0.0.1",
    ]
    assert text not in caplog.text and "postern_guessed" not in caplog.text


def test_over_plain_http_a_program_is_refused_and_not_led_on(owner: Caller, settings: Any) -> None:
    """Who is led on sends his token in the clear each time, and does not notice (ASVS V4.1.2)."""
    settings.CONSOLE_HTTPS = settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    refused = owner.get("/nodes/")
    assert (refused.status_code, refused.json()["code"]) == (403, "https_needed")
    assert owner.get("/nodes/", X_Forwarded_Proto="https").status_code == 200
    assert Client().get("/")["Location"] == "https://testserver/", "people are"
