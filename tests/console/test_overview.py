"""The overview: what needs attention, told from rows and from what the nodes say, and never failing."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.attention import ends
from gateway.audit import current_revision
from gateway.relay import control
from gateway.relay.control import ControlError
from tests.console.refused import refused_request
from tests.factories import (
    CertificateFactory,
    ExternalPortFactory,
    InternalPortFactory,
    KeystoreFactory,
    NodeFactory,
    OperatorFactory,
    RegistrationFactory,
    RegistrationPortFactory,
    TruststoreFactory,
    UserFactory,
    partner_ca,
)
from tests.minting import authority, mint

pytestmark = pytest.mark.django_db
LASTING = (-1, 400)  # days: nothing that has this validity ends soon
Told = dict[str, Any]


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(OperatorFactory(role="viewer"))
    return client


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Told | Exception | Callable[[], Told]]:
    """What each node answers when it is asked for its state; one that is not in it does not run."""
    answers: dict[str, Any] = {}

    def call(state_dir: Any, node: str, message: dict[str, Any], *, timeout: float) -> Told:
        assert message == {"op": "state"}
        assert timeout < 5, "a page does not wait for long"
        if node not in answers:
            raise ControlError(f"Node {node} does not run here. Start it: manage.py relay --node {node}")
        answer = answers[node]
        return answer() if callable(answer) else answer

    monkeypatch.setattr(control, "call", call)
    return answers


def told(revision: int | None = None, **more: Any) -> Told:
    given = {"ports": [], "tunnels": [], "requests": 7, "in_flight": 0, "draining": False}
    return {"revision": current_revision() if revision is None else revision} | given | more


@pytest.fixture
def pair(nodes: dict[str, Any]) -> dict[str, Any]:
    """An edge and an internal node, both running, with one tunnel; and nothing that ends soon."""
    server = authority("CN=Server CA,O=Acme", days=LASTING)
    shown = KeystoreFactory(name="shown", minted=mint("CN=localhost", server, purpose="both", days=LASTING))
    servers = TruststoreFactory(name="servers", anchors=[server])
    clients = TruststoreFactory(name="partners", anchors=[authority("CN=Partner CA,O=Acme", days=LASTING)])
    reg = RegistrationPortFactory(name="reg", tls_keystore=shown, tls_truststore=servers)
    ext = ExternalPortFactory(name="ext", registration_port=reg, tls_keystore=shown, tls_truststore=clients)
    registration = RegistrationFactory(name="inside-at-reg", port=reg, minted=mint("CN=inside", server, days=LASTING))
    dial = InternalPortFactory(
        name="dial", registration=registration, tls_keystore=shown, tls_truststore=servers, client_truststore=clients
    )
    edge, inside = reg.node.name, registration.node.name
    listening = [{"name": name, "listening": True, "connections": 2} for name in ("ext", "reg")]
    tunnel = {"registration": "inside-at-reg", "idle": 2, "busy": 1, "last_seen": time.time()}
    nodes[edge] = told(ports=listening, tunnels=[tunnel | {"port": "reg"}])
    nodes[inside] = told(tunnels=[tunnel | {"port": "dial", "problem": ""}])
    return {"edge": edge, "inside": inside, "registration": registration, "ext": ext, "dial": dial}


def take_over(nodes: dict[str, Any]) -> None:
    """The nodes put in force what was configured meanwhile."""
    for name, known in nodes.items():
        nodes[name] = known | {"revision": current_revision()}


def concerns(client: Client) -> dict[str, str]:
    """What is the matter → how bad it is."""
    page = client.get(reverse("overview"))
    assert page.status_code == 200
    return {concern.text: concern.kind for concern in page.context["concerns"]}


class TestWhenAllIsWell:
    def test_nothing_needs_attention(self, viewer: Client, pair: dict[str, Any]) -> None:
        assert concerns(viewer) == {}
        assert "all is well" in viewer.get("/").content.decode()

    def test_ports_and_tunnels_are_told_as_the_nodes_see_them(self, viewer: Client, pair: dict[str, Any]) -> None:
        context = viewer.get("/").context
        assert {(state.port.name, state.status, state.connections) for state in context["ports"]} == {
            ("ext", "listening", 2), ("reg", "listening", 2), ("dial", "connected", 3),
        }  # fmt: skip
        (tunnel,) = context["tunnels"]
        assert (tunnel.status, tunnel.idle, tunnel.busy) == ("healthy", 2, 1)


class TestNodes:
    def test_one_that_does_not_answer_is_said_first(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        del nodes[pair["inside"]]
        found = concerns(viewer)
        assert found[f"Node {pair['inside']} does not answer"] == "bad"
        assert next(iter(found)) == f"Node {pair['inside']} does not answer"
        assert f"manage.py relay --node {pair['inside']}" in viewer.get("/").content.decode()

    def test_one_that_works_by_an_older_revision_is_told(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        nodes[pair["edge"]] = nodes[pair["edge"]] | {"revision": 1}
        words = f"Revision {current_revision()} is not in force on node {pair['edge']}"
        assert concerns(viewer)[words] == "warn"

    def test_all_are_asked_at_once(self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]) -> None:
        import threading

        together = threading.Barrier(2, timeout=30)

        def answer(known: Told) -> Callable[[], Told]:
            def wait() -> Told:
                together.wait()  # breaks unless the other is asked meanwhile
                return known

            return wait

        for name in (pair["edge"], pair["inside"]):
            nodes[name] = answer(nodes[name])
        assert concerns(viewer) == {}


class TestTunnels:
    def test_a_registration_without_one_is_down_and_the_dialler_says_why(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        nodes[pair["edge"]] = nodes[pair["edge"]] | {"tunnels": []}
        refused = {"registration": "inside-at-reg", "port": "dial", "idle": 0, "busy": 0, "last_seen": None,
                   "problem": "127.0.0.1:8444: Connection refused"}  # fmt: skip
        nodes[pair["inside"]] = nodes[pair["inside"]] | {"tunnels": [refused]}
        found = concerns(viewer)
        assert found[f"No tunnel from {pair['inside']} to port reg (inside-at-reg)"] == "bad"
        context = viewer.get("/").context
        assert context["tunnels"][0].problem == "127.0.0.1:8444: Connection refused"
        assert ("dial", "not connected") in {(state.port.name, state.status) for state in context["ports"]}

    def test_one_that_never_came_and_one_that_left_are_told_apart(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        edge = nodes[pair["edge"]] | {"tunnels": []}
        nodes[pair["edge"]] = edge
        (tunnel,) = viewer.get("/").context["tunnels"]
        assert (tunnel.status, tunnel.last_seen) == ("never connected", None)
        nodes[pair["edge"]] = edge | {"left": [{"registration": "inside-at-reg", "port": "reg", "last_seen": 1.0}]}
        (tunnel,) = viewer.get("/").context["tunnels"]
        assert tunnel.status == "down"
        assert tunnel.last_seen.timestamp() == 1.0

    def test_the_tunnels_of_all_its_processes_count(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        (row,) = nodes[pair["edge"]]["tunnels"]
        nodes[pair["edge"]] = nodes[pair["edge"]] | {"tunnels": [row | {"idle": 0}, row | {"idle": 3, "busy": 4}]}
        (tunnel,) = viewer.get("/").context["tunnels"]
        assert (tunnel.status, tunnel.idle, tunnel.busy) == ("healthy", 3, 5)

    def test_one_that_cannot_dial_again_is_degraded(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        (row,) = nodes[pair["inside"]]["tunnels"]
        nodes[pair["inside"]] = nodes[pair["inside"]] | {"tunnels": [row | {"problem": "Connection refused"}]}
        assert concerns(viewer)[f"The tunnel from {pair['inside']} to port reg is degraded"] == "warn"

    def test_one_whose_connections_are_all_busy_is_told(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        busy = [each | {"idle": 0, "busy": 3} for each in nodes[pair["edge"]]["tunnels"]]
        nodes[pair["edge"]] = nodes[pair["edge"]] | {"tunnels": busy}
        assert concerns(viewer)[f"Every tunnel from {pair['inside']} to port reg is busy"] == "warn"

    def test_an_edge_that_is_silent_leaves_it_unknown(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        del nodes[pair["edge"]]
        context = viewer.get("/").context
        assert context["tunnels"][0].status == "unknown"
        assert list(concerns(viewer)) == [f"Node {pair['edge']} does not answer"], "one cause is told once"


class TestRefusals:
    def test_the_last_hour_s_are_told_by_reason_with_their_trend(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        now = timezone.now()
        for minutes, reason, many in ((10, "acl_denied", 3), (70, "acl_denied", 1), (20, "not_found", 2)):
            for _ in range(many):
                refused_request(reason=reason, at=now - timedelta(minutes=minutes))
        page = viewer.get("/")
        found = [(each.reason, each.count, each.before, each.trend) for each in page.context["refused"]]
        assert found == [("acl_denied", 3, 1, "more"), ("not_found", 2, 0, "new")]
        text = page.content.decode()
        assert "more, 1 the hour before" in text
        assert "No service or API has this path." in text

    def test_each_reason_leads_to_its_requests(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        row = refused_request(reason="acl_denied")
        url = f"{reverse('refusals')}?reason=acl_denied&since=hour"
        assert url.replace("&", "&amp;") in viewer.get("/").content.decode()
        assert list(viewer.get(url).context["page"]) == [row]

    def test_a_code_of_a_newer_node_is_told_as_it_is(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        refused_request(reason="reason_of_tomorrow")
        assert "reason_of_tomorrow" in viewer.get("/").content.decode()


class TestTheLivePart:
    def test_is_the_page_s_own_and_is_not_sent_again_while_nothing_changes(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        first = viewer.get("/live/")
        page = viewer.get("/").content.decode()
        assert all(part.strip() in page for part in first.content.decode().split("<div data-part=")[2:3])
        again = viewer.get("/live/", headers={"if-none-match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        nodes[pair["edge"]] = nodes[pair["edge"]] | {"in_flight": 5}
        changed = viewer.get("/live/", headers={"if-none-match": first["ETag"]})
        assert changed.status_code == 200
        assert "5 in flight" in changed.content.decode()

    def test_page_and_part_take_few_queries(
        self, viewer: Client, pair: dict[str, Any], django_assert_max_num_queries: Any
    ) -> None:
        UserFactory(name="alice", password="some long password")
        for url in ("/", "/live/", "/?user=alice&path=/orders"):
            viewer.get(url)  # what is kept until the next change is read once
            with django_assert_max_num_queries(20):
                assert viewer.get(url).status_code == 200


@pytest.mark.parametrize(("count", "scrolling"), [(2, 0), (21, 2)])
def test_what_many_nodes_make_long_scrolls_by_itself(viewer: Client, count: int, scrolling: int) -> None:
    """The list of what needs attention and the table of nodes; none of them runs."""
    for _ in range(count):
        NodeFactory()
    page = viewer.get("/").content.decode()
    assert page.count('class="tall" tabindex="0" role="region"') == scrolling


def test_a_port_that_does_not_listen_is_told(viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]) -> None:
    nodes[pair["edge"]]["ports"][0]["listening"] = False
    assert concerns(viewer)["Port ext does not listen"] == "bad"


class TestWhatEnds:
    def test_certificates_keystores_and_authorities_within_thirty_days(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        alice = UserFactory(name="alice")
        made = {"soon": (-1, 6.5), "over": (-30, -3.5), "later": (-1, 31.5)}
        for name, days in made.items():
            CertificateFactory(name=name, minted=mint(f"CN={name}", partner_ca(), days=days), user=alice)
        KeystoreFactory(name="edge-server", minted=mint("CN=localhost", days=(-1, 20.5)))
        TruststoreFactory(name="old", anchors=[authority("CN=Old CA", days=(-1, 10.5))])
        take_over(nodes)
        assert concerns(viewer) == {
            "Certificate over, mapped to alice: ended 3 days ago": "bad",
            "Certificate soon, mapped to alice: ends in 6 days": "warn",
            "CN=Old CA in truststore old: ends in 10 days": "warn",
            "Keystore edge-server: ends in 20 days": "warn",
        }

    def test_what_logs_nobody_in_may_end_in_peace(
        self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
    ) -> None:
        over = mint("CN=over", partner_ca(), days=(-30, -3))
        CertificateFactory(name="over", minted=over, user=UserFactory(), blocked=True)
        take_over(nodes)
        assert concerns(viewer) == {}

    def test_many_are_counted_and_not_listed(self, viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]) -> None:
        for number in range(11):
            CertificateFactory(minted=mint(f"CN=c{number}", partner_ca(), days=(-1, 9)), user=UserFactory())
        take_over(nodes)
        found = concerns(viewer)
        assert len(found) == 9
        assert "3 more end within 30 days" in found


def test_certificates_that_are_mapped_to_nobody_are_told(
    viewer: Client, pair: dict[str, Any], nodes: dict[str, Any]
) -> None:
    for name in ("d", "c", "b", "a"):
        CertificateFactory(name=name, minted=mint(f"CN={name}", days=LASTING))
    CertificateFactory(name="mapped", user=UserFactory(), minted=mint("CN=mapped", days=LASTING))
    take_over(nodes)
    (words,) = concerns(viewer)
    assert words == "4 certificates are mapped to nobody: a, b, c, …"


class TestAnEmptyInstallation:
    def test_tells_what_to_do_first(self, viewer: Client) -> None:
        context = viewer.get("/").context
        labels = [label for label, _, done in context["steps"] if not done]
        assert labels[0] == "Add an edge node and an internal node"
        assert labels[-1].startswith("Test invoke")

    def test_every_step_leads_to_a_page(self, client: Client) -> None:
        client.force_login(OperatorFactory(role="owner"))
        for label, url, _ in client.get("/").context["steps"]:
            assert client.get(url).status_code == 200, label

    def test_what_is_done_is_marked(self, viewer: Client, pair: dict[str, Any]) -> None:
        done = {label: done for label, _, done in viewer.get("/").context["steps"]}
        assert done["Add the edge's pair of ports"]
        assert not done["Add a user"]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (6.5, "ends in 6 days"),
        (1.5, "ends in 1 day"),
        (0.5, "ends today"),
        (-0.5, "ended today"),
        (-3.5, "ended 3 days ago"),
    ],
)
def test_ends_are_told_in_days(days: float, expected: str) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert ends(now + timedelta(days=days), now) == expected
