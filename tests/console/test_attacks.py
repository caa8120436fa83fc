"""What somebody tries who is an operator of a role that may much, and wants more."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.db.models.signals import post_init
from django.test import Client

from console.models import Operator, Role
from gateway.audit import change_set
from gateway.models import Change, ChangeSet, Endpoint
from tests import factories
from tests.api.conftest import Caller, caller_of
from tests.console.conftest import PASSWORD
from tests.console.refused import saved_test

__all__ = ["caller_of"]
SECRET = "the password of a batch user"


# --- a password that is stored is sent where it was given for ---


@pytest.fixture
def endpoint(world: dict[str, Model]) -> Endpoint:
    with change_set("tests", "an endpoint with a password"):
        row: Endpoint = factories.EndpointFactory(
            name="batch", url="https://orders.example:8443/in", identity="basic", username="b", password=SECRET
        )
    return row


def save(client: Client, row: Endpoint, **typed: str) -> Any:
    values = {"name": row.name, "url": row.url, "identity": "basic", "username": "b", "timeout": "60"} | typed
    return client.post(f"/endpoints/{row.pk}/", values)


@pytest.mark.parametrize(
    "url",
    ["https://evil.example:8443/in", "https://orders.example/in", "reverse://reg/in"],
    ids=["host", "port", "way"],
)
def test_a_stored_password_is_not_sent_to_another_place(
    as_role: Callable[[str], Client], endpoint: Endpoint, url: str
) -> None:
    client = as_role("operator")
    refused = save(client, endpoint, url=url)
    assert refused.status_code == 422
    assert "was given for https://orders.example:8443: give it again" in refused.content.decode()
    assert save(client, endpoint, url=url, new_password="given anew").status_code == 302


def test_at_the_same_place_it_stays(as_role: Callable[[str], Client], endpoint: Endpoint) -> None:
    assert save(as_role("operator"), endpoint, url="https://orders.example:8443/other").status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.open_password() == SECRET


def test_nor_by_the_api(caller_of: Callable[..., Caller], endpoint: Endpoint) -> None:
    program = caller_of("operator")
    entry = program.get("/endpoints/batch").json()
    moved = entry | {"url": "https://evil.example:8443/in"}
    for refused in (
        program.put("/endpoints/batch", moved),
        program.post("/apply", {"version": 1, "endpoints": [moved]}),
    ):
        assert refused.status_code == 422
        (error,) = refused.json()["errors"]
        assert error["field"].endswith("password")
        assert "was given for https://orders.example:8443" in error["problem"]
    endpoint.refresh_from_db()
    assert endpoint.url == "https://orders.example:8443/in"
    assert program.put("/endpoints/batch", moved | {"password": "given anew"}).status_code == 200
    assert program.post(f"/changes/{ChangeSet.objects.latest('id').pk}/undo").status_code == 200
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.open_password()) == ("https://orders.example:8443/in", SECRET), "as it had been"


@pytest.mark.parametrize("changed", [{"port": "other"}, {"username": "somebody"}], ids=["port", "user"])
def test_nor_by_a_saved_test(
    as_role: Callable[[str], Client], world: dict[str, Model], changed: dict[str, str]
) -> None:
    factories.ExternalPortFactory(name="other", registration_port=world["ports"].registration_port)  # type: ignore[attr-defined]
    test = saved_test("with-password", credential="password", username="b")
    test.set_password(SECRET)
    test.save()
    typed = {"name": "with-password", "port": "ext", "method": "GET", "path": "/orders", "credential": "password",
             "username": "b", "expected_status": "200"}  # fmt: skip
    client = as_role("operator")
    refused = client.post(f"/tests/{test.pk}/", typed | changed)
    assert refused.status_code == 422
    assert "was given for another port or user" in refused.content.decode()
    assert client.post(f"/tests/{test.pk}/", typed | {"path": "/other"}).status_code == 302
    assert client.post(f"/tests/{test.pk}/", typed | changed | {"password": "given anew"}).status_code == 302


# --- nobody acts in the name of something else ---


@pytest.mark.parametrize("name", ["rescue", "worker", "apply", "console", "crl-fetch", "schedule", "undo", "Rescue"])
def test_no_operator_is_called_as_a_command_is(owner: Client, name: str) -> None:
    """The audit log would say that the host did it."""
    with pytest.raises(ValidationError, match="is what the audit log calls"):
        Operator.objects.create_operator(name, PASSWORD, Role.VIEWER)
    typed = {"username": name, "role": "viewer", "is_active": "on", "new_password": PASSWORD,
             "new_password_again": PASSWORD}  # fmt: skip
    assert owner.post("/operators/add/", typed).status_code == 422
    own = Operator.objects.get(username="olivia-owner")
    renamed = {"username": name, "role": "owner", "is_active": "on"}
    assert owner.post(f"/operators/{own.pk}/", renamed).status_code == 422


def test_who_is_called_so_since_before_is_still_changed(owner: Client) -> None:
    row = Operator.objects.create_operator("victor", PASSWORD, Role.VIEWER)
    Operator.objects.filter(pk=row.pk).update(username="worker")
    assert (
        owner.post(f"/operators/{row.pk}/", {"username": "worker", "role": "operator", "is_active": "on"}).status_code
        == 302
    )


# --- nobody keeps the console busy by asking ---


def test_the_list_of_changes_does_not_read_all_that_each_has(
    caller_of: Callable[..., Caller], world: dict[str, Model], django_assert_max_num_queries: Any
) -> None:
    """An import has 100,000 objects, each with what it was before and is now."""
    with change_set("tests", "an import"):
        for number in range(40):
            factories.GroupFactory(name=f"g{number}")
    program, read = caller_of("viewer"), []

    def count(sender: Any, **_: Any) -> None:
        read.append(sender)

    post_init.connect(count, sender=Change)
    try:
        listed = program.get("/changes/?limit=200").json()["items"]
        one = program.get(f"/changes/{listed[1]['number']}").json()
    finally:
        post_init.disconnect(count, sender=Change)
    assert [(each["more"], each["changes"]) for each in listed[:2]] == [(1, []), (40, [])]
    assert (len(one["changes"]), one["more"]) == (40, 0)
    assert len(read) == 40, "the one alone"


# --- who sits at somebody's open session lets nobody in again whom others have shut out ---


@pytest.fixture
def stale(owner: Client) -> Client:
    """Logged in, and not asked for a while who he is."""
    session = owner.session
    session["proved_at"] = 0
    session.save()
    return owner


def asked(answer: Any) -> bool:
    return answer.status_code == 302 and answer["Location"].startswith("/confirm/")


def test_not_by_the_form_of_what_is_disabled(stale: Client, world: dict[str, Model]) -> None:
    alice = world["users"]
    assert stale.post(f"/users/{alice.pk}/", {"name": "alice"}).status_code == 302, "to shut out is never delayed"
    alice.refresh_from_db()
    assert not alice.enabled  # type: ignore[attr-defined]
    assert asked(stale.post(f"/users/{alice.pk}/", {"name": "alice", "enabled": "on"}))
    assert not asked(stale.post(f"/users/{alice.pk}/", {"name": "alice", "description": "still disabled"}))
    alice.refresh_from_db()
    assert not alice.enabled  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["certificates", "users", "registrations"])
def test_not_by_undoing_that_he_was_shut_out(stale: Client, world: dict[str, Model], kind: str) -> None:
    assert stale.post(f"/{kind}/{world[kind].pk}/block/").status_code == 302
    blocked = ChangeSet.objects.latest("id")
    for answer in (stale.get(f"/changes/{blocked.pk}/undo/"), stale.post(f"/changes/{blocked.pk}/undo/")):
        assert asked(answer)
    assert ChangeSet.objects.latest("id") == blocked


@pytest.mark.parametrize(
    "put_there", [lambda: factories.CertificateFactory(blocked=True), lambda: factories.UserFactory(enabled=False)]
)
def test_not_by_undoing_that_it_was_put_there_shut_out(stale: Client, put_there: Callable[[], Model]) -> None:
    """Which deletes it."""
    with change_set("somebody else", "put there"):
        put_there()
    made = ChangeSet.objects.latest("id")
    assert asked(stale.post(f"/changes/{made.pk}/undo/"))
    assert ChangeSet.objects.latest("id") == made


def test_what_is_not_shut_out_is_deleted_at_once(stale: Client) -> None:
    row = factories.UserFactory()
    assert stale.post(f"/users/{row.pk}/delete/")["Location"] == "/users/"
    assert not type(row).objects.filter(pk=row.pk).exists()


def test_what_shuts_out_is_undone_at_once(owner: Client, world: dict[str, Model]) -> None:
    owner.post(f"/users/{world['users'].pk}/block/")
    owner.post(f"/users/{world['users'].pk}/unblock/")
    session = owner.session
    session["proved_at"] = 0
    session.save()
    made = ChangeSet.objects.latest("id")
    assert owner.post(f"/changes/{made.pk}/undo/")["Location"] == f"/changes/{ChangeSet.objects.latest('id').pk}/"
    assert ChangeSet.objects.latest("id") != made
