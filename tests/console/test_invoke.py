"""The test invoke page: what it asks of a node, what it records, and how it tells the answer."""

import base64
import html
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.invocation import body_text
from gateway.models import Change, ChangeSet
from gateway.relay import frames
from gateway.relay.control import socket_path
from identity.models import ACL
from tests.factories import (
    ACLFactory,
    APIFactory,
    CertificateFactory,
    EndpointFactory,
    ExternalPortFactory,
    GroupFactory,
    InternalPortFactory,
    KeystoreFactory,
    NodeFactory,
    OperatorFactory,
    RegistrationFactory,
    RegularPortFactory,
    ServiceFactory,
    TruststoreFactory,
    UserFactory,
    partner_ca,
)
from tests.minting import mint

pytestmark = pytest.mark.django_db
URL = "/invoke/"
PASSWORD = "correct horse battery"


class FakeRelay:
    """A real socket where a node's would be; answers everything with `answer` and keeps what it was asked."""

    def __init__(self, state_dir: Path, node: str) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {}
        path = socket_path(state_dir, node)
        path.parent.mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                message = frames.receive(connection)
                if message is None:  # the word to stop
                    return
                self.asked.append(message)
                connection.sendall(frames.encode(self.answer))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(self._listener.getsockname())
        self._thread.join(5)
        self._listener.close()


@pytest.fixture
def state_dir(tmp_path: Path, settings: Any) -> Path:
    settings.POSTERN_STATE_DIR = tmp_path
    return tmp_path


@pytest.fixture
def relay(state_dir: Path) -> Iterator[Callable[[str], FakeRelay]]:
    started: list[FakeRelay] = []

    def start(node: str) -> FakeRelay:
        started.append(FakeRelay(state_dir, node))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(OperatorFactory(role="operator", username="olga"))
    return client


def lane(node: str, port: str, outcome: str, **more: Any) -> dict[str, Any]:
    given = {"reason": None, "user": None, "credential": "certificate", "route": "", "steps": []}
    return {"node": node, "port": port, "outcome": outcome} | given | more


def step(check: str, passed: bool, found: str, against: str = "") -> dict[str, Any]:
    return {"check": check, "passed": passed, "found": found, "against": against}


def answer(status: int = 200, body: bytes = b"{}", reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "status": status, "reason": reason, "headers": [["Content-Type", "application/json"]],
        "body": base64.b64encode(body).decode(), "body_size": len(body), "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "seconds": 0.0042, "lanes": [],
    } | more  # fmt: skip


def post(client: Client, port: str, button: str = "invoke", **more: Any) -> Any:
    given = {"port": port, "method": "GET", "path": "/orders", "credential": "none", "headers": "", "body": ""}
    return client.post(URL, given | more | {button: "1"})


def text(page: Any) -> str:
    return " ".join(html.unescape(page.content.decode()).split())


def identity(page: Any) -> list[str]:
    return [word.text for word in page.context["report"].identity]


