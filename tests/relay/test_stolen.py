"""Whoever holds an edge has what its folder has. What can be done with that, and what cannot."""

import asyncio
import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.relay import invoke as invoking
from gateway.relay.invoke import Invoke
from gateway.relay.node import RelayNode
from gateway.relay.statefolder import StateFolder
from identity.core.assertions import Proof
from identity.core.certificates import from_der
from tests.minting import authority, mint
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend
from tests.relay.remote import RemoteInstallation

pytestmark = pytest.mark.timeout(240)  # several processes are started, one after the other


class Lie:
    """What the attacker changed in the code: a test is a handshake that was never made."""

    TEST = Proof.TLS


@pytest.fixture(scope="module")
def stolen(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[RemoteInstallation]:
    """The edge is gone, and its folder is in the attacker's hands. The channel may carry Partners of one authority;
    one of its partners may come by the internal node's own port alone."""
    topology, pki = forum_topology(shared_backend.port), forum_pki()
    other = authority("CN=Other CA,O=Acme")
    pki |= {
        "other-ca": other,
        "carol": mint("CN=carol,O=Partner Three", other),
        "dave": mint("CN=dave", pki["partner-ca"]),
    }
    topology["truststores"] += [
        {"name": "others", "certificates": "pki/other-ca.pem"},
        {"name": "all", "certificates": ["pki/partner-ca.pem", "pki/other-ca.pem"]},
    ]
    topology["users"] += [{"name": "carol", "groups": ["Partners"]}, {"name": "dave", "groups": ["Partners"]}]
    topology["certificates"] += [
        {"name": "carol", "certificate": "pki/carol.pem", "user": "carol"},
        {"name": "dave", "certificate": "pki/dave.pem", "user": "dave", "ports": ["https"]},
    ]
    dial = next(port for port in topology["ports"] if port["name"] == "dial")
    dial["client_truststore"] = "all"
    topology["registrations"][0]["may_assert"] = {"truststores": ["partners"], "groups": ["Partners"]}
    installation = RemoteInstallation(tmp_path_factory.mktemp("stolen"), pki, topology)
    try:
        installation.enrol_and_run("edge", "inside")
        installation.stop("edge")
        yield installation
    finally:
        installation.close()


def attack(stolen: RemoteInstallation, *calls: tuple[str, str | None]) -> list[dict[str, Any]]:
    """An edge of the attacker's own, made of the folder, with every limit taken out of it; what it is answered."""
    folder = StateFolder(stolen.folder_of("edge"))
    kept = folder.load(folder.identity().pinned, "edge")
    assert kept is not None
    document = copy.deepcopy(kept.document)
    document["ports"]["ext"] |= {"authenticate": False}
    document["apis"] = {}
    for pem in ("partner-ca", "other-ca"):  # it believes whom it likes
        document["truststores"]["partners"]["anchors"].append(base64.b64encode(stolen.pki[pem].der).decode())

    async def scene() -> list[dict[str, Any]]:
        node = RelayNode()
        await node.apply(document)
        try:
            async with asyncio.timeout(30):
                while not any(pool.state() for pool in node.tunnels.values()):
                    await asyncio.sleep(0.05)
                return [await invoking.invoke(node, asked(stolen, who, basic)) for who, basic in calls]
        finally:
            await node.drain()

    return asyncio.run(scene())


def asked(stolen: RemoteInstallation, who: str, basic: str | None) -> Invoke:
    username, _, password = (basic or "").partition(":")
    certificate = from_der(stolen.pki[who].der) if who else None
    return Invoke("ext", "GET", "/orders", (), b"", certificate, (), username or None, password or None, 10.0)


def test_nobody_is_impersonated_beyond_what_registration_and_ports_allow(
    stolen: RemoteInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoking, "Proof", Lie)
    alice, gateway, carol, dave, batch = attack(
        stolen, ("alice", None), ("edge-client", None), ("carol", None), ("dave", None),
        ("", "batch:correct horse battery"),
    )  # fmt: skip
    body = json.loads(base64.b64decode(alice["body"]))
    assert (alice["status"], body["user"]) == (200, "alice"), "a partner whom the channel may carry: that is the price"
    assert gateway["reason"] == "assertion_not_permitted", "of another group, although the edge has its very key"
    assert carol["reason"] == "assertion_not_permitted", "of another truststore, although the internal port trusts it"
    assert dave["status"] == 403 and dave["reason"] == "certificate_unmapped", "mapped at another port alone"
    assert batch["reason"] == "assertion_not_permitted", "of another group, although the endpoint's password is right"


def test_the_folder_opens_neither_console_nor_internal_node(stolen: RemoteInstallation, tmp_path: Path) -> None:
    folder = StateFolder(stolen.folder_of("edge"))
    kept = folder.load(folder.identity().pinned, "edge")
    assert kept is not None
    for name, keystore in kept.document["keystores"].items():
        (stolen.folder / "pki" / f"stolen-{name}.pem").write_text(keystore["chain"])
        (stolen.folder / "pki" / f"stolen-{name}.key").write_text(keystore["key"])
    mapped = stolen.request("https", "/orders", "stolen-edge-client").json
    assert mapped["user"] == "api_gateway", "what the endpoint's key is for, and named in the threat model"
    with pytest.raises(OSError):
        stolen.request("https", "/orders", "stolen-edge-server")
    users = kept.document["users"]
    assert {name for name, entry in users.items() if "password_hash" in entry} <= {"batch"}
