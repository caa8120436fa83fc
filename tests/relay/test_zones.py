"""The forum's case on three machines with a firewall between them: nothing is ever opened from the DMZ inwards."""

import base64
import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.relay import zones as network
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend
from tests.relay.remote import RemoteInstallation
from tests.relay.zones import ZONES, Zones

pytestmark = pytest.mark.timeout(240)  # several processes are started, one after the other

MACHINES = {"edge": "dmz", "inside": "inner", "console": "office"}
EXT, REG, HTTPS, LINKS = 8443, 9443, 8445, 9444


class Apart(RemoteInstallation):
    """Each machine in its zone; clients outside, but those of the internal node, who are beside it."""

    zones: Zones
    backend: Backend  # beside the internal node, on its machine's own 127.0.0.1

    def within(self, machine: str) -> list[str]:
        return self.zones.within(MACHINES[machine])

    @contextlib.contextmanager
    def connection(self, port: str, who: str | None = None) -> Iterator[ssl.SSLSocket]:
        zone = "inner" if port == "https" else "outside"
        with self.zones.connect(zone, self.address(port), 10) as plain:
            plain.settimeout(30)
            with self.context(who).wrap_socket(plain, server_hostname="localhost") as sock:
                yield sock


def topology(backend: int) -> dict[str, Any]:
    """The forum's, at the zones' addresses, with all of its APIs."""
    made = forum_topology(backend)
    submit = next(e for e in made["endpoints"] if e["name"] == "certificate") | {
        "name": "submit", "url": "reverse://reg/submit"
    }  # fmt: skip
    made["endpoints"].append(submit)
    made["apis"] += [
        {"name": "submit", "node": "edge", "path": "/gateway/submit", "endpoint": "submit"},
        {"name": "opened", "node": "edge", "path": "/gateway/opened", "endpoint": "certificate",
         "execute_acl": "Anonymous"},
    ]  # fmt: skip
    ports = {port["name"]: port for port in made["ports"]}
    ports["ext"]["bind"] = f"{ZONES['dmz']}:{EXT}"
    ports["reg"]["bind"] = ports["dial"]["connect"][0]["address"] = f"{ZONES['dmz']}:{REG}"
    ports["https"]["bind"] = f"{ZONES['inner']}:{HTTPS}"
    direct = next(endpoint for endpoint in made["endpoints"] if endpoint["name"] == "direct")
    direct |= {"url": f"https://{ZONES['inner']}:{HTTPS}/orders", "timeout": "2s"}
    return made


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    if reason := network.why_not():
        pytest.skip(f"three machines with a firewall between them were NOT tried: {reason}")
    zones = Zones([("outside", "dmz", EXT), ("inner", "dmz", REG), ("office", "dmz", REG), ("inner", "office", LINKS)])
    Apart.zones = zones
    backend = Backend(zones.listen("inner"))
    Apart.backend = backend
    installation = Apart(
        tmp_path_factory.mktemp("zones"), forum_pki(), topology(backend.port), links=f"{ZONES['office']}:{LINKS}"
    )
    try:
        yield installation.enrol_and_run("edge", "inside")
    finally:
        installation.close()
        backend.close()
        zones.close()


@pytest.mark.parametrize(
    ("port", "target", "who", "basic", "status", "outcome"),
    [
        pytest.param("https", "/orders", "alice", None, 200, "alice", id="the-node-called-directly"),
        pytest.param("ext", "/gateway/certificate", "alice", None, 200, "api_gateway", id="as-the-endpoint"),
        pytest.param("ext", "/gateway/certificate", None, None, 401, "authentication_required", id="nobody-borrows"),
        pytest.param("ext", "/gateway/certificate", "stranger", None, 403, "certificate_unmapped", id="nor-a-stranger"),
        pytest.param("ext", "/gateway/basic", "alice", None, 200, "batch", id="a-stored-password"),
        pytest.param("ext", "/gateway/caller", "alice", None, 200, "alice", id="the-callers-own-handed-on"),
        pytest.param("ext", "/gateway/opened", None, None, 200, "api_gateway", id="opened-on-purpose"),
        pytest.param("ext", "/gateway/anonymous", "alice", None, 502, "endpoint_refused", id="no-identity"),
        pytest.param(
            "ext",
            "/gateway/anonymous",
            "alice",
            "batch:correct horse battery",
            502,
            "endpoint_refused",
            id="a-password-sent-along-decides-nothing",
        ),
        pytest.param("ext", "/orders", "alice", None, 200, "alice", id="passed-through"),
        pytest.param("ext", "/orders", None, None, 401, "authentication_required", id="with-nothing"),
        pytest.param("ext", "/orders", "stranger", None, 403, "certificate_unmapped", id="mapped-to-nobody"),
        pytest.param("ext", "/orders", None, "batch:wrong", 401, "invalid_credentials", id="a-wrong-password"),
        pytest.param("ext", "/orders", None, "batch:correct horse battery", 200, "batch", id="the-right-password"),
    ],
)
def test_the_forum_s_steps_pass_across_the_firewall(
    apart: Apart, port: str, target: str, who: str | None, basic: str | None, status: int, outcome: str
) -> None:
    answer = apart.request(port, target, who, basic=basic)
    assert answer.status == status
    assert answer.json["user" if status == 200 else "reason"] == outcome