class TestWhatIsAsked:
    def test_a_certificate_on_file_goes_without_its_key(self, operator: Client, relay: Any) -> None:
        port, minted = ExternalPortFactory(name="ext"), mint("CN=alice", partner_ca())
        row = CertificateFactory(name="alice", minted=minted)
        node = relay(port.node.name)
        node.answer = answer()
        page = post(
            operator, "ext", method="POST", path="/orders?x=1", credential="certificate", certificate=str(row.pk),
            headers="Accept: application/json\r\n\r\nX-Colour:  blue ", body='{"quantity": 3}',
        )  # fmt: skip
        assert page.status_code == 200
        (asked,) = node.asked
        assert (asked["op"], asked["port"], asked["method"], asked["target"]) == (
            "invoke", "ext", "POST", "/orders?x=1",
        )  # fmt: skip
        assert asked["headers"] == [["Accept", "application/json"], ["X-Colour", "blue"]]
        assert base64.b64decode(asked["body"]) == b'{"quantity": 3}'
        assert base64.b64decode(asked["certificate"]) == minted.der
        assert asked["chain"] == []
        assert (asked["username"], asked["password"]) == (None, None)

    def test_a_keystore_shows_its_certificate_with_its_intermediates(self, operator: Client, relay: Any) -> None:
        port, between = ExternalPortFactory(name="ext"), mint("CN=Issuing CA", partner_ca(), authority=True)
        leaf = mint("CN=api-gateway", between)
        node = relay(port.node.name)
        node.answer = answer()
        post(operator, "ext", credential="keystore", keystore=str(KeystoreFactory(minted=leaf).pk))
        (asked,) = node.asked
        assert base64.b64decode(asked["certificate"]) == leaf.der
        assert [base64.b64decode(link) for link in asked["chain"]] == [between.der]
        assert "PRIVATE KEY" not in json.dumps(asked)

    def test_a_password_is_sent_and_neither_shown_nor_recorded(self, operator: Client, relay: Any) -> None:
        node = relay(ExternalPortFactory(name="ext").node.name)
        node.answer = answer()
        page = post(operator, "ext", credential="password", username="batch", password=PASSWORD)
        assert (node.asked[0]["username"], node.asked[0]["password"]) == ("batch", PASSWORD)
        assert PASSWORD not in page.content.decode()
        assert page.context["form"]["username"].value() == "batch", "all else that was typed stays"
        assert PASSWORD not in json.dumps(list(Change.objects.values_list("after", flat=True)))

    def test_what_is_not_chosen_is_not_sent(self, operator: Client, relay: Any) -> None:
        node = relay(ExternalPortFactory(name="ext").node.name)
        node.answer = answer()
        row = CertificateFactory()
        post(operator, "ext", credential="none", certificate=str(row.pk), username="batch", password=PASSWORD)
        asked = node.asked[0]
        assert (asked["certificate"], asked["username"], asked["password"]) == (None, None, None)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("given", "field", "expected"),
        [
            pytest.param({"port": "http://10.0.0.1/"}, "port", "not one of the available", id="an-address"),
            pytest.param({"path": "//evil.example/x y"}, "path", "no blanks", id="a-blank-in-the-path"),
            pytest.param({"path": "http://evil.example/"}, "path", "begins with a slash", id="another-host"),
            pytest.param({"headers": "Accept: a\nnonsense"}, "headers", "Line 2", id="no-header"),
            pytest.param({"headers": "X: a\x0bY: b"}, "headers", "Line", id="a-control-character"),
            pytest.param({"headers": "Content-Length: 3"}, "headers", "leave it out", id="framing"),
            pytest.param({"credential": "certificate"}, "certificate", "Choose the certificate", id="none-chosen"),
            pytest.param({"credential": "keystore"}, "keystore", "Choose the keystore", id="no-keystore"),
            pytest.param({"credential": "password"}, "username", "user's name", id="no-user"),
            pytest.param({"method": "CONNECT"}, "method", "CONNECT", id="a-method-that-is-not-offered"),
        ],
    )
    def test_is_said_at_its_field_and_nothing_is_sent(
        self, operator: Client, relay: Any, given: dict[str, str], field: str, expected: str
    ) -> None:
        node = relay(ExternalPortFactory(name="ext").node.name)
        page = post(operator, given.pop("port", "ext"), **given)
        assert page.status_code == 422
        assert expected in " ".join(page.context["form"].errors[field])
        assert "Nothing was sent." in text(page)
        assert not node.asked
        assert not Change.objects.filter(action="tested").exists()

    def test_a_port_that_never_asks_cannot_be_shown_a_certificate(self, operator: Client) -> None:
        RegularPortFactory(name="plain")
        page = post(operator, "plain", credential="certificate", certificate=str(CertificateFactory().pk))
        assert "never asks for a certificate" in " ".join(page.context["form"].errors["credential"])

    def test_only_enabled_ports_that_clients_call_are_offered(self, operator: Client) -> None:
        ExternalPortFactory(name="ext")
        ExternalPortFactory(name="off", enabled=False)
        RegularPortFactory(name="plain")
        InternalPortFactory(name="dial")
        groups = operator.get(URL).context["form"].fields["port"].choices
        assert {name for _, ports in groups for name, _ in ports} == {"ext", "plain"}
        assert post(operator, "off").status_code == 422
        assert post(operator, "dial").status_code == 422

    def test_without_any_port_the_page_says_what_is_missing(self, operator: Client) -> None:
        assert "There is no port to send to yet" in text(operator.get(URL))

    def test_a_viewer_may_not(self, client: Client) -> None:
        client.force_login(OperatorFactory(role="viewer"))
        ExternalPortFactory(name="ext")
        assert client.get(URL).status_code == 403
        assert post(client, "ext").status_code == 403
        assert not Change.objects.filter(action="tested").exists()

    def test_paths_of_services_and_apis_are_offered(self, operator: Client) -> None:
        APIFactory(path="/gateway/orders")
        ServiceFactory(path="/orders")
        ExternalPortFactory(name="ext")
        page = operator.get(URL).content.decode()
        assert '<option value="/gateway/orders">' in page
        assert '<option value="/orders">' in page

    def test_a_link_prefills_and_sends_nothing(self, operator: Client, relay: Any) -> None:
        node = relay(ExternalPortFactory(name="ext").node.name)
        row = CertificateFactory(name="alice")
        page = operator.get(URL, {"port": "ext", "path": "/orders/7", "certificate": str(row.pk)})
        form = page.context["form"]
        shown = {name: form[name].value() for name in ("port", "path", "certificate", "credential")}
        assert shown == {"port": "ext", "path": "/orders/7", "certificate": str(row.pk), "credential": "certificate"}
        assert not node.asked


