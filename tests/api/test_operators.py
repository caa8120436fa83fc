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


def test_he_is_changed_only_as_he_was_read(owner: Caller) -> None:
    added = owner.put("/operators/ada", NEW, If_None_Match="*")
    read = owner.get("/operators/ada")
    assert (added.status_code, read["ETag"]) == (201, added["ETag"])
    assert owner.put("/operators/ada", NEW, If_None_Match="*").json()["code"] == "is_there"
    tokens.create(Operator.objects.get(username="ada"), "ci", ["view"], timedelta(days=1), None)
    assert owner.get("/operators/ada")["ETag"] == read["ETag"], "tokens come and go beside what is changed here"
    done = owner.put("/operators/ada", {"role": "operator"}, If_Match=read["ETag"])
    assert (done.status_code, done["ETag"] != read["ETag"]) == (200, True)
    late = owner.put("/operators/ada", {"role": "viewer"}, If_Match=read["ETag"])
    assert (late.status_code, late.json()["code"], late["ETag"]) == (412, "changed_meanwhile", done["ETag"])
    assert owner.put("/operators/nobody", NEW, If_Match="*").status_code == 412
    assert (Operator.objects.get(username="ada").role, Operator.objects.count()) == ("operator", 2)


def test_a_password_that_another_has_set_meanwhile_is_a_change_too(owner: Caller) -> None:
    owner.put("/operators/ada", NEW)
    tag = owner.get("/operators/ada")["ETag"]
    owner.put("/operators/ada", NEW | {"password": "another password of words"})
    assert owner.put("/operators/ada", NEW, If_Match=tag).status_code == 412


def test_he_is_renamed(owner: Caller) -> None:
    tag = owner.put("/operators/ada", NEW)["ETag"]
    done = owner.post("/operators/ada/rename", {"name": "augusta"}, If_Match=tag)
    assert (done.status_code, done["Location"], done.json()["name"]) == (200, "/api/v1/operators/augusta", "augusta")
    augusta = Operator.objects.get(username="augusta")
    assert (augusta.role, augusta.full_name, augusta.check_password(NEW["password"])) == ("viewer", "Ada", True)
    for name, status in (("olga-owner", 422), ("rescue", 422), ("no name", 422)):
        assert owner.post("/operators/augusta/rename", {"name": name}).status_code == status
    assert owner.post("/operators/augusta/rename", {"name": "ada"}, If_Match=tag).status_code == 412
    recorded = Change.objects.filter(kind="operators").latest("id")
    assert (recorded.before["name"], recorded.after["name"]) == ("ada", "augusta")  # type: ignore[index]


def test_his_sessions_are_listed_and_ended_one_by_one(owner: Caller) -> None:
    ada = Operator.objects.create_operator("ada", PASSWORD, "viewer")
    for agent in ("Firefox/1", "curl/8"):
        Client().post("/login/", {"username": "ada", "password": PASSWORD}, headers={"User-Agent": agent})
    found = owner.get("/operators/ada/sessions").json()["items"]
    assert sorted((each["agent"], each["address"]) for each in found) == [
        ("Firefox/1", "127.0.0.1"), ("curl/8", "127.0.0.1"),
    ]  # fmt: skip
    mark = next(each["mark"] for each in found if each["agent"] == "curl/8")
    assert owner.delete(f"/operators/olga-owner/sessions/{mark}").status_code == 404, "it is not that operator's"
    assert owner.delete(f"/operators/ada/sessions/{mark}").status_code == 204
    assert owner.delete(f"/operators/ada/sessions/{mark}").status_code == 404
    left = owner.get("/operators/ada/sessions").json()["items"]
    assert [each["agent"] for each in left] == ["Firefox/1"]
    recorded = Change.objects.filter(kind="operators", name="ada").latest("id")
    assert recorded.after["sessions_ended"] == 1  # type: ignore[index]
    browser = Client()
    browser.cookies["sessionid"] = browser.cookies["__Host-sessionid"] = left[0]["mark"]
    assert browser.get("/").status_code == 302, "nobody logs in by a mark"
    assert Session.objects.filter(operator=ada).count() == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_sessions_are_an_owners_matter(method: str, caller_of: Callable[..., Caller]) -> None:
    path = "/operators/olga-security/sessions" + (f"/{'a' * 40}" if method == "DELETE" else "")
    assert caller_of("security").ask(method, path).status_code == 403
    assert caller_of("owner", "change_operators").ask(method, path).status_code in (200, 404), (
        "shutting out is not asked"
    )


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
