"""Operators of every role, each with a client that is logged in; and one object of every kind."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client

from console.models import Operator, Role
from gateway.audit import change_set
from gateway.topology.entries import KIND_OF
from tests import factories

PASSWORD = "a password of some words"


@pytest.fixture
def as_role(db: None) -> Callable[[str], Client]:
    """`as_role("viewer")`: a client in which an operator of that role is logged in."""

    def log_in(role: str) -> Client:
        client = Client()
        client.force_login(Operator.objects.create_operator(f"olivia-{role}", PASSWORD, Role(role)))
        return client

    return log_in


@pytest.fixture
def owner(as_role: Callable[[str], Client]) -> Client:
    return as_role("owner")


@pytest.fixture
def world(db: None) -> dict[str, Model]:
    """Kind → one object of it, all of them connected where they can be."""
    return one_of_each()


def opened(world: dict[str, Any]) -> dict[str, Any]:
    """The world's service, reached through its edge by alice's certificate."""
    port = world["ports"]
    port.service_access = {"default": "allow"}
    with change_set("tests", "shown"):
        port.save()
    factories.InternalPortFactory(name="dial", registration=world["registrations"], service_access={"default": "allow"})
    return world


def one_of_each() -> dict[str, Model]:
    partners = factories.GroupFactory(name="Partners")
    alice = factories.UserFactory(name="alice", groups=[partners])
    acl = factories.ACLFactory(name="PartnerApi", allowed=[partners])
    external = factories.ExternalPortFactory(name="ext", registration_port__name="reg")
    registration = factories.RegistrationFactory(name="inside-at-reg", port=external.registration_port)
    endpoint = factories.EndpointFactory(name="orders", url="reverse://reg/orders")
    rows: list[Any] = [
        registration.node,
        partners,
        alice,
        acl,
        factories.TruststoreFactory(name="partners"),
        factories.KeystoreFactory(name="edge-server"),
        factories.CertificateFactory(name="alice", user=alice),
        factories.MappingRuleFactory(name="by-dns", user=alice),
        factories.ServiceFactory(name="orders:whoami", node=registration.node, path="/orders", execute_acl=acl),
        external,
        registration,
        endpoint,
        factories.APIFactory(name="orders", node=external.node, endpoint=endpoint, execute_acl=acl),
    ]
    return {KIND_OF[type(row)]: row for row in rows}