class TestWhenANodeDoesNotAnswer:
    def test_the_page_says_so_and_what_to_do(self, operator: Client, state_dir: Path) -> None:
        port = ExternalPortFactory(name="ext")
        page = post(operator, "ext", path="/orders?token=secret")
        assert page.status_code == 503
        assert f"manage.py relay --node {port.node}" in text(page)
        change = Change.objects.get(action="tested")
        assert "does not run here" in change.after["error"]
        assert "secret" not in json.dumps(change.after)

    def test_what_the_node_refuses_is_shown_in_its_words(self, operator: Client, relay: Any) -> None:
        node = relay(ExternalPortFactory(name="ext").node.name)
        node.answer = {"error": "Node edge has no external or regular port 'ext' in force."}
        page = post(operator, "ext")
        assert page.status_code == 503
        assert "in force." in text(page)


def test_each_run_is_recorded_as_a_test_and_makes_no_revision(operator: Client, relay: Any) -> None:
    node = relay(ExternalPortFactory(name="ext").node.name)
    row = CertificateFactory(name="alice")
    before = ChangeSet.objects.filter(configures=True).count()
    node.answer = answer(lanes=[lane("edge", "ext", "pass"), lane("inside", "dial", "execute", user="alice")])
    post(operator, "ext", credential="certificate", certificate=str(row.pk), path="/orders?x=1", body="a secret body",
         headers="X-Token: very secret")  # fmt: skip
    change = Change.objects.select_related("change_set").get(action="tested")
    assert change.change_set.actor == "olga"
    assert not change.change_set.configures
    assert ChangeSet.objects.filter(configures=True).count() == before
    assert change.after | {"trace_id": ""} == {
        "simulated": False, "port": "ext", "node": node.asked and change.after["node"], "method": "GET",
        "path": "/orders", "credential": "certificate", "certificate": "alice", "headers": ["X-Token"], "status": 200,
        "reason": None, "users": {"edge": None, "inside": "alice"}, "trace_id": "",
    }  # fmt: skip


