"""A keystore's renewal takes over at its time, over real TLS: new handshakes show it, connections live on."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.minting import Minted, mint
from tests.relay.installation import Installation, read_answer

PATIENCE = 60.0  # seconds; due renewals are asked for every few
pytestmark = pytest.mark.timeout(180)  # an installation is made, changed, and waited for


def renew(installation: Installation, name: str, new: Minted) -> None:
    """Store the renewal beside, to take over in a moment."""
    keys = installation.folder / "pki"
    (keys / "next.pem").write_text(new.chain_pem)
    (keys / "next.key").write_text(new.key_pem)
    entry = next(entry for entry in installation.topology["keystores"] if entry["name"] == name)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    entry["next"] = {"certificate": "pki/next.pem", "private_key": "pki/next.key", "from": soon.isoformat()}
    installation.apply()


def shown(installation: Installation, port: str) -> bytes | None:
    with installation.connection(port) as sock:
        return sock.getpeercert(binary_form=True)


def ask(sock: ssl.SSLSocket, stream: Any) -> int:
    sock.sendall(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return read_answer(stream).status


def test_new_handshakes_show_the_new_certificate_and_connections_live_on(fresh: Callable[..., Installation]) -> None:
    installation = fresh()
    servers = installation.pki["server-ca"]
    new = mint("CN=localhost,O=Acme,OU=Renewed", servers, purpose="server", san=["dns:localhost", "ip:127.0.0.1"])
    with installation.connection("https") as sock, sock.makefile("rb") as stream:
        assert ask(sock, stream) == 200
        renew(installation, "inside-server", new)
        installation.until(lambda: shown(installation, "https") == new.der, "the new one is shown", PATIENCE)
        assert ask(sock, stream) == 200
        assert sock.getpeercert(binary_form=True) == installation.pki["inside-server"].der
    assert installation.request("https", "/open").status == 200


def test_a_registration_that_knows_the_node_by_its_certificate_changes_with_it(
    fresh: Callable[..., Installation],
) -> None:
    installation = fresh()
    new = mint("CN=inside,O=Acme", installation.pki["server-ca"])
    assert installation.request("ext", "/orders", "alice").status == 200
    renew(installation, "inside-client", new)

    installation.until(lambda: "next:" not in installation.manage("export"), "the renewal took over", PATIENCE)
    content = yaml.safe_load(installation.manage("export"))
    assert [entry["certificate"] for entry in content["registrations"]] == [new.pem]
    installation.until(
        lambda: installation.request("ext", "/orders", "alice").status == 200, "the node is registered again"
    )
