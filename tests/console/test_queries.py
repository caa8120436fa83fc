"""What every page asks of the database: never more than twenty queries, however many rows there are."""

from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from console.nouns import url_of
from gateway.models import Port, Registration
from identity.models import Certificate, User
from tests import factories
from tests.console.test_access import address, names, operator_of
from tests.minting import mint

AT_MOST = 20


def grow(world: dict[str, Any], count: int) -> None:
    """More of what there may be many of, all of it connected with what is there."""
    for _ in range(count):
        group = factories.GroupFactory()
        user = factories.UserFactory(groups=[group, world["groups"]], password="")
        factories.CertificateFactory(user=user)
        acl = factories.ACLFactory(allowed=[group, world["groups"]])
        factories.ServiceFactory(node=world["services"].node, execute_acl=acl)
        factories.MappingRuleFactory(user=user, san="", subject={"O": [user.name]})
        endpoint = factories.EndpointFactory(url="reverse://reg/orders")
        factories.APIFactory(node=world["apis"].node, endpoint=endpoint, execute_acl=acl)
        factories.KeystoreFactory(minted=mint(f"CN={user.name}", factories.server_ca()))


def steps(world: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """The steps that are looked at before they are taken, besides those that `address` picks."""
    return [
        ("certificates", world["certificates"], "unmap"),
        ("certificates", Certificate.objects.filter(blocked=True)[0], "unblock"),
        ("users", User.objects.filter(enabled=False)[0], "unblock"),
        ("registrations", Registration.objects.filter(enabled=False)[0], "unblock"),
    ]


def asked(client: Client, world: dict[str, Model]) -> dict[str, list[str]]:
    """Page → its queries; each is asked for once before, for what is kept from one request to the next."""
    found = {}
    urls = {name: address(name, world, operator_of(client)) for name in names()}
    urls |= {f"ports-edit {row.type}": url_of(row) or "" for row in Port.objects.all()}
    urls |= {f"{kind}-ahead {word}": reverse(f"{kind}-ahead", args=[row.pk, word]) for kind, row, word in steps(world)}
    for name, url in urls.items():
        client.get(url)
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(url)
        assert answer.status_code == 200, f"{url}: {answer.status_code}"
        found[name] = [query["sql"] for query in queries]
    return found


@pytest.mark.timeout(180)
def test_no_page_asks_more_than_twenty_queries_or_more_where_there_are_more_rows(
    owner: Client, world: dict[str, Any]
) -> None:
    factories.InternalPortFactory(name="dial", registration=world["registrations"])
    off = factories.UserFactory(groups=[world["groups"]], enabled=False)
    factories.CertificateFactory(user=off, blocked=True)
    closed = factories.RegistrationFactory(port=world["registrations"].port, enabled=False)
    factories.InternalPortFactory(registration=closed)
    grow(world, 9)  # more than the overview names: then it counts the others, by one query more
    for name in names():  # makes what the pages are about: a list that is empty asks for less
        address(name, world, operator_of(owner))
    few = asked(owner, world)
    grow(world, 9)
    many = asked(owner, world)
    assert {name: len(found) for name, found in many.items() if len(found) > AT_MOST} == {}
    assert {name: (len(few[name]), len(found)) for name, found in many.items() if len(found) > len(few[name])} == {}