class TestTheReport:
    @pytest.fixture
    def place(self) -> dict[str, Any]:
        """An edge with an API whose endpoint shows a keystore's certificate to a service inside."""
        registration = RegistrationFactory(name="inside-at-reg")
        port = ExternalPortFactory(name="ext", registration_port=registration.port)
        dial = InternalPortFactory(name="dial", registration=registration)
        store = KeystoreFactory(name="edge-client", minted=mint("CN=api-gateway,O=Acme", partner_ca()))
        acl = ACLFactory(name="OrdersWrite", allowed=[GroupFactory(name="Clerks")])
        endpoint = EndpointFactory(
            name="orders", url=f"reverse://{registration.port}/orders", identity="certificate", keystore=store
        )
        return {
            "port": port,
            "dial": dial,
            "registration": registration,
            "acl": acl,
            "service": ServiceFactory(name="orders:write", node=registration.node, execute_acl=acl),
            "api": APIFactory(name="orders", node=port.node, endpoint=endpoint),
            "endpoint": endpoint,
            "alice": UserFactory(name="alice"),
            "gateway": UserFactory(name="api_gateway"),
            "certificate": CertificateFactory(name="alice", minted=mint("CN=alice,O=Partner One", partner_ca())),
        }

    @pytest.fixture
    def run(self, operator: Client, relay: Any, place: dict[str, Any]) -> Callable[..., Any]:
        node = relay(place["port"].node.name)

        def run(given: dict[str, Any], **more: Any) -> Any:
            node.answer = given
            return post(
                operator, "ext", **{"credential": "certificate", "certificate": str(place["certificate"].pk)} | more
            )

        return run

    def test_one_line_tells_whom_each_node_took_the_caller_for(self, run: Any, place: dict[str, Any]) -> None:
        page = run(answer(lanes=[
            lane("edge", "ext", "call", user="alice", route="API orders"),
            lane("inside", "dial", "execute", user="api_gateway", route="service orders:write"),
        ]))  # fmt: skip
        assert identity(page) == [
            "CN=alice, O=Partner One", "edge →", "alice", "endpoint shows", "CN=api-gateway, O=Acme",
            "inside →", "api_gateway",
        ]  # fmt: skip
        lanes = page.context["report"].lanes
        assert lanes[1].tunnel == (
            f"Tunnel {place['registration'].port} → inside: endpoint orders shows the certificate of keystore "
            "edge-client, signed with its key."
        )
        assert page.context["report"].refusal is None

    def test_a_request_that_is_passed_through_keeps_its_own_certificate(self, run: Any) -> None:
        page = run(answer(lanes=[
            lane("edge", "ext", "pass", route="passed through"),
            lane("inside", "dial", "execute", user="alice", route="service orders:write"),
        ]))  # fmt: skip
        assert identity(page) == ["CN=alice, O=Partner One", "edge →", "hands it on,", "inside →", "alice"]
        assert "passed through with the caller's own certificate" in text(page)

    def test_a_refusal_names_node_check_and_reason_and_where_to_change_it(
        self, run: Any, place: dict[str, Any]
    ) -> None:
        refused = step("ACL", False, "user alice in Everybody", "ACL OrdersWrite allows Clerks; denies none")
        page = run(answer(403, reason="acl_denied", lanes=[
            lane("edge", "ext", "pass", route="passed through"),
            lane("inside", "dial", "refuse", reason="acl_denied", user="alice", route="service orders:write",
                 steps=[step("path", True, "/orders"), refused]),
        ]))  # fmt: skip
        shown = text(page)
        assert "inside refused at the check “ACL”." in shown
        assert "User alice in Everybody: ACL OrdersWrite allows Clerks; denies none." in shown
        assert "Add one of the user's groups to the ACL" in shown
        assert "403 acl_denied" in shown
        links = dict(page.context["report"].refusal.changes)
        assert links["Open ACL OrdersWrite"] == reverse("acls-edit", args=[place["acl"].pk])
        assert links["Open user alice"] == reverse("users-edit", args=[place["alice"].pk])

    def test_a_service_without_an_acl_stands_under_the_predefined_one(self, run: Any, place: dict[str, Any]) -> None:
        ServiceFactory(name="free", node=place["registration"].node)
        page = run(answer(401, reason="authentication_required", lanes=[
            lane("inside", "dial", "refuse", reason="authentication_required", user="Default", route="service free",
                 credential="none", steps=[step("ACL", False, "user Default")]),
        ]))  # fmt: skip
        default = ACL.objects.get(name="Default")
        assert ("Open ACL Default", reverse("acls-edit", args=[default.pk])) in page.context["report"].refusal.changes

    def test_the_inner_reason_is_told_where_the_caller_is_told_another(self, run: Any, place: dict[str, Any]) -> None:
        inner = step("mapping", False, "certificate …77c2", "not mapped on file")
        page = run(answer(502, reason="endpoint_refused", lanes=[
            lane("edge", "ext", "refuse", reason="endpoint_refused", user="alice", route="API orders",
                 steps=[step("execution", False, "endpoint_refused", "endpoint orders: certificate_unmapped")]),
            lane("inside", "dial", "refuse", reason="certificate_unmapped", route="service orders:write",
                 steps=[inner]),
        ]))  # fmt: skip
        refusal = page.context["report"].refusal
        assert refusal.headline == "inside refused at the check “mapping”"
        assert "The caller is told 502 endpoint_refused." in html.unescape(text(page)).replace("<code>", "").replace(
            "</code>", ""
        )
        labels = [label for label, _ in refusal.changes]
        assert "Open endpoint orders" in labels
        assert "Open certificate alice" not in labels, "it was not the caller's certificate that was refused"

    def test_what_fails_after_it_was_admitted_is_no_refusal(self, run: Any, place: dict[str, Any]) -> None:
        failed = step("execution", False, "backend_unreachable", "127.0.0.1:9543: Connection refused")
        page = run(answer(502, reason="backend_unreachable", lanes=[
            lane("inside", "dial", "refuse", reason="backend_unreachable", user="alice", route="service orders:write",
                 steps=[step("ACL", True, "user alice"), failed]),
        ]))  # fmt: skip
        refusal = page.context["report"].refusal
        assert refusal.headline == "inside admitted it and could not finish: The service cannot be reached"
        assert refusal.against == "127.0.0.1:9543: Connection refused"
        assert ("Open service orders:write", reverse("services-edit", args=[place["service"].pk])) in refusal.changes

    def test_an_unmapped_certificate_leads_to_its_page(self, run: Any, place: dict[str, Any]) -> None:
        page = run(answer(403, reason="certificate_unmapped", lanes=[
            lane("edge", "ext", "pass", route="passed through"),
            lane("inside", "dial", "refuse", reason="certificate_unmapped", route="service orders:write",
                 steps=[step("mapping", False, "certificate …", "not mapped on file")]),
        ]))  # fmt: skip
        assert page.context["report"].refusal.changes == [
            ("Open certificate alice", reverse("certificates-edit", args=[place["certificate"].pk]))
        ]

    @pytest.mark.parametrize(
        ("reason", "status", "label"),
        [
            ("service_not_on_port", 403, "Open port ext"),
            ("certificate_untrusted", 403, "Open port ext"),
            ("no_internal_connection", 503, "Open registration inside-at-reg"),
            ("not_found", 404, "Services"),
            ("mapping_ambiguous", 403, "Open the mapping rules"),
            ("user_disabled", 403, "Open user alice"),
        ],
    )
    def test_each_kind_of_refusal_leads_somewhere(self, run: Any, reason: str, status: int, label: str) -> None:
        page = run(answer(status, reason=reason, lanes=[lane("edge", "ext", "refuse", reason=reason, user="alice")]))
        assert label in [each for each, _ in page.context["report"].refusal.changes]

    def test_a_refusal_without_a_lane_is_told_all_the_same(self, run: Any) -> None:
        page = run(answer(400, reason="request_malformed"))
        assert "The request is malformed." in text(page)
        assert "No check was reached." in text(page)

    def test_the_answer_is_escaped_and_json_is_indented(self, run: Any) -> None:
        page = run(answer(body=b'{"note":"<script>alert(1)</script>"}'))
        assert "<script>alert" not in page.content.decode()
        assert page.context["body"] == '{\n  "note": "<script>alert(1)</script>"\n}'

    def test_what_has_gone_meanwhile_breaks_nothing(self, run: Any) -> None:
        page = run(answer(403, reason="acl_denied", lanes=[
            lane("gone", "gone", "refuse", reason="acl_denied", user="gone", route="service gone",
                 steps=[step("ACL", False, "user gone")]),
        ]))  # fmt: skip
        assert page.status_code == 200
        assert page.context["report"].refusal.changes == []


