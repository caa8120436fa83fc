"""Whoever holds the edge, with all its keys, gains nothing that the registration does not say.

The internal node is the real one. In the place of the edge stands a program that signs and sends what it likes.
"""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from identity.core.assertions import Proof
from tests.minting import authority, mint
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.hostile import HostileEdge, Tunnel, basic, statement, structured
from tests.relay.installation import Answer, Backend, Installation

OTHERS = authority("CN=Staff CA,O=Acme")  # believed by the internal port, and not for this channel
MORE = {
    "staff-ca": OTHERS,
    "staff": mint("CN=staff,O=Acme", OTHERS),
    "root": mint("CN=root,O=Acme", OTHERS),
}


def limited(backend: int, reg: str) -> dict[str, Any]:
    """The forum's case with a channel that is held to partners; a second channel, of the same node, is another.

    `reg`: where the registration port is.
    """
    topology = forum_topology(backend)
    next(port for port in topology["ports"] if port["name"] == "reg")["bind"] = reg
    next(port for port in topology["ports"] if port["name"] == "dial")["connect"][0]["address"] = reg
    topology["truststores"] += [{"name": "everybody", "certificates": ["pki/partner-ca.pem", "pki/staff-ca.pem"]}]
    topology["groups"] += [{"name": "Staff"}, {"name": "Outsiders"}]
    topology["users"] += [
        {"name": "staff", "groups": ["Staff", "Partners"]},
        {"name": "outsider", "groups": ["Outsiders"], "password": "correct horse battery"},
        {"name": "chief", "groups": ["Partners", "Administrators"], "password": "correct horse battery"},
        {"name": "elsewhere", "groups": ["Partners"], "password": "correct horse battery", "ports": ["https"]},
    ]
    topology["users"] = [user for user in topology["users"] if user["name"] != "below"]
    topology["certificates"] = [
        {"name": "alice", "certificate": "pki/alice.pem", "user": "alice"},
        {"name": "outsider", "certificate": "pki/below.pem", "user": "outsider"},
        {"name": "elsewhere", "certificate": "pki/stranger.pem", "user": "alice", "ports": ["https"]},
        {"name": "gateway", "certificate": "pki/edge-client.pem", "user": "api_gateway"},
        {"name": "staff", "certificate": "pki/staff.pem", "user": "staff"},
    ]
    topology["acls"] += [{"name": "Chiefs", "allowed": ["Administrators"]}]
    topology["services"] += [
        {"name": "chiefs", "node": "inside", "path": "/orders/chiefs", "builtin": "whoami", "execute_acl": "Chiefs"}
    ]
    dial = next(port for port in topology["ports"] if port["name"] == "dial")
    dial |= {"client_truststore": "everybody"}
    channel = topology["registrations"][0]
    channel |= {"allow_test": False, "paths": ["/orders", "/submit"],
                "may_assert": {"truststores": ["partners"], "groups": ["Partners"]}}  # fmt: skip
    topology["registrations"] += [{"name": "second", "port": "reg", "node": "inside", "certificate": "pki/second.pem"}]
    topology["keystores"] += [{"name": "second", "certificate": "pki/second.pem", "private_key": "pki/second.key"}]
    second = {"name": "second", "connect": [{"address": reg, "registration": "second"}]}
    topology["ports"] += [dial | second | {"tls": dial["tls"] | {"keystore": "second"}}]
    topology["ports"] = [dial if port["name"] == "dial" else port for port in topology["ports"]]
    return topology


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


@pytest.fixture(scope="module")
def inside(
    tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend, listener: socket.socket
) -> Iterator[Installation]:
    """The internal node alone."""
    pki = forum_pki()
    pki |= MORE | {"second": mint("CN=inside,OU=second,O=Acme", pki["server-ca"])}
    installation = Installation(
        tmp_path_factory.mktemp("hostile"), pki, limited(shared_backend.port, f"127.0.0.1:{listener.getsockname()[1]}")
    )
    try:
        yield installation
    finally:
        installation.close()


@pytest.fixture(scope="module")
def edge(inside: Installation, listener: socket.socket) -> Iterator[HostileEdge]:
    hostile = HostileEdge(inside, listener)
    try:
        inside.start("inside")
        yield hostile
    finally:
        hostile.close()


Ask = Callable[..., Answer]


@pytest.fixture
def tunnel(edge: HostileEdge) -> Iterator[Tunnel]:
    found = edge.tunnel()
    yield found
    found.close()


