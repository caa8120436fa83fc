"""Blocked: refused on every node, and closed what stands. Over real sockets; `tools.bench.blocking` has how soon."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.relay.invoke import Invoke, invoke
from gateway.relay.node import RelayNode
from identity.core.passwords import hash_password
from tests import minting
from tests.gateway import test_decision as decided
from tests.ports import free_port
from tests.relay.installation import PATIENCE, Answer, Installation, read_answer

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


class Kept:
    """A connection that stays open between requests."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock, self.stream = sock, sock.makefile("rb")

    def send(self, target: str, basic: bytes = b"") -> None:
        self.sock.sendall(GET % (target.encode(), b"Authorization: Basic %b\r\n" % basic if basic else b""))

    def answer(self) -> Answer:
        return read_answer(self.stream)

    def get(self, target: str = "/orders") -> Answer:
        self.send(target)
        return self.answer()

    def closed(self) -> bool:
        """Whether the node has closed it; nothing is awaited on it."""
        self.sock.settimeout(0.05)
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            with contextlib.suppress(OSError):
                self.sock.settimeout(PATIENCE)


Open = Callable[..., Kept]


@pytest.fixture
def kept() -> Iterator[Open]:
    """Opens a connection to a port; closed when the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda installation, port, who=None: Kept(stack.enter_context(installation.connection(port, who)))


def patient(topology: dict[str, Any]) -> None:
    """The backend may hang for longer than any of these tests."""
    topology["services"][2]["timeout"] = "30s"


def named(installation: Installation, section: str, name: str) -> dict[str, Any]:
    return next(entry for entry in installation.topology[section] if entry["name"] == name)


def refused(installation: Installation, port: str, who: str) -> str:
    """Why; "" where it is not."""
    answer = installation.request(port, "/orders", who)
    return "" if answer.status == 200 else str(answer.json["reason"])


def test_a_certificate_is_blocked_on_edge_and_internal_node(fresh: Callable[..., Installation], kept: Open) -> None:
    installation = fresh(patient)
    his = {port: kept(installation, port, "alice") for port in ("ext", "https")}
    others = {port: kept(installation, port, "below") for port in ("ext", "https")}
    assert all(connection.get().status == 200 for connection in (*his.values(), *others.values()))
    running = {port: kept(installation, port, "alice") for port in ("ext", "https")}
    for connection in running.values():
        connection.send("/submit/hang")
    installation.until(lambda: installation.state("inside")["in_flight"] == 2, "both are on their way")

    named(installation, "certificates", "alice")["blocked"] = True
    installation.apply()
    for port in ("ext", "https"):
        installation.until(his[port].closed, f"{port}: the kept connection is closed")
        answer = running[port].answer()
        assert (answer.status, answer.json["reason"]) == (403, "certificate_unmapped"), "what runs as it is ended"
        installation.until(running[port].closed, f"{port}: and its connection closed")
        assert refused(installation, port, "alice") == "certificate_unmapped"
        assert others[port].get().status == 200, "nobody else is disturbed"

    named(installation, "certificates", "alice")["blocked"] = False
    installation.apply()
    for port in ("ext", "https"):
        installation.until(lambda port=port: refused(installation, port, "alice") == "", f"{port}: unblocked")


def test_a_user_is_blocked_where_the_edge_knows_no_users(fresh: Callable[..., Installation], kept: Open) -> None:
    def passing(topology: dict[str, Any]) -> None:
        patient(topology)
        del topology["apis"], topology["endpoints"]  # with none of them the edge decides for nobody
        topology["users"].append({"name": "ruled", "groups": ["Partners"]})
        topology["mapping_rules"] = [{"name": "two", "subject": {"O": "Partner Two"}, "user": "ruled"}]

    installation = fresh(passing)
    by_file = {port: kept(installation, port, "alice") for port in ("ext", "https")}
    by_rule = {port: kept(installation, port, "stranger") for port in ("ext", "https")}
    assert all(connection.get().json["user"] == "alice" for connection in by_file.values())
    assert all(connection.get().json["user"] == "ruled" for connection in by_rule.values())
    running = {(port, who): kept(installation, port, who) for port in ("ext", "https") for who in ("alice", "stranger")}
    for connection in running.values():
        connection.send("/submit/hang")
    password = kept(installation, "ext")
    password.send("/submit/hang", b"YmF0Y2g6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5")
    installation.until(lambda: installation.state("inside")["in_flight"] == 5, "all are on their way")

    for name in ("alice", "ruled", "batch"):
        named(installation, "users", name)["enabled"] = False
    installation.apply()
    for (port, who), connection in [*running.items(), (("ext", "batch"), password)]:
        answer = connection.answer()
        assert (answer.status, answer.json["reason"]) == (403, "user_disabled"), (port, who)
        installation.until(connection.closed, f"{port}, {who}: its connection is closed")
    for connection in (*by_file.values(), by_rule["https"]):
        installation.until(connection.closed, "the kept connection is closed")
    last = by_rule["ext"].get()  # the edge cannot know whom a rule of the internal node means, until it is told
    assert (last.status, last.json["reason"], last.headers["connection"]) == (403, "user_disabled", "close")
    for port in ("ext", "https"):
        assert refused(installation, port, "alice") == refused(installation, port, "stranger") == "user_disabled"
    assert installation.request("ext", "/orders", basic="batch:correct horse battery").status == 401


def tunnels(installation: Installation) -> dict[str, int]:
    """How many each end has."""
    return {
        node: sum(row["idle"] + row["busy"] for row in installation.state(node)["tunnels"])
        for node in ("edge", "inside")
    }


def _disabled(topology: dict[str, Any]) -> None:
    topology["registrations"][0]["enabled"] = False


def _certificate_blocked(topology: dict[str, Any]) -> None:
    topology["certificates"].append({"name": "node", "certificate": "pki/inside-client.pem", "blocked": True})


@pytest.mark.parametrize("block", [_disabled, _certificate_blocked], ids=["the-registration", "its-certificate"])
def test_a_blocked_registration_loses_its_tunnels_at_both_ends(
    fresh: Callable[..., Installation], kept: Open, block: Callable[[dict[str, Any]], None]
) -> None:
    installation = fresh(patient)
    running = kept(installation, "ext", "alice")
    running.send("/submit/hang")
    installation.until(lambda: installation.state("inside")["in_flight"] == 1, "it is on its way")

    block(installation.topology)
    installation.apply()
    installation.until(lambda: tunnels(installation) == {"edge": 0, "inside": 0}, "no tunnel is left")
    answer = running.answer()
    assert (answer.status, answer.json["reason"]) == (502, "tunnel_lost")
    assert refused(installation, "ext", "alice") == "no_internal_connection"
    installation.until(lambda: installation.state("inside")["in_flight"] == 0, "the internal node has let go")


def test_a_registration_that_is_changed_loses_its_tunnels_and_gets_others(
    fresh: Callable[..., Installation], kept: Open
) -> None:
    installation = fresh(patient)
    running = kept(installation, "ext", "alice")
    running.send("/submit/hang")
    installation.until(lambda: installation.state("inside")["in_flight"] == 1, "it is on its way")
    named(installation, "registrations", "inside-at-reg")["paths"] = ["/orders"]
    installation.apply()
    assert running.answer().json["reason"] == "tunnel_lost"
    installation.until(lambda: refused(installation, "ext", "alice") == "", "it is registered again")
    assert installation.request("ext", "/echo", "alice").json["reason"] == "not_on_channel"


def test_a_revocation_list_that_comes_is_no_change_of_the_registration(
    fresh: Callable[..., Installation], kept: Open
) -> None:
    """Lists come every hour: what is on its way is not lost for it, and the next request is judged by the new one."""

    def limited(topology: dict[str, Any]) -> None:
        topology["registrations"][0]["may_assert"] = {"truststores": ["partners"]}

    installation = fresh(limited)
    half = kept(installation, "ext", "alice")
    half.sock.sendall(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n01234")
    installation.until(lambda: installation.state("inside")["in_flight"] == 1, "it is on its way")
    crl = minting.crl_pem(installation.pki["partner-ca"], [installation.pki["below"].above[0]]).decode()
    named(installation, "truststores", "partners")["crls"] = [crl]
    installation.apply()
    installation.until(lambda: refused(installation, "ext", "below") == "certificate_revoked", "it is in force")
    half.sock.sendall(b"56789")
    assert half.answer().body == b"0123456789"


@pytest.mark.parametrize("node", ["edge", "inside"])
def test_a_node_that_restarts_leaves_no_tunnel_behind(fresh: Callable[..., Installation], node: str) -> None:
    installation = fresh()
    other = {"edge": "inside", "inside": "edge"}[node]

    def left() -> int:
        return sum(row["idle"] + row["busy"] for row in installation.state(other)["tunnels"])

    assert left() > 0
    installation.stop(node)
    installation.until(lambda: left() == 0, f"{other} has none")
    installation.start(node)
    installation.ready()
    installation.until(lambda: refused(installation, "ext", "alice") == "", "requests go through again")


def test_a_user_who_is_blocked_while_his_password_is_checked_is_refused() -> None:
    """The check takes a tenth of a second, and what it finds counts for what was in force when it began."""
    users = decided.document()["users"]
    users["alice"] |= {"password_hash": hash_password("correct horse battery")}
    ports = {"https": decided.port(number=free_port(), client_auth="password", truststore="")}
    before = decided.document(ports=ports, users=users, registrations={})
    after = before | {"revision": 2, "users": users | {"alice": users["alice"] | {"enabled": False}}}
    asked = Invoke("https", "GET", "/orders", (), b"", None, (), "alice", "correct horse battery", 10.0)

    async def run(meanwhile: dict[str, Any]) -> int:
        node = RelayNode()
        await node.apply(before)
        try:
            answer = asyncio.create_task(invoke(node, asked))
            await asyncio.sleep(0)  # it is with the pool now
            await node.apply(meanwhile)
            return int((await answer)["status"])
        finally:
            await node.drain()

    assert asyncio.run(run(before | {"revision": 2})) == 200
    assert asyncio.run(run(after)) == 401