@pytest.mark.parametrize(
    ("raw", "size", "expected"),
    [
        pytest.param(b'{"a":1}', 7, '{\n  "a": 1\n}', id="json"),
        pytest.param("grün".encode(), 5, "grün", id="text"),
        pytest.param(b"\x89PNG\xff", 5, None, id="no-text"),
        pytest.param("grün".encode()[:3], 5, "gr", id="cut-in-the-middle-of-a-character"),
        pytest.param(b"", 0, "", id="nothing"),
    ],
)
def test_bodies_are_shown_to_be_read(raw: bytes, size: int, expected: str | None) -> None:
    assert body_text({"body": base64.b64encode(raw).decode(), "body_size": size}) == expected


class TestSimulate:
    @pytest.fixture
    def place(self, state_dir: Path) -> dict[str, Any]:
        """A regular port with TLS and a service behind an ACL; no node runs."""
        clerks = GroupFactory(name="Clerks")
        alice = UserFactory(name="alice", groups=[clerks])
        node = NodeFactory(name="inside", role="internal")
        RegularPortFactory(
            name="https", node=node, client_auth="request", tls_keystore=KeystoreFactory(),
            tls_truststore=TruststoreFactory(name="partners"), service_access={"default": "allow"},
        )  # fmt: skip
        ServiceFactory(name="orders", node=node, path="/orders", execute_acl=ACLFactory(name="Write", allowed=[clerks]))
        return {
            "alice": CertificateFactory(name="alice", minted=mint("CN=alice", partner_ca()), user=alice),
            "stranger": CertificateFactory(name="stranger", minted=mint("CN=stranger", partner_ca())),
        }

    def test_decides_with_no_node_running_and_sends_nothing(self, operator: Client, place: dict[str, Any]) -> None:
        page = post(operator, "https", "simulate", credential="certificate", certificate=str(place["alice"].pk))
        assert page.status_code == 200
        assert "Simulated: nothing was sent" in text(page)
        assert identity(page) == ["CN=alice", "inside →", "alice"]
        assert Change.objects.get(action="tested").after["simulated"] is True

    def test_tells_at_which_check_it_would_end(self, operator: Client, place: dict[str, Any]) -> None:
        page = post(operator, "https", "simulate", credential="certificate", certificate=str(place["stranger"].pk))
        assert page.context["report"].reason == "certificate_unmapped"
        assert page.context["report"].refusal.headline == "inside refused at the check “mapping”"
        anonymous = post(operator, "https", "simulate")
        assert anonymous.context["report"].reason == "authentication_required"
