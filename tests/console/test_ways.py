"""The way that a caller takes through the topology, as the overview lights it: computed by the decision."""

from typing import Any

import pytest
from django.test import Client

from gateway.relay import control
from gateway.relay.control import ControlError
from tests import factories
from tests.factories import partner_ca, server_ca
from tests.minting import mint


@pytest.fixture
def standing() -> list[str]:
    """Registrations whose tunnel stands."""
    return ["inside-at-reg"]


@pytest.fixture
def topology(db: None, standing: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`ext` and `reg` on an edge; behind them service orders, which group Partners may execute."""

    def call(state_dir: Any, node: str, message: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        if not node.startswith("edge"):
            raise ControlError("not asked here")
        rows = [{"registration": name, "port": "reg", "idle": 1, "busy": 0, "last_seen": 1.0} for name in standing]
        ports = [{"name": name, "listening": True, "connections": 0} for name in ("ext", "reg")]
        return {"revision": 0, "in_flight": 0, "requests": 0, "ports": ports, "tunnels": rows}

    monkeypatch.setattr(control, "call", call)
    partners = factories.GroupFactory(name="Partners")
    alice = factories.UserFactory(name="alice", groups=[partners])
    factories.UserFactory(name="bob", password="a long password")
    acl = factories.ACLFactory(name="Orders", allowed=[partners])
    servers = factories.TruststoreFactory(name="servers", anchors=[server_ca()])
    clients = factories.TruststoreFactory(name="partners", anchors=[partner_ca()])
    external = factories.ExternalPortFactory(
        name="ext", registration_port__name="reg", tls_truststore=clients,
        service_access={"default": "allow", "allow": [], "deny": ["/hidden"]},
    )  # fmt: skip
    registration = factories.RegistrationFactory(name="inside-at-reg", port=external.registration_port)
    factories.InternalPortFactory(
        name="dial", registration=registration, tls_truststore=servers, client_truststore=clients,
        client_auth="request", service_access={"default": "allow", "allow": [], "deny": []},
    )  # fmt: skip
    factories.ServiceFactory(
        name="orders", node=registration.node, path="/orders", execute_acl=acl, builtin="",
        backend="http://erp.corp:8080/x",
    )  # fmt: skip
    minted = mint("CN=alice,O=Partner One", partner_ca())
    factories.CertificateFactory(name="alice-2026", minted=minted, user=alice)
    return {"edge": external.node.name, "inside": registration.node.name, "sha256": minted.certificate.sha256}


def asked(client: Client, **query: str) -> Any:
    answer = client.get("/", {"way": "1", **query})
    assert answer.status_code == 200
    return answer.context


def lit(context: Any) -> set[str]:
    return {box.key for box in context["drawing"].boxes if box.lit}


def stops(context: Any) -> dict[str, str]:
    return {box.key: box.stops for box in context["drawing"].boxes if box.stops}


def test_a_certificate_lights_the_way_to_the_backend(owner: Client, topology: dict[str, Any]) -> None:
    context = asked(owner, certificate="alice-2026", path="/orders")
    assert lit(context) == {
        "caller ext", "port ext", "port reg", "tunnel inside-at-reg", "backend erp.corp:8080",
        f"node {topology['edge']}", f"node {topology['inside']}",
    }  # fmt: skip
    (told,) = context["ways"].told
    assert (told.label, told.user, told.reason) == ("service orders", "alice", "")
    assert stops(context) == {}


@pytest.mark.parametrize("spelling", ["{}", "upper", "colons", "O=Partner One"])
def test_a_certificate_is_found_however_it_is_written(spelling: str, owner: Client, topology: dict[str, Any]) -> None:
    sha256 = topology["sha256"]
    colons = ":".join(sha256[i : i + 2] for i in range(0, 64, 2)).upper()
    text = {"{}": sha256, "upper": sha256.upper(), "colons": colons}.get(spelling, spelling)
    assert asked(owner, certificate=text)["asked"].certificate.name == "alice-2026"


def test_a_user_goes_by_his_certificate_and_without_one_by_his_password(
    owner: Client, topology: dict[str, Any]
) -> None:
    assert asked(owner, user="alice", path="/orders")["ways"].reached == 1
    context = asked(owner, user="bob", path="/orders")
    (told,) = context["ways"].told
    assert told.reason == "acl_denied"
    assert told.where == f"{topology['inside']}, port dial"
    assert list(stops(context).values()) == ["acl_denied"]


def test_without_a_credential_it_is_said_where_it_stops(owner: Client, topology: dict[str, Any]) -> None:
    context = asked(owner, path="/hidden")
    assert stops(context) == {"port ext": "service_not_on_port"}
    assert "port ext" in lit(context) and "tunnel inside-at-reg" not in lit(context)


def test_a_tunnel_that_is_down_stops_what_the_decision_would_let_through(
    owner: Client, topology: dict[str, Any], standing: list[str]
) -> None:
    standing.clear()
    context = asked(owner, certificate="alice-2026", path="/orders")
    assert stops(context) == {"tunnel inside-at-reg": "no_internal_connection"}
    assert context["ways"].reached == 0


def test_every_place_is_asked_for_where_no_path_is_given(owner: Client, topology: dict[str, Any]) -> None:
    ways = asked(owner, certificate="alice-2026")["ways"]
    assert (ways.reached, ways.count) == (1, 1)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"certificate": "nobody"}, "No certificate on file has"),
        ({"certificate": "Partner"}, "Several certificates match"),
        ({"user": "nobody"}, "There is no user"),
        ({"user": "carol"}, "no valid certificate on file and no password"),
        ({"user": "bob", "certificate": "alice-2026"}, "A caller shows one of the two"),
        ({"path": "orders"}, "Begin with a slash"),
        ({"port": "reg"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_asked_is_told_at_its_field(
    query: dict[str, str], words: str, owner: Client, topology: dict[str, Any]
) -> None:
    factories.UserFactory(name="carol")
    factories.CertificateFactory(name="other", minted=mint("CN=other,O=Partner Two", partner_ca()))
    answer = owner.get("/", {"way": "1", **query})
    assert words in answer.content.decode()
    assert answer.context["ways"] is None