def test_an_authority_of_the_same_name_fails_in_the_handshake(apart: Apart) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        apart.request("ext", "/orders", "rogue")


def test_what_follows_the_api_s_path_reaches_the_backend_on_the_inner_machine(apart: Apart) -> None:
    before = len(apart.backend.seen)
    assert apart.request("ext", "/gateway/submit/a/b?c=d", "alice").status == 200
    assert [seen["path"] for seen in apart.backend.seen[before:]] == ["/submit/a/b?c=d"]


def test_the_backend_learns_who_calls_and_nothing_that_the_caller_made_up(apart: Apart) -> None:
    forged = {"Client-Cert": ":bm9ib2R5:", "X-Forwarded-User": "root", "X_Forwarded_User": "root",
              "Connection": "close, X-Forwarded-User, Client-Cert"}  # fmt: skip
    before = len(apart.backend.seen)
    answer = apart.request("ext", "/gateway/submit", "alice", method="POST", body=b"{}", headers=forged)
    assert answer.status == 200
    (seen,) = apart.backend.seen[before:]
    told = dict(seen["headers"])
    assert len(told) == len(seen["headers"]), "nothing came twice"
    assert (told["x-forwarded-user"], seen["method"], seen["size"]) == ("api_gateway", "POST", 2)
    assert base64.b64decode(told["client-cert"].strip(":")) == apart.pki["edge-client"].der
    assert told["traceparent"].startswith("00-") and "x_forwarded_user" not in told


def test_whoever_is_refused_is_told_how_to_show_who_he_is(apart: Apart) -> None:
    assert "www-authenticate" in apart.request("ext", "/orders").headers


def test_a_change_of_the_configuration_crosses_it_and_nothing_is_opened_inwards(apart: Apart) -> None:
    stored = next(row for row in apart.topology["certificates"] if row["name"] == "stranger")
    stored["user"] = "alice"
    apart.apply()
    apart.until(lambda: apart.request("ext", "/orders", "stranger").status == 200, "the mapping is in force")
    del stored["user"]
    apart.topology["ports"][0]["service_access"] = {"default": "allow", "deny": ["/echo"]}
    apart.apply()
    apart.until(lambda: apart.request("ext", "/orders", "stranger").status == 403, "the mapping is out of force")
    apart.until(
        lambda: apart.request("ext", "/echo", "alice").json.get("reason") == "service_not_on_port",
        "the edge has its new list too",
    )
    assert apart.revision("edge") == apart.revision("inside")
    assert apart.zones.dropped("dmz") == 0, "the edge never so much as tried"


def test_what_the_edge_would_open_inwards_is_dropped(apart: Apart) -> None:
    """The firewall is one: an API that calls the internal node directly cannot, nor can whoever holds the edge."""
    before = apart.zones.dropped("dmz")
    answer = apart.request("ext", "/gateway/direct", "alice")
    assert (answer.status, answer.json["reason"]) in ((502, "backend_unreachable"), (504, "backend_timeout"))
    for address in ((ZONES["inner"], HTTPS), (ZONES["office"], LINKS)):
        with pytest.raises(OSError):
            apart.zones.connect("dmz", address, 0.5)
    assert apart.zones.dropped("dmz") > before


def test_the_console_s_machine_and_the_internal_node_are_not_reached_from_outside(apart: Apart) -> None:
    for address in ((ZONES["inner"], HTTPS), (ZONES["office"], LINKS), (ZONES["dmz"], REG)):
        with pytest.raises(OSError):
            apart.zones.connect("outside", address, 0.5)