def outcome(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["user" if answer.status == 200 else "reason"]


def test_an_honest_statement_is_believed(inside: Installation, tunnel: Tunnel) -> None:
    """Or all that follows would prove nothing."""
    pki = inside.pki
    assert outcome(tunnel.ask(*statement(tunnel, pki["alice"], pki["edge-server"].key))) == (200, "alice")
    own_key = statement(tunnel, pki["alice"], pki["alice"].key, proof=Proof.KEY)
    assert outcome(tunnel.ask(*own_key)) == (200, "alice")


INVALID = (403, "assertion_invalid")
NOT_PERMITTED = (403, "assertion_not_permitted")
UNMAPPED = (403, "certificate_unmapped")

# What it signs with the edge's own key: name → (certificate, arguments of `statement`, what comes of it).
LIES: dict[str, tuple[str, dict[str, Any], tuple[int, str]]] = {
    "a certificate of a truststore that is not the channel's": ("staff", {}, NOT_PERMITTED),
    "a certificate of an authority that nobody believes": ("rogue", {}, (403, "certificate_untrusted")),
    "a server's certificate": ("edge-server", {}, (403, "certificate_untrusted")),
    "a user in no group of the channel's": ("below", {"chain": "above"}, NOT_PERMITTED),
    "a certificate that is for another port": ("stranger", {}, UNMAPPED),
    "a certificate whose user is in no group of the channel's": ("edge-client", {}, NOT_PERMITTED),
    "a test where none is allowed": ("alice", {"proof": Proof.TEST}, NOT_PERMITTED),
    "for another registration": ("alice", {"registration": "second"}, INVALID),
    "for another run of the node": ("alice", {"nonce": "A" * 24}, INVALID),
    "as another registration port": ("alice", {"issuer": "other"}, INVALID),
    "that is over": ("alice", {"times": (-70, -10)}, INVALID),
    "that begins later": ("alice", {"times": (30, 60)}, INVALID),
    "that lives for long": ("alice", {"times": (0, 3600)}, INVALID),
    "that lives for ever": ("alice", {"times": (-3600, 2**40)}, INVALID),
    "that ends before it begins": ("alice", {"times": (0, -1)}, INVALID),
    "about another certificate than comes with it": ("staff", {"about": "alice"}, INVALID),
    "by the certificate's own key, which it has not": ("alice", {"proof": Proof.KEY}, INVALID),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_it_signs_counts_for_no_more_than_the_channel_may_carry(
    inside: Installation, tunnel: Tunnel, lie: str
) -> None:
    who, how, expected = LIES[lie]
    shown = inside.pki[who]
    how = dict(how)
    if how.get("about"):
        how["about"] = inside.pki[how["about"]]
    if how.get("chain"):
        how["chain"] = shown.above
    assert outcome(tunnel.ask(*statement(tunnel, shown, inside.pki["edge-server"].key, **how))) == expected


@pytest.mark.parametrize("key", ["inside-server", "edge-client", "partner-ca", "server-ca", "alice"])
def test_no_other_key_speaks_for_the_edge(inside: Installation, tunnel: Tunnel, key: str) -> None:
    assert outcome(tunnel.ask(*statement(tunnel, inside.pki["alice"], inside.pki[key].key))) == INVALID


def test_a_token_that_was_overheard_is_worth_nothing_on_another_channel(
    inside: Installation, edge: HostileEdge, tunnel: Tunnel
) -> None:
    second = edge.tunnel("second")
    lines = statement(second, inside.pki["staff"], inside.pki["edge-server"].key)
    assert outcome(second.ask(*lines)) == (200, "staff"), "where it may be said"
    assert outcome(tunnel.ask(*lines)) == INVALID
    second.close()


def test_a_token_outlives_no_restart(inside: Installation, edge: HostileEdge, tunnel: Tunnel) -> None:
    lines = statement(tunnel, inside.pki["alice"], inside.pki["edge-server"].key)
    assert tunnel.ask(*lines).status == 200
    inside.stop("inside")
    inside.start("inside")
    while (after := edge.tunnel()).nonce == tunnel.nonce:
        after.close()
    assert outcome(after.ask(*lines)) == INVALID
    after.close()


@pytest.mark.parametrize(
    "target",
    ["/echo", "/open", "/ordersx", "/", "/orders/../echo", "/orders/%2e%2e/open", "//echo", "/submi", "/Orders"],
)
def test_the_path_is_not_on_the_channel(inside: Installation, tunnel: Tunnel, target: str) -> None:
    lines = statement(tunnel, inside.pki["alice"], inside.pki["edge-server"].key)
    assert outcome(tunnel.ask(*lines, target=target)) == (403, "not_on_channel")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param("outsider", NOT_PERMITTED, id="in-no-group-of-the-channels"),
        pytest.param("batch", NOT_PERMITTED, id="in-another-group"),
        pytest.param("chief", (200, "chief"), id="in-one-of-two"),
        pytest.param("elsewhere", (401, "invalid_credentials"), id="for-another-port"),
        pytest.param("nobody", (401, "invalid_credentials"), id="unknown"),
    ],
)
def test_passwords_that_it_has_read_are_held_to_the_channel_too(
    tunnel: Tunnel, user: str, expected: tuple[int, str]
) -> None:
    assert outcome(tunnel.ask(basic(user, "correct horse battery"))) == expected


