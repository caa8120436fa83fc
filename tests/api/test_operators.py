"""Operators and tokens over the API: by whom, by which token, and that nobody is locked out or grows by it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from console import tokens
from console.models import Operator, Session, Token
from gateway.models import Change
from tests.api.conftest import Caller
from tests.console.conftest import PASSWORD

NEW = {"role": "viewer", "full_name": "Ada", "password": "a password of some words"}


def test_an_operator_is_added_and_changed(owner: Caller) -> None:
    added = owner.put("/operators/ada", NEW)
    assert (added.status_code, added["Location"]) == (201, "/api/v1/operators/ada")
    assert (added.json()["role"], added.json()["active"], added.json()["tokens"]) == ("viewer", True, [])
    ada = Operator.objects.get(username="ada")
    assert ada.check_password(NEW["password"])
    assert owner.put("/operators/ada", {"role": "security"}).json()["role"] == "security"
    ada.refresh_from_db()
    assert (ada.check_password(NEW["password"]), ada.full_name) == (True, ""), (
        "the password stays, the rest is replaced"
    )
    recorded = Change.objects.filter(kind="operators", name="ada")
    assert recorded.count() == 2 and NEW["password"] not in str(list(recorded.values()))
    assert "password" not in added.json()


def test_a_new_password_ends_what_went_by_the_old_one(owner: Caller) -> None:
    owner.put("/operators/ada", NEW)
    ada = Operator.objects.get(username="ada")
    client = Client()
    client.force_login(ada)
    tokens.create(ada, "ci", ["view"], timedelta(days=1), None)
    assert owner.put("/operators/ada", NEW | {"password": "another password of words"}).status_code == 200
    assert not Session.objects.filter(operator=ada).exists()
    assert owner.get("/operators/ada").json()["tokens"] == []


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("ada", {"role": "viewer"}, "password"),
        ("ada", NEW | {"password": "short"}, "password"),
        ("ada:" + "x" * 150, NEW, "name"),
        ("olga-owner", {"role": "viewer"}, ""),
        ("olga-owner", {"role": "owner", "active": False}, ""),
    ],
)
def test_what_is_refused_on_the_page_is_refused_here(
    name: str, body: dict[str, str], field: str, owner: Caller
) -> None:
    before = Operator.objects.count()
    answer = owner.put(f"/operators/{name}", body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert (Operator.objects.count(), Operator.objects.get(username="olga-owner").role) == (before, "owner")


def test_sessions_factors_and_tokens_of_others_are_taken_away(owner: Caller) -> None:
    owner.put("/operators/ada", NEW)
    ada = Operator.objects.get(username="ada")
    Client().force_login(ada)
    tokens.create(ada, "ci", ["view"], timedelta(days=1), None)
    assert owner.post("/operators/ada/end-sessions").json() == {"ended": 1}
    assert owner.post("/operators/ada/revoke-tokens").json() == {"revoked": 1}
    assert owner.post("/operators/ada/remove-factors").status_code == 200
    own = owner.post("/operators/olga-owner/remove-factors")
    assert (own.status_code, own.json()["code"]) == (409, "in_the_way")
    assert owner.get("/operators/nobody").status_code == 404


# --- tokens ---


def test_a_token_makes_none_that_may_more_and_none_that_is_confirmed(caller_of: Callable[..., Caller]) -> None:
    caller = caller_of("owner", "view", "change_gateway", "confirmed")
    made = caller.post("/tokens/", {"name": "ci", "scopes": ["view", "change_gateway"], "days": 90.0})
    assert made.status_code == 201
    text = made.json()["token"]
    assert Client().get("/api/v1/nodes/", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    assert text not in caller.get("/tokens/").content.decode()
    more = caller.post("/tokens/", {"name": "more", "scopes": ["view", "change_identity"], "days": 1})
    assert (more.status_code, more.json()["errors"][0]["field"]) == (422, "scopes")
    again = caller.post("/tokens/", {"name": "again", "scopes": ["view", "confirmed"], "days": 1})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (400, "scopes")
    headers = {"Authorization": f"Bearer {text}"}
    body = {"name": "third", "scopes": ["view"], "days": 1}
    third = Client().post("/api/v1/tokens/", body, content_type="application/json", headers=headers)
    assert third.status_code == 403, "what it made, makes none"
    assert set(Token.objects.values_list("name", flat=True)) == {"t1", "ci"}


def test_ones_own_is_revoked_by_any_and_those_of_others_by_owners(caller_of: Callable[..., Caller]) -> None:
    ada, owner = caller_of("viewer", "view"), caller_of("owner")
    assert ada.delete(f"/tokens/{owner.token.pk}").status_code == 404
    assert owner.delete(f"/tokens/{ada.token.pk}").status_code == 204
    assert ada.get("/tokens/").status_code == 401
    other = caller_of("viewer", "view")
    assert other.delete(f"/tokens/{other.token.pk}").status_code == 204


def test_what_need_not_be_asked_again_lasts_an_hour(client: Client, db: None) -> None:
    operator = Operator.objects.create_operator("ada", PASSWORD, "security")
    client.force_login(operator)
    form = {"name": "ci", "scopes": ["view", "change_identity", "confirmed"], "expires": 90}
    assert client.post("/account/tokens/", form).status_code == 200
    token = Token.objects.get()
    assert token.is_confirmed and token.expires_at <= timezone.now() + timedelta(hours=1)
    with pytest.raises(Exception, match="an hour at most"):
        tokens.create(operator, "more", ["view", "confirmed"], timedelta(days=1), None)
    with pytest.raises(Exception, match="Choose one at least"):
        tokens.create(operator, "more", ["confirmed"], timedelta(minutes=1), None)
