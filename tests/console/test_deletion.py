"""Deleting: asked first, refused with links while something refers to the object."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from gateway.audit import change_set
from gateway.models import Change, ChangeSet
from identity.models import ACL, Group, User
from tests import factories

# Kind → the object of `world` that refers to it, as its page is called.
REFERRED = {
    "nodes": "service orders:whoami",
    "users": "certificate alice",
    "groups": "ACL PartnerApi",
    "acls": "service orders:whoami",
    "endpoints": "API orders",
}
FREE = ["certificates", "mapping_rules", "apis", "services", "registrations"]


@pytest.mark.parametrize(("kind", "referrer"), REFERRED.items(), ids=REFERRED)
def test_it_is_refused_while_something_refers_to_it(
    owner: Client, world: dict[str, Model], kind: str, referrer: str
) -> None:
    row = world[kind]
    url = reverse(f"{kind}-delete", args=[row.pk])
    before = ChangeSet.objects.count()
    asked, sent = owner.get(url), owner.post(url)
    assert (asked.status_code, sent.status_code) == (200, 409)
    for answer in (asked, sent):
        page = answer.content.decode()
        assert f">{referrer}</a>" in page
        assert '<button class="button danger"' not in page
    assert type(row)._default_manager.filter(pk=row.pk).exists()
    assert ChangeSet.objects.count() == before


@pytest.mark.parametrize("kind", FREE)
def test_what_nothing_refers_to_is_deleted_and_kept_in_the_log(owner: Client, world: dict[str, Any], kind: str) -> None:
    row = world[kind]
    url = reverse(f"{kind}-delete", args=[row.pk])
    assert "Nothing refers to it." in owner.get(url).content.decode()
    answer = owner.post(url, follow=True)
    assert f"{row.name} is deleted." in answer.content.decode()
    assert not type(row)._default_manager.filter(pk=row.pk).exists()
    change = Change.objects.filter(kind=kind, name=row.name).latest("id")
    assert (change.action, change.after) == ("removed", None)
    assert change.before["name"] == row.name


@pytest.mark.parametrize(
    ("model", "name"), [(User, "Default"), (Group, "Everybody"), (ACL, "Anonymous")], ids=["user", "group", "acl"]
)
def test_what_is_predefined_stays(owner: Client, model: Any, name: str) -> None:
    row = model.objects.get(name=name)
    kind = {User: "users", Group: "groups", ACL: "acls"}[model]
    answer = owner.post(reverse(f"{kind}-delete", args=[row.pk]))
    assert answer.status_code == 409
    assert "is predefined and cannot be deleted" in answer.content.decode()
    assert model.objects.filter(name=name).exists()
    assert "Delete…" not in owner.get(reverse(f"{kind}-edit", args=[row.pk])).content.decode()


def test_a_service_on_a_ports_list_is_referred_to(owner: Client, world: dict[str, Any]) -> None:
    port, service = world["ports"], world["services"]
    port.service_access = {"default": "deny", "allow": [service.name], "deny": []}
    with change_set("tests", "a list"):
        port.save()
    answer = owner.post(reverse("services-delete", args=[service.pk]))
    assert answer.status_code == 409
    assert ">port ext</a>" in answer.content.decode()


def test_of_many_that_refer_the_first_are_named(owner: Client) -> None:
    group = factories.GroupFactory(name="Partners")
    for number in range(15):
        factories.UserFactory(name=f"u{number:02}", groups=[group])
    page = owner.get(reverse("groups-delete", args=[group.pk])).content.decode()
    assert ">user u11</a>" in page
    assert ">user u12</a>" not in page
    assert "and 3 more: Users" in page


def test_the_page_of_an_object_tells_the_same(owner: Client, world: dict[str, Any]) -> None:
    page = owner.get(reverse("acls-edit", args=[world["acls"].pk])).content.decode()
    assert ">service orders:whoami</a>" in page
    assert ">API orders</a>" in page
