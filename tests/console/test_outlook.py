"""Answers about access on pages: sections that tell, and the step that shows what would change before it is saved."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from gateway.access.changes import outlook
from gateway.models import ChangeSet
from gateway.topology.entries import KIND_OF
from identity.models import Certificate, Group, User
from tests import factories
from tests.console.conftest import opened
from tests.console.test_queries import grow
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
    assert "What this user can reach" in page
    assert "<code>/orders</code>" in page and "certificate of CN=Partner CA, O=Acme" in page


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
    assert "then refused: <code>acl_denied</code>" in page.content.decode()
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
    assert 'name="would_change"' in owner.get(url).content.decode()
    page = owner.post(url, {"would_change": "1"})
    assert page.status_code == 200
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


@pytest.mark.parametrize("word", ["block", "unmap"])
def test_a_step_without_a_form_is_looked_at_first(owner: Client, reachable: dict[str, Any], word: str) -> None:
    row = reachable["certificates"]
    page = owner.get(reverse("certificates-ahead", args=[row.pk, word]))
    found = page.context["would_change"].outlook
    assert {(each.before, str(each.after)) for each in found.identities} == {("alice", "certificate_unmapped")}
    assert any(not each.gained and each.callers.names == (row.name,) for each in found.effects)
    row.refresh_from_db()
    assert not row.blocked and row.user is not None, "it was only looked at"
    assert f'action="{reverse(f"certificates-{word}", args=[row.pk])}"' in page.content.decode()
    owner.post(reverse(f"certificates-{word}", args=[row.pk]))
    assert owner.get(reverse("certificates-ahead", args=[row.pk, word])).status_code == 404, "there is nothing to do"


def test_what_unblocking_lets_in_is_told(owner: Client, reachable: dict[str, Any]) -> None:
    row = reachable["users"]
    owner.post(reverse("users-block", args=[row.pk]))
    page = owner.get(reverse("users-edit", args=[row.pk])).content.decode()
    url = reverse("users-ahead", args=[row.pk, "unblock"])
    assert f'href="{url}"' in page
    (effect,) = owner.get(url).context["would_change"].outlook.effects
    assert (effect.gained, effect.callers.names) == (True, ("alice",))


def test_deleting_tells_who_loses_access(owner: Client, reachable: dict[str, Any]) -> None:
    row = reachable["certificates"]
    url = reverse("certificates-delete", args=[row.pk])
    page = owner.get(reverse("certificates-edit", args=[row.pk])).content.decode()
    assert f'formaction="{url}" name="would_change"' in page
    assert owner.post(url, {"would_change": "1"}).context["would_change"].outlook.effects
    assert Certificate.objects.filter(pk=row.pk).exists()


def test_a_pair_of_ports_is_looked_at_first(owner: Client, reachable: dict[str, Any]) -> None:
    form = owner.get(reverse("ports-pair")).context["form"]
    values = {
        field.html_name: field.value()
        for each in (form, form.external, form.registration)
        for field in each
        if field.value() not in (None, False)
    }
    server = factories.KeystoreFactory().pk
    values |= {"node": reachable["apis"].node.pk, "external-name": "second", "external-bind": "127.0.0.1:7443",
               "external-tls_keystore": server, "external-client_auth": "password", "registration-name": "second-reg",
               "registration-bind": "127.0.0.1:7444", "registration-tls_keystore": server,
               "registration-tls_truststore": factories.TruststoreFactory().pk}  # fmt: skip
    page = owner.post(reverse("ports-pair"), values | {"would_change": "1"})
    assert page.status_code == 200, page.context["form"].external.errors
    assert page.context["would_change"].outlook.nothing, "a new port shows nothing"
    assert owner.post(reverse("ports-pair"), values).status_code == 302


MOST = 50  # queries of one outlook; most of them are what nodes are told of anew, and what a model asks before
EDITS: dict[str, dict[str, Any]] = {
    "users": {"enabled": False},
    "certificates": {"blocked": True},
    "mapping_rules": {"enabled": False},
    "services": {"execute_acl": None},
    "ports": {"enabled": False},
    "registrations": {"enabled": False},
    "apis": {"execute_acl": None},
    "truststores": {"max_intermediates": 1},
}


def asked(world: dict[str, Any]) -> dict[str, int]:
    """Kind → the queries of an edit of its row; each is looked at once before, for what is kept from then on."""
    found = {}
    for kind, fields in EDITS.items():

        def edited(row: Any = world[kind], fields: dict[str, Any] = fields) -> None:
            another = type(row).objects.get(pk=row.pk)
            for name, value in fields.items():
                setattr(another, name, value)
            another.save()

        outlook(edited, "tests")
        with CaptureQueriesContext(connection) as queries:
            outlook(edited, "tests")
        found[kind] = len(queries)
    return found


@pytest.mark.timeout(180)
def test_an_outlook_asks_no_more_where_there_is_more(reachable: dict[str, Any]) -> None:
    grow(reachable, 2)
    few = asked(reachable)
    grow(reachable, 12)
    for number in range(3):
        node = factories.NodeFactory(name=f"more{number}", role="internal")
        registration = factories.RegistrationFactory(port=reachable["registrations"].port, node=node)
        factories.InternalPortFactory(registration=registration)
        factories.ServiceFactory(node=node)
    many = asked(reachable)
    assert {kind: found for kind, found in many.items() if found > MOST} == {}
    assert {kind: (few[kind], found) for kind, found in many.items() if found > few[kind]} == {}
