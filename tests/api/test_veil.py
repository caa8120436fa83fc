"""A slow hash of a password that may be guessed is told to who may set it, and to nobody else, wherever it stands."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from gateway.models import ChangeSet, Endpoint
from gateway.topology.entries import kept
from tests import factories
from tests.api.conftest import Caller

BASIC = {"url": "https://backend.example/orders", "identity": "basic", "username": "svc"}
HIDDEN, ANOTHER = {"kept": "stored"}, {"kept": "another than before"}


@pytest.fixture
def fingerprints(caller_of: Callable[..., Caller]) -> list[str]:
    """Of the password that was replaced, and of the one that is stored."""
    found, owner = [], caller_of("owner")
    truststore = factories.TruststoreFactory(name="backends")
    for password in ("hunter2", "hunter3"):
        done = owner.put("/endpoints/orders", BASIC | {"password": password, "truststore": truststore.name})
        assert done.status_code in (200, 201), done.content
        found.append(kept(Endpoint.objects.get(), "password")["kept"])
    return found


def everywhere(caller: Caller) -> str:
    numbers = ChangeSet.objects.filter(configures=True).values_list("pk", flat=True)
    paths = ["/export", "/endpoints/", "/endpoints/orders", *(f"/changes/{number}" for number in numbers)]
    return "".join(caller.get(path).content.decode() for path in paths)


def last_change(caller: Caller) -> dict[str, Any]:
    """Of an endpoint."""
    made = ChangeSet.objects.filter(changes__kind="endpoints").latest("pk")
    found: dict[str, Any] = caller.get(f"/changes/{made.pk}").json()["changes"][0]
    return found


def test_who_may_not_set_it_is_told_nothing_to_try_guesses_against(
    caller_of: Callable[..., Caller], fingerprints: list[str]
) -> None:
    for caller in (caller_of("viewer"), caller_of("owner", "view", "change_identity")):
        told = everywhere(caller)
        assert not [each for each in fingerprints if each[:8] in told]
        assert caller.get("/endpoints/orders").json()["password"] == HIDDEN
        assert [each["password"] for each in caller.get("/export").json()["endpoints"]] == [HIDDEN]
    told = everywhere(caller_of("operator"))
    assert [each in told for each in fingerprints] == [True, True]


def test_that_it_was_changed_is_told(caller_of: Callable[..., Caller], fingerprints: list[str]) -> None:
    change = last_change(caller_of("viewer"))
    assert (change["before"]["password"], change["after"]["password"]) == (HIDDEN, ANOTHER)
    caller_of("owner").post("/endpoints/orders/rename", {"name": "other"})
    same = last_change(caller_of("viewer"))
    assert (same["before"]["password"], same["after"]["password"]) == (HIDDEN, HIDDEN)


def test_an_entity_tag_tells_nothing_of_it(caller_of: Callable[..., Caller], fingerprints: list[str]) -> None:
    """Else guesses could be tried against the tag."""
    viewer, owner = caller_of("viewer"), caller_of("owner")
    before, known = viewer.get("/endpoints/orders")["ETag"], owner.get("/endpoints/orders")
    truststore = known.json()["truststore"]
    owner.put("/endpoints/orders", BASIC | {"password": "hunter4", "truststore": truststore}, If_Match=known["ETag"])
    assert viewer.get("/endpoints/orders")["ETag"] == before
    assert owner.get("/endpoints/orders")["ETag"] != known["ETag"]


@pytest.mark.parametrize(("role", "shown"), [("viewer", False), ("operator", True)])
def test_a_page_of_a_change_tells_the_same(
    role: str, shown: bool, as_role: Callable[[str], Client], fingerprints: list[str]
) -> None:
    last = ChangeSet.objects.filter(changes__kind="endpoints").latest("pk")
    text = as_role(role).get(f"/changes/{last.pk}/").content.decode()
    assert [each[:12] in text for each in fingerprints] == [shown, shown]
    assert ("another secret" in text) is not shown


def test_what_was_hidden_is_not_taken_back(caller_of: Callable[..., Caller], fingerprints: list[str]) -> None:
    whole: dict[str, Any] = caller_of("viewer").get("/export").json()
    answer = caller_of("owner").post("/apply", whole)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "endpoints[orders].password")
    assert Endpoint.objects.get().open_password() == "hunter3"
