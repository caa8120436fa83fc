"""Answers about access on pages: sections that tell, and the step that shows what would change before it is saved."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from gateway.models import ChangeSet
from gateway.topology.entries import KIND_OF
from identity.models import Certificate, Group, User
from tests import factories
from tests.console.conftest import opened
from tests.minting import mint


@pytest.fixture
def reachable(world: dict[str, Model]) -> dict[str, Any]:
    return opened(world)


def edit(client: Client, row: Any, **given: Any) -> Any:
    """What the row's form would send, with some of it changed."""
    page = client.get(reverse(f"{_kind(row)}-edit", args=[row.pk]))
    form = page.context["form"]
    values = {field.html_name: field.value() for field in form if field.value() not in (None, False)}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = [getattr(each, "pk", each) for each in value]
    return client.post(reverse(f"{_kind(row)}-edit", args=[row.pk]), values | given)


def _kind(row: Any) -> str:
    return KIND_OF[type(row)]


def test_a_user_page_tells_what_the_user_reaches(owner: Client, reachable: dict[str, Any]) -> None:
    page = owner.get(reverse("users-edit", args=[reachable["users"].pk])).content.decode()
    assert "What it can reach" in page
    assert "<code>/orders</code>" in page and "certificate by CN=Partner CA, O=Acme" in page


def test_a_service_page_tells_who_reaches_it(owner: Client, reachable: dict[str, Any]) -> None:
    page = owner.get(reverse("services-edit", args=[reachable["services"].pk]))
    found = {each.place.path: each.count for each in page.context["access"].who}
    assert found == {"/orders": 1, reachable["apis"].path: 1}
    assert "alice" in page.content.decode()


def test_a_certificate_page_tells_which_rule_is_near(owner: Client, reachable: dict[str, Any]) -> None:
    loose = factories.CertificateFactory(minted=mint("CN=x,O=Partner,OU=East", factories.partner_ca()))
    factories.MappingRuleFactory(name="sales", subject={"O": ["Partner"], "OU": ["Sales"]}, san="")
    page = owner.get(reverse("certificates-edit", args=[loose.pk])).content.decode()
    assert "1 of 2 conditions not met" in page
    assert "wants <code>sales</code>, has <code>East</code>" in page


def test_looking_ahead_tells_and_saves_nothing(owner: Client, reachable: dict[str, Any]) -> None:
    before = ChangeSet.objects.count()
    page = edit(owner, reachable["users"], groups=[], would_change="1")
    assert page.status_code == 200
    (effect,) = page.context["would_change"].outlook.effects
    assert effect.labels == ("API orders", "service orders:whoami")
    assert (effect.gained, effect.callers.names, effect.port) == (False, ("alice",), "ext")
    assert "then refused: acl_denied" in page.content.decode()
    assert User.objects.get(name="alice").groups.count() == 1
    assert ChangeSet.objects.count() == before


def test_what_was_looked_at_is_saved_by_the_next_step(owner: Client, reachable: dict[str, Any]) -> None:
    row = reachable["users"]
    form = edit(owner, row, groups=[], would_change="1").context["form"]
    assert list(form["groups"].value()) == []
    assert edit(owner, row, groups=[]).status_code == 302
    assert not row.groups.exists()


def test_a_new_object_is_looked_at_too(owner: Client, reachable: dict[str, Any]) -> None:
    page = owner.post(reverse("groups-add"), {"name": "New", "would_change": "1"})
    assert page.status_code == 200 and page.context["would_change"].outlook.nothing
    assert not Group.objects.filter(name="New").exists()
    assert page.context["form"]["name"].value() == "New"


def test_a_password_is_asked_for_again(owner: Client, reachable: dict[str, Any]) -> None:
    page = edit(
        owner, reachable["users"], password="a long password", password_again="a long password", would_change="1"
    )
    assert page.context["would_change"].again == ["Password", "Password again"]
    assert "a long password" not in page.content.decode()


def test_an_uploaded_certificate_is_carried_along(owner: Client, reachable: dict[str, Any]) -> None:
    minted = mint("CN=other", factories.server_ca())
    file = SimpleUploadedFile("node.cer", minted.der)
    page = edit(owner, reachable["registrations"], certificate_file=file, would_change="1")
    assert page.context["form"]["certificate"].value().strip() == minted.pem.strip()


def test_what_would_be_refused_is_told_in_place_of_it(owner: Client, reachable: dict[str, Any]) -> None:
    page = edit(owner, reachable["users"], name="no blanks please", would_change="1")
    assert page.status_code == 422 and page.context["would_change"] is None


def test_a_deletion_tells_what_it_takes_away(owner: Client, reachable: dict[str, Any]) -> None:
    row = Certificate.objects.get(name="alice")
    url = reverse("certificates-delete", args=[row.pk])
    assert "?would_change=1#outlook" in owner.get(url).content.decode()
    page = owner.get(f"{url}?would_change=1")
    assert {effect.callers.names for effect in page.context["would_change"].outlook.effects} == {("alice",)}
    assert Certificate.objects.filter(pk=row.pk).exists()


def test_the_upload_of_a_certificate_tells_what_it_opens(owner: Client, reachable: dict[str, Any]) -> None:
    minted = mint("CN=second", factories.partner_ca())
    given = {"pem": minted.pem, "name": "second", "user": reachable["users"].pk, "usage": "ssl_authentication"}
    page = owner.post(reverse("certificates-add"), given | {"would_change": "1"})
    assert [effect.callers.names for effect in page.context["would_change"].outlook.effects] == [("second",)]
    assert not Certificate.objects.filter(name="second").exists()


@pytest.mark.parametrize("kind", ["users", "certificates", "services", "apis"])
def test_the_queries_of_an_answer_do_not_grow(
    kind: str, owner: Client, reachable: dict[str, Any], django_assert_max_num_queries: Any
) -> None:
    url = reverse(f"{kind}-edit", args=[reachable[kind].pk])
    owner.get(url)
    for number in range(5):
        user = factories.UserFactory(groups=[reachable["groups"]], password="a long password")
        factories.CertificateFactory(user=user)
        factories.MappingRuleFactory(user=user, san=f"dns:{number}.example")
    owner.get(url)  # the world is compiled once for each revision
    with django_assert_max_num_queries(26):
        assert owner.get(url).status_code == 200
