"""Sign-on by an identity provider, over sockets; and every answer of it that must not be believed."""

import http.client
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client

from console.models import Operator, Role
from gateway.models import Change
from tests.console.conftest import PASSWORD
from tests.provider import CLIENT, KEYS, SECRET, Provider


@pytest.fixture
def provider(db: None, settings: Any) -> Iterator[Provider]:
    with Provider() as idp:
        settings.CONSOLE_OIDC_ISSUER = idp.issuer
        settings.CONSOLE_OIDC_CLIENT_ID, settings.CONSOLE_OIDC_CLIENT_SECRET = CLIENT, SECRET
        settings.CONSOLE_OIDC_NAME = "Example ID"
        yield idp


def to_the_provider(client: Client, query: str = "") -> str:
    """The address that the provider sends the browser back to."""
    there = urlsplit(client.get(f"/oidc/{query}")["Location"])
    connection = http.client.HTTPConnection(there.netloc, timeout=30)
    connection.request("GET", f"{there.path}?{there.query}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    back = urlsplit(answer.headers["Location"])
    assert back.path == "/oidc/callback/"
    return f"{back.path}?{back.query}"


def sign_on(client: Client, query: str = "") -> Any:
    return client.get(to_the_provider(client, query))


def refused(client: Client, words: str) -> None:
    answer = sign_on(client)
    assert answer.status_code == 403
    assert words in answer.content.decode()
    assert client.get("/").status_code == 302
    assert not Operator.objects.filter(username="erika").exists()


def test_the_login_page_offers_it_where_there_is_one(provider: Provider, client: Client, settings: Any) -> None:
    assert "Log in with Example ID" in client.get("/login/").content.decode()
    settings.CONSOLE_OIDC_ISSUER = ""
    assert "Example ID" not in client.get("/login/").content.decode()


def test_who_is_new_has_no_role_until_an_owner_gives_one(provider: Provider, client: Client, as_role: Any) -> None:
    answer = sign_on(client, "?next=/users/")
    assert answer.status_code == 200, "no redirect: the cookie would not be sent along with it"
    assert '<meta http-equiv="refresh" content="0; url=/users/">' in answer.content.decode()
    page = client.get("/users/")
    assert (page.status_code, "You have no role yet" in page.content.decode()) == (403, True)
    assert client.get("/account/").status_code == 200
    erika = Operator.objects.get(username="erika")
    assert (erika.role, erika.has_usable_password()) == (Role.NONE, False)
    assert [c.action for c in Change.objects.filter(name="erika").order_by("id")] == ["added", "logged_in"]
    typed = {"username": "erika", "role": "viewer", "is_active": "on"}
    assert as_role("owner").post(f"/operators/{erika.pk}/", typed).status_code == 302
    assert client.get("/users/").status_code == 200


def test_what_is_asked_of_the_provider(provider: Provider, client: Client) -> None:
    sign_on(client)
    (asked,) = provider.asked
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == ["http://testserver/oidc/callback/"]
    assert "max_age" not in asked


def test_the_same_subject_is_the_same_operator_whatever_it_is_called(provider: Provider, client: Client) -> None:
    sign_on(client)
    provider.claims["preferred_username"] = "erika.new"
    sign_on(client)
    assert [row.username for row in Operator.objects.all()] == ["erika"]


def test_another_subject_does_not_become_somebody_by_a_name(provider: Provider, client: Client) -> None:
    Operator.objects.create_operator("erika", PASSWORD, Role.OWNER)
    answer = sign_on(client)
    assert (answer.status_code, "There is an operator erika here" in answer.content.decode()) == (403, True)
    assert client.get("/").status_code == 302


def test_who_is_disabled_here_stays_out(provider: Provider, client: Client) -> None:
    sign_on(client)
    Operator.objects.update(is_active=False)
    assert sign_on(client).status_code == 403
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("name", ["", "er ika", "<b>", 7, None, "x" * 300])
def test_a_name_that_is_none_is_told(provider: Provider, client: Client, name: Any) -> None:
    provider.claims["preferred_username"] = name
    answer = sign_on(client)
    assert (answer.status_code, "The claim preferred_username is no name" in answer.content.decode()) == (403, True)
    assert not Operator.objects.exists()


# --- roles by claim ---


@pytest.fixture
def roles(settings: Any) -> None:
    settings.CONSOLE_OIDC_ROLE_CLAIM = "realm.roles"
    settings.CONSOLE_OIDC_ROLES = {"ops": "operator", "boss": "owner"}


@pytest.mark.parametrize(
    ("given", "role"),
    [
        pytest.param(["ops"], "operator", id="one"),
        pytest.param(["boss", "ops", "x"], "owner", id="the-highest"),
        pytest.param("ops", "operator", id="a-text"),
        pytest.param(["owner"], "none", id="our-own-word-means-nothing"),
        pytest.param({"ops": True}, "none", id="no-list"),
        pytest.param(None, "none", id="nothing"),
    ],
)
def test_claims_give_roles(provider: Provider, roles: None, client: Client, given: Any, role: str) -> None:
    provider.claims["realm"] = {"roles": given}
    sign_on(client)
    assert Operator.objects.get().role == role


def test_a_role_follows_the_claim_and_is_recorded(provider: Provider, roles: None, client: Client) -> None:
    Operator.objects.create_operator("second", PASSWORD, Role.OWNER)
    provider.claims["realm"] = {"roles": ["boss"]}
    sign_on(client)
    provider.claims["realm"] = {"roles": []}
    sign_on(client)
    assert Operator.objects.get(username="erika").role == Role.NONE
    change = Change.objects.filter(name="erika", action="changed").latest("id")
    assert (change.before["role"], change.after["role"], change.change_set.actor) == ("owner", "none", "single sign-on")


def test_the_last_owner_stays_one(provider: Provider, roles: None, client: Client) -> None:
    provider.claims["realm"] = {"roles": ["boss"]}
    sign_on(client)
    provider.claims["realm"] = {"roles": ["ops"]}
    sign_on(client)
    assert Operator.objects.get().role == Role.OWNER


# --- what is believed ---


@pytest.mark.parametrize("alg", list(KEYS))
def test_every_kind_of_key_is_taken(provider: Provider, client: Client, alg: str) -> None:
    provider.alg = alg
    assert sign_on(client).status_code == 200


FORGED = [
    pytest.param({"iss": "https://evil.example"}, "another issuer", id="issuer"),
    pytest.param({"aud": "another client"}, "another client", id="audience"),
    pytest.param({"aud": [CLIENT, "another"]}, "another client", id="several-audiences"),
    pytest.param({"nonce": "another"}, "another sign-on", id="nonce"),
    pytest.param({"nonce": None}, "another sign-on", id="no-nonce"),
    pytest.param({"exp": 1}, "is over", id="expired"),
    pytest.param({"exp": None}, "is over", id="for-ever"),
    pytest.param({"iat": 9999999999}, "not yet valid", id="from-tomorrow"),
    pytest.param({"sub": ""}, "names nobody", id="nobody"),
    pytest.param({"sub": 4711}, "names nobody", id="a-number"),
]


@pytest.mark.parametrize(("claims", "words"), FORGED)
def test_claims_that_are_not_for_us(provider: Provider, client: Client, claims: dict[str, Any], words: str) -> None:
    provider.forge = lambda given: given | claims
    refused(client, words)


@pytest.mark.parametrize(
    ("alg", "header", "key"),
    [
        pytest.param("RS256", {}, KEYS["ES256"], id="a-strange-key"),
        pytest.param("RS256", {"alg": "none"}, None, id="no-algorithm"),
        pytest.param("RS256", {"alg": "HS256"}, None, id="the-public-key-as-a-secret"),
        pytest.param("ES256", {"alg": "RS256"}, None, id="an-algorithm-of-another-key"),
        pytest.param("RS256", {"kid": "unknown"}, None, id="an-unknown-key"),
        pytest.param("RS256", {"kid": "another"}, None, id="the-wrong-key"),
    ],
)
def test_signatures_that_do_not_hold(
    provider: Provider, client: Client, alg: str, header: dict[str, Any], key: Any
) -> None:
    provider.alg, provider.header, provider.sign_with = alg, header, key
    refused(client, "signed by none of the provider&#x27;s keys")


def test_a_token_without_a_key_named_is_tried_with_all(provider: Provider, client: Client) -> None:
    provider.header = {"kid": "current"}
    assert sign_on(client).status_code == 200


def test_an_answer_to_nobodys_question(provider: Provider, client: Client) -> None:
    back = to_the_provider(client)
    assert "not begun here" in Client().get(back).content.decode()
    assert "belongs to another sign-on" in client.get(f"{back.partition('state=')[0]}state=x&code=y").content.decode()


def test_an_answer_is_good_once(provider: Provider, client: Client) -> None:
    back = to_the_provider(client)
    assert client.get(back).status_code == 200
    assert client.get(back).status_code == 403


def test_a_refusal_is_told(provider: Provider, client: Client) -> None:
    provider.refuse = "access_denied"
    refused(client, "The provider refused: access_denied")


@pytest.mark.parametrize(
    ("about", "words"),
    [
        pytest.param({"issuer": "https://evil.example"}, "calls itself", id="another-issuer"),
        pytest.param({"authorization_endpoint": "http://idp.example/a"}, "is not HTTPS", id="in-the-clear"),
        pytest.param({"authorization_endpoint": None}, "names no authorization_endpoint", id="without-an-endpoint"),
    ],
)
def test_what_the_provider_says_of_itself(provider: Provider, client: Client, about: Any, words: str) -> None:
    provider.about = about
    answer = client.get("/oidc/")
    assert (answer.status_code, words in answer.content.decode()) == (403, True)


def test_a_provider_that_is_away_is_told(provider: Provider, client: Client, settings: Any) -> None:
    settings.CONSOLE_OIDC_ISSUER = "http://127.0.0.1:1"
    assert "127.0.0.1:1 cannot be reached" in client.get("/oidc/").content.decode()


def test_the_way_on_stays_in_this_house(provider: Provider, client: Client) -> None:
    assert b"evil.example" not in sign_on(client, "?next=https://evil.example/").content


# --- asked again ---


def test_who_is_asked_again_proves_it_at_the_provider(provider: Provider, client: Client) -> None:
    sign_on(client)
    page = client.get("/confirm/?next=/account/").content.decode()
    assert "Confirm by password" not in page
    assert "Confirm with Example ID" in page
    assert sign_on(client, "?again=1&next=/account/").status_code == 200
    assert provider.asked[-1]["max_age"] == ["0"]


def test_a_provider_that_does_not_ask_again_is_not_enough(provider: Provider, client: Client) -> None:
    provider.forge = lambda given: given | {"auth_time": given["iat"] - 3600}
    answer = sign_on(client, "?again=1")
    assert (answer.status_code, "did not ask again" in answer.content.decode()) == (403, True)


def test_where_a_second_factor_is_required_the_providers_counts(
    provider: Provider, client: Client, settings: Any, roles: None
) -> None:
    settings.CONSOLE_SECOND_FACTOR = "required"
    provider.claims["realm"] = {"roles": ["ops"]}
    sign_on(client)
    assert client.get("/users/").status_code == 200