def test_a_group_that_the_channel_does_not_carry_admits_nobody(tunnel: Tunnel) -> None:
    chief = basic("chief", "correct horse battery")
    assert json.loads(tunnel.ask(chief).body)["groups"] == ["Everybody", "Partners"]
    assert outcome(tunnel.ask(chief, target="/orders/chiefs")) == (403, "acl_denied")


def test_a_certificate_is_nothing_without_a_statement_and_a_password_beside_it_no_way_out(
    inside: Installation, tunnel: Tunnel
) -> None:
    shown = b"Client-Cert: " + structured(inside.pki["alice"])
    good = basic("chief", "correct horse battery")
    assert outcome(tunnel.ask(shown)) == INVALID
    assert outcome(tunnel.ask(shown, good)) == INVALID
    other = edge_lie(inside, tunnel)
    assert outcome(tunnel.ask(*other, good)) == NOT_PERMITTED, "a wrong credential is final"
    assert outcome(tunnel.ask()) == (401, "authentication_required")


def edge_lie(inside: Installation, tunnel: Tunnel) -> list[bytes]:
    return statement(tunnel, inside.pki["staff"], inside.pki["edge-server"].key)


FORGED = {
    "names": [b"X-Forwarded-User: root", b"X-Forwarded-Groups: Administrators", b"Remote-User: root",
              b"X_Forwarded_User: root", b"Postern-Identity: x", b"X-SSL-Client-Verify: SUCCESS",
              b"X-Forwarded-Client-Cert: Subject=root"],
    "connection": [b"Connection: X-Forwarded-User, Client-Cert"],
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_headers_that_it_makes_up_reach_no_backend(inside: Installation, tunnel: Tunnel, forged: str) -> None:
    lines = statement(tunnel, inside.pki["alice"], inside.pki["edge-server"].key)
    answer = tunnel.ask(*lines, *FORGED[forged], target="/submit")
    assert answer.status == 200
    seen: dict[str, list[str]] = {}
    for name, value in answer.json["headers"]:
        seen.setdefault(name.replace("_", "-"), []).append(value)
    assert seen["x-forwarded-user"] == ["alice"]
    assert seen["x-forwarded-groups"] == ["Everybody,Partners"], "as it is on this channel"
    assert [base64.b64decode(value.strip(":")) for value in seen["client-cert"]] == [inside.pki["alice"].der]
    assert len(seen["x-forwarded-client-cert"]) == 1 and "root" not in seen["x-forwarded-client-cert"][0]
    assert not [n for n in seen if n.startswith(("postern", "x-ssl")) or n == "remote-user"]


@pytest.mark.parametrize("name", [b"Postern-Assertion", b"Client-Cert", b"Client-Cert-Chain", b"Postern-Peer"])
def test_what_speaks_on_a_tunnel_is_said_once(inside: Installation, tunnel: Tunnel, name: bytes) -> None:
    """Two programs may take one of the two each."""
    lines = statement(tunnel, inside.pki["alice"], inside.pki["edge-server"].key, chain=[inside.pki["partner-ca"]])
    again = next((line for line in lines if line.startswith(name + b": ")), name + b": 192.0.2.8")
    assert outcome(tunnel.ask(*lines, again)) == (400, "request_malformed")


@pytest.mark.parametrize("peer", [b"", b"not an address", b"192.0.2.7, 10.0.0.1", b"10.0.0.1\x00", b"localhost"])
def test_a_peer_that_is_no_address_is_refused(inside: Installation, tunnel: Tunnel, peer: bytes) -> None:
    lines = statement(tunnel, inside.pki["alice"], inside.pki["edge-server"].key)
    assert tunnel.ask(*lines, peer=peer).status in (400, 403)


def test_it_learns_nothing_of_the_inside_by_asking_for_traces(inside: Installation, tunnel: Tunnel) -> None:
    lines = statement(tunnel, inside.pki["staff"], inside.pki["edge-server"].key)
    answer = tunnel.ask(*lines, b"Postern-Trace: 1")
    assert "postern-trace" not in answer.headers, "only a registration that takes tests tells them"
    assert answer.headers["postern-reason"] == "assertion_not_permitted"
