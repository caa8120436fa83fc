"""Saved tests are sent through running nodes, compared with what is expected, and with the run before."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.kept import SavedTest, TestRun
from console.saved_tests import work
from gateway.models import Change
from identity.models import Certificate
from tests.factories import (
    CertificateFactory,
    ExternalPortFactory,
    KeystoreFactory,
    NodeFactory,
    OperatorFactory,
    UserFactory,
)
from tests.relay.installation import Installation

pytestmark = pytest.mark.django_db


@pytest.fixture
def console(forum: Installation, client: Client, settings: Any) -> Iterator[Client]:
    settings.POSTERN_STATE_DIR = forum.state_dir
    edge = NodeFactory(name="edge")
    ExternalPortFactory(name="ext", node=edge, registration_port__node=edge)
    CertificateFactory(name="alice", minted=forum.pki["alice"], user=UserFactory(name="alice"))
    client.force_login(OperatorFactory(role="operator", username="olivia"))
    yield client


def keep(console: Client, name: str, **fields: Any) -> Any:
    told = {"name": name, "port": "ext", "method": "GET", "path": "/orders", "credential": "none",
            "expected_status": "200"}  # fmt: skip
    return console.post(reverse("tests-add"), told | fields)


def run(console: Client) -> Any:
    """The page of a run, when it is done."""
    asked = console.post(reverse("tests-run-all"))
    assert work() and not work()
    return console.get(asked.url)


def told(page: Any) -> dict[str, tuple[str, str]]:
    return {each.name: (each.now.outcome, each.turn) for each in page.context["rows"]}


def test_who_is_let_in_and_who_is_not_before_a_change_and_after(console: Client, forum: Installation) -> None:
    keep(console, "alice-orders", credential="certificate", certificate=str(_pk("alice")), expected_user="alice")
    keep(console, "nobody-orders", expected_status="401", expected_reason="authentication_required")
    keep(console, "pasted", credential="pem", pem=forum.pki["stranger"].pem, expected_status="403",
         expected_reason="certificate_unmapped")  # fmt: skip
    first = run(console)
    assert told(first) == {
        "alice-orders": ("200 as alice", "new"),
        "nobody-orders": ("401 authentication_required as Default", "new"),
        "pasted": ("403 certificate_unmapped", "new"),
    }
    assert first.context["wrong"] == 0 and "all 3 as expected" in first.content.decode()
    SavedTest.objects.filter(name="alice-orders").update(certificate="gone")
    SavedTest.objects.filter(name="pasted").update(expected_status=200, expected_reason="")
    second = run(console)
    assert [each.name for each in second.context["rows"]][:2] == ["alice-orders", "pasted"], "what is wrong comes first"
    rows = {each.name: each for each in second.context["rows"]}
    assert (rows["alice-orders"].turn, rows["alice-orders"].now.words) == (
        "broken",
        "There is no certificate gone any more.",
    )
    assert rows["pasted"].now.words == "status 403 in place of 200"
    assert rows["nobody-orders"].turn == ""
    tested = Change.objects.filter(action="tested").latest("id")
    assert tested.after == {"tests": 3, "not as expected": 2}


def _pk(name: str) -> Any:
    return Certificate.objects.get(name=name).pk


def test_a_test_is_kept_from_what_was_just_sent(console: Client, forum: Installation) -> None:
    sent = {"port": "ext", "method": "GET", "path": "/orders?x=1", "credential": "certificate",
            "certificate": str(_pk("alice")), "headers": "Accept: text/plain"}  # fmt: skip
    page = console.post(reverse("invoke"), sent)
    kept = dict(page.context["kept"])
    assert (kept["expected_status"], kept["expected_user"]) == (200, "alice")
    assert "--cert CERTIFICATE.pem --key KEY.pem" in page.context["curl"]
    form = console.post(reverse("tests-add"), kept | {"take": "1"})
    values = {field.name: field.value() for field in form.context["form"]}
    assert (values["path"], values["headers"], values["expected_status"]) == (
        "/orders?x=1",
        "Accept: text/plain",
        "200",
    )
    keep(console, "kept", **{k: v for k, v in kept.items() if v})
    assert SavedTest.objects.get().headers == [["Accept", "text/plain"]]
    run(console)
    assert console.get(reverse("tests")).context["table"][0][1].passed


def test_a_password_is_sealed_and_shown_nowhere(console: Client) -> None:
    assert keep(console, "batch", credential="password", username="batch").status_code == 422
    keep(console, "batch", credential="password", username="batch", password="correct horse battery",
         expected_user="Default")  # fmt: skip
    test = SavedTest.objects.get()
    assert test.open_password() == "correct horse battery" and b"horse" not in bytes(test.password)
    page = console.get(reverse("tests-edit", args=[test.pk]))
    assert "horse" not in page.content.decode() and "--user batch" in page.context["curl"]
    keep_url = reverse("tests-edit", args=[test.pk])
    console.post(keep_url, {"name": "batch", "port": "ext", "method": "GET", "path": "/", "credential": "password",
                            "username": "batch", "expected_status": "200"})  # fmt: skip
    test.refresh_from_db()
    assert test.path == "/" and test.open_password() == "correct horse battery", "an empty field keeps it"
    console.post(keep_url, {"name": "batch", "port": "ext", "method": "GET", "path": "/", "credential": "none",
                            "expected_status": "200"})  # fmt: skip
    test.refresh_from_db()
    assert bytes(test.password) == b"" and test.username == ""
    assert "horse" not in str(list(Change.objects.values_list("before", "after")))


def test_what_is_a_credential_is_no_header_of_a_test(console: Client) -> None:
    page = keep(console, "bearer", headers="Authorization: Bearer abc")
    assert page.status_code == 422 and "is a credential" in page.content.decode()
    assert not SavedTest.objects.exists()


def test_each_change_of_a_test_is_recorded(console: Client) -> None:
    keep(console, "orders")
    assert keep(console, "orders").status_code == 422, "a name is given once"
    test = SavedTest.objects.get()
    console.post(reverse("tests-delete", args=[test.pk]))
    rows = Change.objects.filter(kind="saved_tests").order_by("id")
    assert [(row.action, row.name, row.change_set.configures) for row in rows] == [
        ("added", "orders", False),
        ("removed", "orders", False),
    ]
    assert "saved test orders removed" in console.get(reverse("changes")).content.decode()


def test_runs_are_kept_for_a_while_and_one_that_waits_is_enough(console: Client, settings: Any) -> None:
    keep(console, "gone", port="ext", credential="keystore", keystore=str(KeystoreFactory().pk))
    asked = [console.post(reverse("tests-run-all")).url for _ in range(2)]
    assert asked[0] == asked[1]
    assert "Waiting for a worker" in console.get(asked[0]).content.decode()
    assert work()
    for _ in range(TestRun.KEPT + 1):
        TestRun.objects.create(actor="tests", revision=1, state="done")
    run(console)
    assert TestRun.objects.count() == TestRun.KEPT
