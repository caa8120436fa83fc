"""Block now: one click on whatever can be blocked; who did it and when; and for which ports alone something is."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.blocking import SWITCHES, is_blocked
from gateway.audit import change_set
from gateway.models import Change, Port
from gateway.topology.consistency import Inconsistent
from gateway.topology.entries import KIND_OF
from identity.models import Certificate, MappingRule, User
from tests.factories import MappingRuleFactory, RegularPortFactory, UserFactory, partner_ca
from tests.minting import mint

pytestmark = pytest.mark.django_db
KINDS = [KIND_OF[model] for model in SWITCHES]


def edit(kind: str, row: Any) -> str:
    return reverse(f"{kind}-edit", args=[row.pk])


@pytest.mark.parametrize("kind", KINDS)
def test_one_click_blocks_and_another_unblocks(owner: Client, world: dict[str, Any], kind: str) -> None:
    row = world[kind]
    before = owner.get(edit(kind, row)).content.decode()
    assert f"Block {row}" in before and "within two seconds" in before
    page = owner.post(reverse(f"{kind}-block", args=[row.pk]), follow=True)
    row.refresh_from_db()
    assert is_blocked(row)
    shown = page.content.decode()
    assert "is blocked." in shown, "it is said"
    made = Change.objects.filter(kind=kind, object_id=str(row.pk)).latest("id").change_set
    assert f"revision {made.pk}" in shown and f"By {made.actor}," in shown, "who, and where to see it"
    owner.post(reverse(f"{kind}-unblock", args=[row.pk]))
    row.refresh_from_db()
    assert not is_blocked(row)


@pytest.mark.parametrize("kind", KINDS)
def test_who_blocked_is_told_after_other_changes_too(owner: Client, world: dict[str, Any], kind: str) -> None:
    row = world[kind]
    owner.post(reverse(f"{kind}-block", args=[row.pk]))
    made = Change.objects.filter(kind=kind).latest("id").change_set
    row.refresh_from_db()
    with change_set("somebody else", "renamed"):
        row.name = "renamed"
        row.save()
    assert f"revision {made.pk}" in owner.get(edit(kind, row)).content.decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["block", "unblock"])
def test_it_takes_the_permission_and_a_click(
    as_role: Callable[[str], Client], world: dict[str, Any], kind: str, word: str
) -> None:
    url = reverse(f"{kind}-{word}", args=[world[kind].pk])
    viewer = as_role("viewer")
    assert viewer.post(url).status_code == 403
    assert viewer.get(url).status_code == 405, "no link and no prefetching blocks anybody"
    assert "Block now…" not in viewer.get(edit(kind, world[kind])).content.decode()


def test_default_cannot_be_blocked(owner: Client) -> None:
    default = User.objects.get(name="Default")
    assert "Block now" not in owner.get(edit("users", default)).content.decode()
    page = owner.post(reverse("users-block", args=[default.pk]), follow=True)
    assert "cannot be disabled" in page.content.decode()
    default.refresh_from_db()
    assert default.enabled


def test_a_certificate_that_is_not_on_file_is_put_there_blocked(owner: Client) -> None:
    minted = mint("CN=lost,O=Partner", partner_ca())
    preview = owner.post(reverse("certificates-add"), {"certificate": minted.pem})
    assert "Block this certificate" in preview.content.decode()
    owner.post(reverse("certificates-block-pem"), {"pem": minted.pem})
    row = Certificate.objects.get(sha256=minted.certificate.sha256)
    assert (row.name, row.blocked, row.user) == ("lost", True, None)
    owner.post(reverse("certificates-unblock", args=[row.pk]))
    owner.post(reverse("certificates-block-pem"), {"pem": minted.pem})
    row.refresh_from_db()
    assert row.blocked, "one that is on file is blocked where it is"
    assert Certificate.objects.count() == 1


def test_what_is_no_certificate_blocks_nothing(owner: Client) -> None:
    page = owner.post(reverse("certificates-block-pem"), {"pem": "no certificate"}, follow=True)
    assert "damaged on the way" in page.content.decode()
    assert not Certificate.objects.exists()


# --- ports ---


@pytest.fixture
def alice(world: dict[str, Any], owner: Client) -> User:
    """For port `ext` alone, as said in the form."""
    row: User = world["users"]
    page = owner.post(edit("users", row), {"name": "alice", "enabled": "on", "ports": ["ext"]})
    assert page.status_code == 302
    row.refresh_from_db()
    assert row.ports == ["ext"]
    return row


def test_a_port_that_something_is_limited_to_is_not_deleted(owner: Client, world: dict[str, Any], alice: User) -> None:
    page = owner.get(reverse("ports-delete", args=[world["ports"].pk])).content.decode()
    assert "user alice" in page and "cannot be deleted" in page
    assert owner.post(reverse("ports-delete", args=[world["ports"].pk])).status_code == 409


def test_a_port_that_is_renamed_is_followed(owner: Client, world: dict[str, Any], alice: User) -> None:
    rule = MappingRuleFactory(ports=["ext"], user=alice)
    form = owner.get(edit("ports", world["ports"])).context["form"]
    data = {name: value for name, value in form.initial.items() if value not in (None, False)}
    data |= {"name": "outside", "service_access_default": "deny", "ip_access_default": "allow"}
    page = owner.post(edit("ports", world["ports"]), data)
    assert page.status_code == 302, page.context["form"].errors
    alice.refresh_from_db()
    rule.refresh_from_db()
    assert alice.ports == rule.ports == ["outside"]


def test_no_way_of_writing_leaves_a_port_that_is_not_there() -> None:
    RegularPortFactory(name="here")
    user = UserFactory(ports=["here"])
    for write in (_name_another, _delete, _rename):
        with pytest.raises(Inconsistent, match=r"There is no port (nowhere|here)"), change_set("tests", "x"):
            write()
    user.refresh_from_db()
    assert user.ports == ["here"] and not MappingRule.objects.exists()


def _name_another() -> None:
    MappingRuleFactory(ports=["nowhere"])


def _delete() -> None:
    Port.objects.get(name="here").delete()


def _rename() -> None:
    port = Port.objects.get(name="here")
    port.name = "there"
    port.save()
