"""Choosing one of many: from a list where they are few, by typing the name where they are not."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from console.forms.choosing import LISTED, PROPOSED
from identity.models import Certificate, User
from tests import factories


@pytest.fixture
def crowd(world: dict[str, Model]) -> dict[str, Any]:
    """The world, with too many users for a list."""
    User.objects.bulk_create([User(name=f"partner-{number:03}") for number in range(LISTED + 10)])
    return world


def form_of(page: Any) -> dict[str, Any]:
    fields = page.context["form"]
    values = {field.html_name: field.value() for field in fields if field.value() not in (None, False)}
    return {name: value for name, value in values.items() if value != []}


def test_few_are_listed(owner: Client, world: dict[str, Any]) -> None:
    page = owner.get(reverse("certificates-edit", args=[world["certificates"].pk])).content.decode()
    assert f'<option value="{world["users"].pk}" selected>alice</option>' in page
    assert "<datalist" not in page


def test_many_are_typed_and_no_page_carries_all_of_them(owner: Client, crowd: dict[str, Any]) -> None:
    row = crowd["certificates"]
    page = owner.get(reverse("certificates-edit", args=[row.pk])).content.decode()
    assert 'list="id_user_names"' in page and 'data-choices="users"' in page and 'value="alice"' in page
    assert page.count("<option value=") < PROPOSED + 10


def test_a_name_that_is_typed_is_taken_and_an_empty_field_is_nobody(owner: Client, crowd: dict[str, Any]) -> None:
    row = crowd["certificates"]
    url = reverse("certificates-edit", args=[row.pk])
    given = form_of(owner.get(url))
    assert given["user"] == "alice"
    assert owner.post(url, given | {"user": "  partner-007 "}).status_code == 302
    assert Certificate.objects.get(pk=row.pk).user == User.objects.get(name="partner-007")
    assert owner.post(url, given | {"user": ""}).status_code == 302
    assert Certificate.objects.get(pk=row.pk).user is None


def test_a_name_that_is_none_is_answered_with_those_that_are_like_it(owner: Client, crowd: dict[str, Any]) -> None:
    url = reverse("certificates-edit", args=[crowd["certificates"].pk])
    given = form_of(owner.get(url))
    page = owner.post(url, given | {"user": "ner-04"})
    assert page.status_code == 422
    (words,) = page.context["form"].errors["user"]
    assert words.startswith("There is no user ner-04 to choose. Like it: partner-040, partner-041,")
    assert 'value="ner-04"' in page.content.decode(), "what was typed is there to be mended"
    assert "Search for it" in str(owner.post(url, given | {"user": "zzz"}).context["form"].errors["user"])


def test_what_may_not_be_chosen_is_not_found_by_name_either(owner: Client, crowd: dict[str, Any]) -> None:
    url = reverse("certificates-edit", args=[crowd["certificates"].pk])
    page = owner.post(url, form_of(owner.get(url)) | {"user": "Default"})
    assert page.status_code == 422 and "There is no user Default to choose" in str(page.context["form"].errors)


def test_a_name_that_is_another_s_key_chooses_neither(owner: Client, crowd: dict[str, Any]) -> None:
    bob = factories.UserFactory(name=str(crowd["users"].pk))
    url = reverse("certificates-edit", args=[crowd["certificates"].pk])
    page = owner.post(url, form_of(owner.get(url)) | {"user": bob.name})
    assert "is the name of one and the key of another" in str(page.context["form"].errors["user"])


def test_a_link_with_a_key_fills_in_the_name(owner: Client, crowd: dict[str, Any]) -> None:
    for _ in range(LISTED + 1):
        factories.CertificateFactory()
    page = owner.get(reverse("invoke"), {"certificate": crowd["certificates"].pk}).content.decode()
    assert 'data-choices="certificates"' in page and 'value="alice"' in page


def test_names_are_proposed_to_the_script_the_fitting_ones_first(owner: Client, crowd: dict[str, Any]) -> None:
    factories.UserFactory(name="a-partner-04")
    url = reverse("choices", args=["users"])
    assert owner.get(url, {"q": "partner-04"}).json()["names"][:2] == ["partner-040", "partner-041"]
    assert owner.get(url, {"q": "partner-04"}).json()["names"][-1] == "a-partner-04"
    assert len(owner.get(url).json()["names"]) == PROPOSED
    assert owner.get(reverse("choices", args=["operators"])).status_code == 404
