"""A keystore's renewal takes over at its time, over real TLS: new handshakes show it, connections live on."""

import ssl
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.minting import Minted, mint
from tests.relay.installation import PATIENCE, Backend, Installation, read_answer

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
        installation.until(lambda: shown(installation, "https") == new.der, "the new one is shown")
        assert ask(sock, stream) == 200
        assert sock.getpeercert(binary_form=True) == installation.pki["inside-server"].der
    assert installation.request("https", "/open").status == 200


def registration(installation: Installation) -> tuple[str, str | None]:
    """The certificates that it admits its node by."""
    entry = yaml.safe_load(installation.manage("export"))["registrations"][0]
    return entry["certificate"], entry.get("next_certificate")


def tunnels(installation: Installation) -> Counter[str]:
    """At the edge, by the SHA-256 of the certificate that they showed."""
    found: Counter[str] = Counter()
    for told in installation.state("edge")["tunnels"]:
        found.update(told["certificates"])
    return found


class Callers:
    """One asks again and again; one asks once, for what takes until `Backend.release`."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._stopping = threading.Event()
        self.statuses: list[int] = []
        self.held: list[int] = []
        self._threads = [threading.Thread(target=each) for each in (self._often, self._once)]
        for thread in self._threads:
            thread.start()

    def _often(self) -> None:
        while not self._stopping.is_set():
            self.statuses.append(self._installation.request("ext", "/submit/now", "alice").status)

    def _once(self) -> None:
        self.held.append(self._installation.request("ext", "/submit/held", "alice").status)

    def join(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def held(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend that answers `/held` when it is let go."""

    def answer(handler: Any) -> None:
        if "/held" in handler.path:
            backend.release.wait(PATIENCE)
        backend.say(handler, b"done")

    monkeypatch.setattr(backend, "answer", answer)
    return backend


def patient(topology: dict[str, Any]) -> None:
    """A service that may take its time."""
    next(each for each in topology["services"] if each["name"] == "orders:submit")["timeout"] = "120s"


def test_what_a_node_registers_with_is_renewed_without_a_request_lost(
    fresh: Callable[..., Installation], held: Backend
) -> None:
    installation = fresh(patient)
    old, new = installation.pki["inside-client"], mint("CN=inside,O=Acme", installation.pki["server-ca"])
    before, after = old.certificate.sha256, new.certificate.sha256
    installation.start_worker()
    callers = Callers(installation)
    installation.until(lambda: any("/held" in each["path"] for each in held.seen), "one is held")
    renew(installation, "inside-client", new)
    installation.until(lambda: after in tunnels(installation), "the node dials with the new one")
    installation.until(lambda: tunnels(installation)[before] == 1, "the tunnel in use alone is left of the old ones")
    assert registration(installation) == (old.pem, new.pem), "both are admitted while one of the old is in use"
    count = len(callers.statuses)
    installation.until(lambda: len(callers.statuses) > count + 5, "the others go on")
    held.release.set()
    installation.until(lambda: callers.held != [], "the one that was held has its answer")
    installation.until(lambda: registration(installation) == (new.pem, None), "the old one is admitted no longer")
    callers.join()
    assert callers.held == [200]
    assert set(callers.statuses) == {200}
    assert set(tunnels(installation)) == {after}


def test_what_follows_is_admitted_besides_and_a_block_of_one_shuts_that_one_out(
    fresh: Callable[..., Installation],
) -> None:
    installation = fresh()
    old, new = installation.pki["inside-client"], mint("CN=inside,O=Acme", installation.pki["server-ca"])
    entry, keystore = installation.topology["registrations"][0], installation.topology["keystores"][2]
    (installation.folder / "pki" / "next.pem").write_text(new.chain_pem)
    (installation.folder / "pki" / "next.key").write_text(new.key_pem)
    assert keystore["name"] == "inside-client"

    entry["next_certificate"] = "pki/next.pem"
    installation.apply()
    assert set(tunnels(installation)) == {old.certificate.sha256}, "to admit another one closes no tunnel"
    keystore |= {"certificate": "pki/next.pem", "private_key": "pki/next.key"}
    installation.apply()
    installation.until(lambda: set(tunnels(installation)) == {new.certificate.sha256}, "it dials with the new one")
    assert installation.request("ext", "/orders", "alice").status == 200

    installation.topology["certificates"].append({"name": "new", "certificate": "pki/next.pem", "blocked": True})
    installation.apply()
    installation.until(lambda: tunnels(installation) == {}, "the blocked one is shut out")
    keystore |= {"certificate": "pki/inside-client.pem", "private_key": "pki/inside-client.key"}
    installation.apply()
    installation.until(lambda: set(tunnels(installation)) == {old.certificate.sha256}, "and the other one is not")
