"""Nodes, ports, services, APIs, endpoints, registrations: what a row refuses, whoever writes it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext

from gateway.audit import change_set
from gateway.models import Dial, Port
from tests import minting
from tests.factories import (
    ACLFactory,
    APIFactory,
    Configured,
    EndpointFactory,
    ExternalPortFactory,
    GroupFactory,
    InternalPortFactory,
    KeystoreFactory,
    NodeFactory,
    RegistrationFactory,
    RegistrationPortFactory,
    RegularPortFactory,
    ServiceFactory,
    TruststoreFactory,
    server_ca,
)
from tests.refusals import refused, refused_by_the_database

pytestmark = pytest.mark.django_db

KINDS: dict[str, type[Configured]] = {
    "external": ExternalPortFactory,
    "registration": RegistrationPortFactory,
    "internal": InternalPortFactory,
    "regular": RegularPortFactory,
}


# --- ports ---


@pytest.mark.parametrize(
    ("kind", "changes", "field", "said"),
    [
        ("external", {"registration_port": None}, "registration_port", "needs its registration port"),
        ("regular", {"bind": ""}, "__all__", "all others need one"),
        ("internal", {"bind": "127.0.0.1:9"}, "__all__", "has no address to listen at"),
        ("registration", {"tls_keystore": None}, "tls_keystore", "a keystore is needed"),
        ("registration", {"tls_truststore": None}, "tls_truststore", "name the truststore"),
        ("internal", {"tls_keystore": None}, "tls_keystore", "a keystore is needed"),
        ("registration", {"client_auth": "request"}, "client_auth", "requires certificates"),
        ("internal", {"client_truststore": None}, "client_truststore", "name the truststore"),
        ("external", {"tls_truststore": None}, "tls_truststore", "name the truststore"),
        ("regular", {"client_auth": "request"}, "client_auth", "Only a port with TLS"),
        ("external", {"tls_server_name": "localhost"}, "tls_server_name", "Only an internal port dials"),
        ("regular", {"authenticate": True}, "authenticate", "Only an external port"),
        ("regular", {"type": "external"}, "type", "needs a node that is edge"),
        ("regular", {"type": "outer"}, "type", "is not a valid choice"),
        ("external", {"client_auth": "maybe"}, "client_auth", "is not a valid choice"),
        ("regular", {"bind": "8080"}, "bind", "needs a port number"),
        ("regular", {"bind": "gateway.example:8080"}, "bind", "listen at an IP address"),
        ("regular", {"bind": "127.0.0.1:0"}, "bind", "needs a port number"),
        ("regular", {"bind": "::1:80"}, "bind", "needs brackets"),
        ("external", {"wait": -1.0}, "wait", "greater than or equal to 0"),
        ("external", {"wait": 301.0}, "wait", "less than or equal to 300"),
        ("internal", {"connections_min": 0}, "connections_min", "greater than or equal to 1"),
        ("internal", {"connections_min": 9, "connections_max": 8}, "__all__", "min and spare cannot exceed max"),
        ("internal", {"connections_spare": 65}, "__all__", "min and spare cannot exceed max"),
        ("regular", {"service_access": {"default": "maybe"}}, "service_access", "default is allow or deny"),
        ("regular", {"service_access": {"allow": "x"}}, "service_access", "allow is a list of texts"),
        ("regular", {"service_access": {"only": []}}, "service_access", "nothing else"),
        ("regular", {"service_access": {"allow": ["/a/../b"]}}, "service_access", "not a path in normal form"),
        ("regular", {"service_access": {"allow": ["nothing"]}}, "service_access", "no service or API 'nothing'"),
        ("regular", {"service_access": {"allow": ["a b"]}}, "service_access", "neither a path"),
        ("regular", {"service_access": {"allow": ["/a"], "deny": ["/a"]}}, "service_access", "allowed and denied"),
        ("regular", {"ip_access": {"deny": ["10.0.0.1/8"]}}, "ip_access", "is no network"),
        ("regular", {"trusted_proxies": ["localhost"]}, "trusted_proxies", "is no network"),
        ("regular", {"trusted_proxies": "10.0.0.0/8"}, "trusted_proxies", "Give a list of networks"),
        ("regular", {"limits": {"speed": 1}}, "limits", "is no limit"),
        ("regular", {"limits": {"requests": 0}}, "limits", "must be at least 1"),
        ("regular", {"limits": [1]}, "limits", "is no limit"),
    ],
)
def test_a_port_refuses(kind: str, changes: dict[str, Any], field: str, said: str) -> None:
    assert said in " ".join(refused(KINDS[kind](), **changes)[field])


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("external", {"registration_port": None}),
        ("regular", {"bind": ""}),
        ("internal", {"bind": "127.0.0.1:9"}),
        ("regular", {"type": "outer"}),
        ("regular", {"client_auth": "maybe"}),
        ("regular", {"client_auth": "require"}),
        ("internal", {"connections_min": 65}),
        ("internal", {"connections_spare": 65}),
    ],
)
def test_the_database_refuses_it_too(kind: str, changes: dict[str, Any]) -> None:
    refused_by_the_database(KINDS[kind](), **changes)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("127.0.0.1:8443", "127.0.0.1:8443", False),
        ("127.0.0.1:8443", "0.0.0.0:8443", False),
        ("0.0.0.0:8443", "127.0.0.1:8443", False),
        ("127.0.0.1:8443", "[::]:8443", False),
        ("127.0.0.1:8443", "127.0.0.1:8444", True),
        ("127.0.0.1:8443", "127.0.0.2:8443", True),
    ],
)
def test_two_ports_of_a_node_share_no_address(one: str, other: str, together: bool) -> None:
    first = RegularPortFactory(bind=one)
    if together:
        assert RegularPortFactory(node=first.node, bind=other).bind == other
    else:
        with pytest.raises(ValidationError, match="two ports cannot share an address"):
            RegularPortFactory(node=first.node, bind=other)
    assert RegularPortFactory(bind=one).node != first.node, "another node may be another machine"


def test_the_database_refuses_two_ports_on_one_address() -> None:
    first = RegularPortFactory(bind="127.0.0.1:8443")
    refused_by_the_database(RegularPortFactory(node=first.node), bind="127.0.0.1:8443")


def test_an_external_ports_pair_is_a_registration_port_of_its_node() -> None:
    port = ExternalPortFactory()
    assert "take one of the same node" in str(refused(port, registration_port=RegistrationPortFactory()))
    other = RegularPortFactory(node=port.node)
    assert "a registration port is needed" in str(refused(port, registration_port=other))


@pytest.mark.parametrize(
    ("client_auth", "accept_basic", "accepts"),
    [("password", None, True), ("request", None, True), ("require", None, False), ("require", True, True),
     ("request", False, False)],
)  # fmt: skip
def test_whether_a_port_takes_passwords(client_auth: str, accept_basic: bool | None, accepts: bool) -> None:
    assert Port(client_auth=client_auth, accept_basic=accept_basic).accepts_basic is accepts


def test_new_ports_deny_and_let_every_address_in() -> None:
    port = RegularPortFactory()
    assert port.service_access == {"default": "deny", "allow": [], "deny": []}
    assert port.ip_access == {"default": "allow", "allow": [], "deny": []}


def test_two_ports_do_not_share_their_lists() -> None:
    one, other = Port(), Port()
    one.service_access["allow"].append("/x")
    assert other.service_access["allow"] == []


def test_which_ports_listen() -> None:
    RegularPortFactory(name="off", enabled=False)
    RegularPortFactory(name="on")
    InternalPortFactory(name="dials")
    assert "on" in (names := {port.name for port in Port.objects.listening()})
    assert not names & {"off", "dials"}


def test_an_internal_port_dials_as_a_registration_of_its_node() -> None:
    port, other = InternalPortFactory(), RegistrationFactory()
    for changes, said in (
        ({"registration": other}, f"{other} is of node {other.node}"),
        ({"address": "gateway"}, "needs a port number"),
        ({"port": RegularPortFactory(node=port.node)}, "Only an internal port dials"),
    ):
        with pytest.raises(ValidationError, match=said), change_set("tests", "dial"):
            Dial(**{"port": port, "address": "127.0.0.1:1", "registration": port.connect.get().registration} | changes
                 ).save()  # fmt: skip


# --- registrations ---


def test_a_registration_is_of_an_internal_node_at_a_registration_port() -> None:
    row = RegistrationFactory()
    assert "only an internal node dials in" in str(refused(row, node=NodeFactory()))
    assert "a registration port is needed" in str(refused(row, port=RegularPortFactory()))
    assert "normal form" in str(refused(row, paths=["orders"]))


def test_a_certificate_registers_once_at_a_port() -> None:
    minted = minting.mint("CN=inside", server_ca())
    row = RegistrationFactory(minted=minted)
    with pytest.raises(ValidationError, match="each needs its own"):
        RegistrationFactory(port=row.port, minted=minted)
    assert RegistrationFactory(minted=minted).port != row.port
    other = RegistrationFactory(port=row.port)
    refused_by_the_database(other, sha256=row.sha256)


# --- services and APIs ---


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"backend": "http://127.0.0.1:9"}, "__all__", "exactly one of the two"),
        ({"builtin": ""}, "__all__", "exactly one of the two"),
        ({"builtin": "shell"}, "builtin", "is not a valid choice"),
        ({"builtin": "", "backend": "ftp://x"}, "backend", ""),
        ({"path": "orders"}, "path", "not in normal form"),
        ({"path": "/orders/"}, "path", "not in normal form"),
        ({"path": "/a//b"}, "path", "not in normal form"),
        ({"path": "/%2e%2e/b"}, "path", "not in normal form"),
        ({"path": "/.well-known/reverse-http"}, "path", "where internal nodes register"),
        ({"methods": ["FETCH"]}, "methods", "Give a list of"),
        ({"methods": ["GET", "GET"]}, "methods", "Each may be named once"),
        ({"methods": "GET"}, "methods", "Give a list of"),
        ({"identity_headers": ["cookie"]}, "identity_headers", "Give a list of"),
        ({"timeout": 0.0}, "timeout", "greater than or equal to 0.1"),
        ({"timeout": 3601.0}, "timeout", "less than or equal to 3600"),
        ({"trailers": "x"}, "trailers", "Give a list of field names"),
    ],
)
def test_a_service_refuses(changes: dict[str, Any], field: str, said: str) -> None:
    assert said in " ".join(refused(ServiceFactory(), **changes)[field])


def test_a_path_is_served_once_on_a_node() -> None:
    service, api = ServiceFactory(path="/orders"), APIFactory(path="/orders")
    assert "Another service of this node" in str(refused(ServiceFactory(node=service.node), path="/orders"))
    assert "Another API of this node" in str(refused(APIFactory(node=api.node), path="/orders"))
    refused_by_the_database(ServiceFactory(node=service.node), path="/orders")
    refused_by_the_database(ServiceFactory(), backend="http://127.0.0.1:9")


def test_an_api_stands_where_its_endpoint_is_reached() -> None:
    port = RegistrationPortFactory()
    endpoint = EndpointFactory(url=f"reverse://{port}/orders")
    assert APIFactory(node=port.node, endpoint=endpoint).endpoint == endpoint
    assert "goes through" in str(refused(APIFactory(), endpoint=endpoint))
    assert "an API stands on an edge" in str(refused(APIFactory(), node=NodeFactory(role="internal")))


# --- endpoints ---


@pytest.mark.parametrize(
    ("url", "changes", "field", "said"),
    [
        ("ftp://x", {}, "url", ""),
        ("https://", {}, "url", ""),
        ("reverse://nowhere/x", {}, "url", "There is no registration port 'nowhere'"),
        ("reverse://plain/x", {}, "url", "is a port of type regular"),
        ("https://x:1", {"identity": "caller"}, "identity", "Use reverse://"),
        ("https://x:1", {"identity": "certificate"}, "keystore", "needs a keystore"),
        ("https://x:1", {"identity": "basic"}, "username", "needs a username and a password"),
        ("https://x:1", {"identity": "basic", "username": "a:b"}, "username", "cannot hold a colon"),
        ("https://x:1", {"username": "batch"}, "username", "would have no effect"),
        ("https://x:1", {"timeout": 0.05}, "timeout", "greater than or equal to 0.1"),
        ("reverse://reg", {"forward_authorization": True}, "forward_authorization", "Only https endpoints have it"),
    ],
)
def test_an_endpoint_refuses(url: str, changes: dict[str, Any], field: str, said: str) -> None:
    RegistrationPortFactory(name="reg")
    RegularPortFactory(name="plain")
    assert said in " ".join(refused(EndpointFactory(), url=url, **changes)[field])


@pytest.mark.parametrize("identity", ["", "caller", "basic", "anonymous"])
def test_a_keystore_that_would_show_nothing_is_refused(identity: str) -> None:
    RegistrationPortFactory(name="reg")
    found = refused(EndpointFactory(), url="reverse://reg", identity=identity, keystore=KeystoreFactory())
    assert "would have no effect" in " ".join(found["keystore"])


def test_a_truststore_at_a_tunnel_is_refused() -> None:
    RegistrationPortFactory(name="reg")
    assert "truststore" in refused(EndpointFactory(), url="reverse://reg", truststore=TruststoreFactory())


@pytest.mark.parametrize(
    ("url", "keystore", "identity"),
    [("https://x:1", False, "anonymous"), ("https://x:1", True, "certificate"), ("reverse://reg", False, "caller")],
)
def test_the_identity_where_none_is_given(url: str, keystore: bool, identity: str) -> None:
    RegistrationPortFactory(name="reg")
    endpoint = EndpointFactory(url=url, keystore=KeystoreFactory() if keystore else None)
    assert endpoint.effective_identity == identity


def test_the_database_knows_what_an_identity_needs() -> None:
    for changes in ({"identity": "certificate"}, {"identity": "basic"}, {"identity": "root"}):
        refused_by_the_database(EndpointFactory(), **changes)


# --- deleting what is named ---


def named() -> dict[str, Callable[[], tuple[Any, Any]]]:
    """What is named, and what names it."""

    def by(factory: type[Configured], field: str, **kwargs: Any) -> Callable[[], tuple[Any, Any]]:
        def make() -> tuple[Any, Any]:
            row = factory(**{name: value() for name, value in kwargs.items()})
            return getattr(row, field), row

        return make

    return {
        "node-by-port": by(RegularPortFactory, "node"),
        "node-by-service": by(ServiceFactory, "node"),
        "node-by-api": by(APIFactory, "node"),
        "node-by-registration": by(RegistrationFactory, "node"),
        "keystore-by-port": by(RegistrationPortFactory, "tls_keystore"),
        "truststore-by-port": by(RegistrationPortFactory, "tls_truststore"),
        "client-truststore-by-port": by(InternalPortFactory, "client_truststore"),
        "port-by-external-port": by(ExternalPortFactory, "registration_port"),
        "port-by-registration": by(RegistrationFactory, "port"),
        "acl-by-service": by(ServiceFactory, "execute_acl", execute_acl=ACLFactory),
        "acl-by-api": by(APIFactory, "execute_acl", execute_acl=ACLFactory),
        "endpoint-by-api": by(APIFactory, "endpoint"),
        "keystore-by-endpoint": by(EndpointFactory, "keystore", keystore=KeystoreFactory),
        "truststore-by-endpoint": by(EndpointFactory, "truststore", truststore=TruststoreFactory),
    }


@pytest.mark.parametrize("case", named())
def test_what_is_named_is_not_deleted(case: str) -> None:
    target, user = named()[case]()
    with pytest.raises(ProtectedError) as error, change_set("tests", "gone"):
        target.delete()
    assert user in error.value.protected_objects


def test_what_is_named_by_text_is_not_deleted_either() -> None:
    service, api = ServiceFactory(name="orders"), APIFactory(name="orders-api")
    port = RegularPortFactory(service_access={"default": "deny", "allow": ["orders"], "deny": ["orders-api"]})
    reg = RegistrationPortFactory(name="reg")
    endpoint = EndpointFactory(url="reverse://reg")
    for target, user in ((service, port), (api, port), (reg, endpoint)):
        with pytest.raises(ProtectedError) as error, change_set("tests", "gone"):
            target.delete()
        assert user in error.value.protected_objects


def test_a_registration_that_somebody_dials_as_is_not_deleted() -> None:
    port = InternalPortFactory()
    with pytest.raises(ProtectedError), change_set("tests", "gone"):
        port.connect.get().registration.delete()


def test_a_group_that_a_registration_may_assert_is_not_deleted() -> None:
    registration, group = RegistrationFactory(), GroupFactory()
    with change_set("tests", "a limit"):
        registration.may_assert_groups.add(group)
    with pytest.raises(ProtectedError), change_set("tests", "gone"):
        group.delete()


def test_all_checks_of_a_row_are_one_query(db: None) -> None:
    """Another is for the address, which is unique under a condition."""
    port = ExternalPortFactory()
    with CaptureQueriesContext(connection) as queries:
        port.full_clean()
    checks = [each["sql"] for each in queries if '"_check"' in each["sql"]]
    assert len(checks) == 2, checks


def test_a_check_of_what_a_form_leaves_out_stands_in_no_other_ones_way(db: None) -> None:
    port = InternalPortFactory()
    port.connections_spare = 65
    with pytest.raises(ValidationError, match="min and spare cannot exceed max"):
        port.validate_constraints(exclude={"client_auth"})
