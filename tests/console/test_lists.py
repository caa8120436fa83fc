"""Lists: search, order, filters, pages; and a number of queries that does not grow with the rows."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from gateway.topology.entries import SECTIONS
from tests import factories


def shown(answer: Any) -> list[str]:
    """The first cell of each row."""
    return [row[0][1][0].text for row in answer.context["table"]]


def test_names_come_in_order(owner: Client) -> None:
    for name in ("zoe", "alice", "mia"):
        factories.UserFactory(name=name)
    assert shown(owner.get("/users/")) == ["Default", "alice", "mia", "zoe"]
    assert shown(owner.get("/users/?sort=-name")) == ["zoe", "mia", "alice", "Default"]


def test_an_order_that_is_none_is_left_alone(owner: Client) -> None:
    assert owner.get("/users/?sort=password_hash").status_code == 200
    assert owner.get("/users/?sort=groups__acl&page=-4&show=x").status_code == 200


def test_search_looks_into_names_and_descriptions(owner: Client) -> None:
    factories.UserFactory(name="alice", description="Orders of Partner One")
    factories.UserFactory(name="bob")
    assert shown(owner.get("/users/?q=partner+one")) == ["alice"]
    page = owner.get("/users/?q=nothing+like+it").content.decode()
    assert "None of 3 matches." in page


def test_filters_leave_what_they_say(owner: Client) -> None:
    factories.UserFactory(name="gone", enabled=False)
    assert shown(owner.get("/users/?show=disabled")) == ["gone"]


def test_fifty_make_a_page(owner: Client) -> None:
    for number in range(60):
        factories.GroupFactory(name=f"g{number:02}")
    first = owner.get("/groups/?q=g")
    assert len(shown(first)) == 50
    assert 'rel="next" href="?q=g&amp;page=2"' in first.content.decode()
    assert shown(owner.get("/groups/?q=g&page=2"))[-1] == "g59"


@pytest.mark.parametrize("kind", sorted(SECTIONS))
def test_the_queries_of_a_list_do_not_grow(
    kind: str, owner: Client, world: dict[str, Model], django_assert_max_num_queries: Any
) -> None:
    make = {
        "nodes": factories.NodeFactory,
        "groups": factories.GroupFactory,
        "users": lambda: factories.UserFactory(groups=[world["groups"]]),
        "acls": lambda: factories.ACLFactory(allowed=[world["groups"]]),
        "truststores": factories.TruststoreFactory,
        "keystores": factories.KeystoreFactory,
        "certificates": lambda: factories.CertificateFactory(user=world["users"]),
        "mapping_rules": factories.MappingRuleFactory,
        "services": lambda: factories.ServiceFactory(execute_acl=world["acls"]),
        "ports": factories.InternalPortFactory,
        "registrations": factories.RegistrationFactory,
        "endpoints": factories.EndpointFactory,
        "apis": factories.APIFactory,
    }[kind]
    for _ in range(4):
        make()
    # Session, operator, counts of the navigation, revision; count, keys and rows; two that are fetched along.
    with django_assert_max_num_queries(10):
        assert owner.get(reverse(f"{kind}-list")).status_code == 200


def test_the_navigation_counts(owner: Client, world: dict[str, Model]) -> None:
    links = [link for group in owner.get("/users/").context["navigation"] for link in group["links"]]
    counts = {link["label"]: link["count"] for link in links}
    assert counts["Users"] == 2
    assert counts["Ports"] == 2
    assert [link["label"] for link in links if link["current"]] == ["Users"]


@pytest.mark.parametrize(
    ("role", "offered"), [("viewer", set()), ("operator", {"Test invoke"}), ("owner", {"Test invoke", "Operators"})]
)
def test_the_navigation_offers_what_the_role_may_open(role: str, offered: set[str], as_role: Any) -> None:
    links = [link["label"] for group in as_role(role).get("/").context["navigation"] for link in group["links"]]
    assert {"Test invoke", "Operators"} & set(links) == offered
