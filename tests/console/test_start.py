"""First steps: each writes what the forms would, or nothing, and knows when it is done."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from gateway.compile import document_of
from gateway.core.document import from_document
from gateway.models import ChangeSet, Node, Port, Registration, Service
from identity.models import Certificate, Keystore, Truststore
from tests.factories import partner_ca
from tests.minting import mint

pytestmark = pytest.mark.django_db
STEPS = ["trust", "edge", "inside", "service", "caller"]


def defaults(page: Any) -> dict[str, Any]:
    return {field.name: field.value() or "" for field in page.context["form"]}


def take(client: Client, key: str, **fields: Any) -> Any:
    page = client.get(reverse("start"))
    assert page.context["next"].key == key
    return client.post(reverse("start"), defaults(page) | fields | {"step": key}, follow=True)


def test_each_step_leads_to_the_next_and_is_one_change(owner: Client) -> None:
    assert "Lead me through it" in owner.get("/").content.decode()
    before = ChangeSet.objects.count()
    for key in STEPS:
        page = take(owner, key)
        assert page.status_code == 200, page.content.decode()
    assert ChangeSet.objects.count() == before + len(STEPS)
    page = owner.get(reverse("start"))
    assert page.context["next"].key == "run"
    text = page.content.decode()
    assert "manage.py relay --node edge" in text and "manage.py relay --node inside" in text
    assert Certificate.objects.get().user.name == "partner-one"
    assert "Make this" not in text


def test_all_at_once_is_one_change_that_every_node_could_put_in_force(owner: Client) -> None:
    before = ChangeSet.objects.count()
    assert owner.post(reverse("start"), {"step": "all"}, follow=True).context["next"].key == "run"
    assert ChangeSet.objects.count() == before + 1
    assert sorted(Node.objects.values_list("name", flat=True)) == ["edge", "inside"]
    for node in ("edge", "inside"):
        assert from_document(document_of(node)).node == node
    registration = Registration.objects.get()
    assert registration.allow_test and registration.limits_assertions
    assert (
        Port.objects.get(name="ext").service_access["allow"]
        == ["/hello"]
        == (Port.objects.get(name="dial").service_access["allow"])
    )
    assert owner.post(reverse("start"), {"step": "all"}).status_code == 422, "it is there already"
    assert ChangeSet.objects.count() == before + 1


def test_a_partners_own_authority_and_certificate_are_taken_in_place_of_a_trials(owner: Client) -> None:
    take(owner, "trust", partners=partner_ca().pem, hosts="edge.example, 192.0.2.7")
    names = {str(name) for name in Keystore.objects.get(name="edge-server").certificate.alternative_names}
    assert names == {"dns:edge.example", "ip:192.0.2.7"}
    assert Truststore.objects.get(name="partners").certificates.get().sha256 == partner_ca().certificate.sha256
    assert not Certificate.objects.exists()
    for key in ("edge", "inside", "service"):
        take(owner, key)
    assert Port.objects.get(name="dial").tls_server_name == "edge.example"
    page = take(owner, "caller")
    assert page.status_code == 422 and "Choose a file" in page.content.decode()
    take(owner, "caller", certificate=mint("CN=alice,O=Partner One", partner_ca()).pem, user="alice")
    assert Certificate.objects.get().user.name == "alice"


def test_what_is_refused_leaves_nothing_behind_and_says_why(owner: Client) -> None:
    take(owner, "trust")
    before = ChangeSet.objects.count()
    page = take(owner, "edge", bind="127.0.0.1:70000")
    assert page.status_code == 422 and "70000" in page.content.decode()
    assert not Node.objects.exists() and not Port.objects.exists()
    assert ChangeSet.objects.count() == before
    take(owner, "edge")
    take(owner, "inside")
    page = take(owner, "service", path="no-slash")
    assert page.status_code == 422 and not Service.objects.exists()


def test_a_step_that_is_done_is_not_done_twice(owner: Client) -> None:
    take(owner, "trust")
    assert owner.post(reverse("start"), {"step": "trust", "hosts": "localhost"}).status_code == 302
    assert Keystore.objects.count() == 2
    assert owner.post(reverse("start"), {"step": "try"}).status_code == 422
