"""The installation's own authority is exchanged for another, while nodes on machines of their own serve."""

import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.relay import link
from gateway.relay.control import ControlError, call
from gateway.relay.statefolder import Identity, StateFolder
from identity.core import authority
from identity.core.authority import Pair
from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import PATIENCE, Backend
from tests.relay.remote import RemoteInstallation

pytestmark = pytest.mark.timeout(240)  # several processes are started, one after the other

NODES = ("edge", "inside")
PRINT_AUTHORITY = """
import json
from gateway.models import Authority
row = Authority.objects.get()
print(json.dumps([row.certificate, row.pair.key, row.old_certificate, len(row.old_console_key)]))
"""


@pytest.fixture
def installation(backend: Backend) -> Iterator[RemoteInstallation]:
    """The edge runs in two processes: the console's links come to either."""
    with tempfile.TemporaryDirectory(prefix="postern-") as folder:  # paths short enough for sockets
        made = RemoteInstallation(Path(folder), forum_pki(), forum_topology(backend.port))
        made.start_courier()
        for name, workers in zip(NODES, ("2", "1"), strict=True):
            made.enrol(name)
            made.run(name, options=("--workers", workers))
        try:
            yield made.linked(*NODES)
        finally:
            made.close()


def stored(installation: RemoteInstallation) -> list[Any]:
    told: list[Any] = json.loads(installation.manage("shell", "-v0", "-c", PRINT_AUTHORITY))
    return told


def identity(installation: RemoteInstallation, name: str) -> Identity:
    return StateFolder(installation.folder_of(name)).identity()


def serves(installation: RemoteInstallation) -> bool:
    answer = installation.request("ext", "/orders", "alice")
    assert (answer.status, answer.json["user"]) == (200, "alice")
    return True


def moved(installation: RemoteInstallation, pinned: str) -> bool:
    """Every node believes this authority alone, has a certificate of it, and is linked by it."""
    for name in NODES:
        ours = identity(installation, name)
        if ours.authority != pinned or installation.revision(name) is None:
            return False
        assert authority.node_of(ours.pair.parsed, ours.pinned) == name
    return serves(installation)


def upgraded(installation: RemoteInstallation, console: Pair) -> int:
    """What the edge's registration port answers to a console: a status, 0 where the handshake fails."""
    host, port = installation.address("reg")
    try:
        with (
            socket.create_connection((host, port), PATIENCE) as plain,
            link.unverified(console).wrap_socket(plain) as sock,
        ):
            sock.sendall(link.upgrade(host))
            with sock.makefile("rb") as stream:
                return int((stream.readline().split() or [b"", b"0"])[1])
    except (ssl.SSLError, ConnectionError):
        return 0


def test_every_node_moves_to_the_new_authority_while_it_serves(installation: RemoteInstallation) -> None:
    before, key, *_ = stored(installation)
    old = Pair(before, key)
    certificates = {name: identity(installation, name).certificate for name in NODES}
    console = authority.certify_console(old, authority.utc_now())
    assert upgraded(installation, console) == 101, "before, it is believed"

    said = installation.manage("rotate-authority")
    assert "make new ones" in said and "edge, inside" in said
    new = stored(installation)[0]
    assert new != before
    installation.until(lambda: serves(installation) and moved(installation, new), "both have moved")
    assert stored(installation)[2:] == ["", 0], "the old one is gone by itself, with the console's key from it"
    assert all(identity(installation, name).certificate != certificates[name] for name in NODES)

    # Whoever has the old authority's key is believed by nobody: not by the edge, in either of its processes …
    assert {upgraded(installation, console) for _ in range(8)} == {0}
    # … and not by the console.
    stolen = authority.new_key()
    forged = authority.certify_node(old, authority.request(stolen, "inside"), "inside", authority.utc_now())
    host, _, port = installation.links.rpartition(":")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls = link.context(Pair(forged, stolen), new, server=False)
        with socket.create_connection((host, int(port)), PATIENCE) as plain, tls.wrap_socket(plain) as sock:
            assert sock.recv(1) == b"", "no link"
            raise ConnectionError("it is closed")

    # A change still comes, and what lies in the folders is started from without the console.
    installation.topology["users"][0]["description"] = "after the exchange"
    revision = installation.revision("edge")
    installation.apply()
    installation.until(
        lambda: all((installation.revision(name) or 0) > (revision or 0) for name in NODES), "the change is in force"
    )
    installation.stop_courier()
    for name in NODES:
        assert installation.stop(name) == 0
        installation.run(name)
    installation.until(lambda: answers(installation), "they serve by what lies in their folders")
    code = "from gateway.models import ChangeSet as C; print(*C.objects.values_list('actor', 'message'), sep='\\n')"
    log = installation.manage("shell", "-v0", "-c", code)
    assert "('rotate-authority', 'the authority of nodes is exchanged')" in log
    assert "('courier', 'the old authority of nodes is dropped')" in log


def answers(installation: RemoteInstallation) -> bool:
    try:
        return installation.request("ext", "/orders", "alice").status == 200
    except OSError:
        return False


def test_two_consoles_move_every_node(backend: Backend) -> None:
    """Both are told at once, and both set about it: nobody is left with a certificate that is known to neither."""
    with tempfile.TemporaryDirectory(prefix="postern-") as folder:
        installation = RemoteInstallation(Path(folder), forum_pki(), forum_topology(backend.port))
        other = f"127.0.0.1:{free_port()}"
        installation.env["CONSOLE_NODES_ADDRESS"] = f"{installation.links},{other}"
        installation.start_courier()
        installation.start_courier(CONSOLE_NODES_BIND=other, POSTERN_STATE_DIR=str(installation.folder / "other"))
        try:
            for name in NODES:
                installation.enrol(name)
                installation.run(name)
            installation.linked(*NODES)
            installation.manage("rotate-authority")
            new = stored(installation)[0]
            installation.until(lambda: moved(installation, new), "both have moved")
            assert stored(installation)[2:] == ["", 0], "the old one is gone"
            for name in NODES:
                installation.until(lambda name=name: told_by(installation, "other", name), "both consoles have links")
        finally:
            installation.close()


def told_by(installation: RemoteInstallation, console: str, name: str) -> bool:
    try:
        return int(call(installation.folder / console, name, {"op": "state"})["revision"]) > 0
    except ControlError:
        return False


def test_a_node_that_is_away_holds_the_old_one_until_it_comes(installation: RemoteInstallation) -> None:
    before = stored(installation)[0]
    assert installation.stop("inside") == 0
    installation.manage("rotate-authority")
    new = stored(installation)[0]
    installation.until(lambda: identity(installation, "edge").authority == new + before, "the edge believes both")
    code = "from gateway import rotation; print(*rotation.left_behind())"
    installation.until(
        lambda: installation.manage("shell", "-v0", "-c", code).split() == ["inside"], "it alone is left"
    )
    assert stored(installation)[2] == before
    again = installation.begin("rotate-authority", "--drop-old")
    assert "Cut off would be: inside" in again.communicate(timeout=PATIENCE)[0] and again.returncode == 1
    installation.run("inside")
    installation.ready()
    installation.until(lambda: moved(installation, new), "both have moved")
    assert stored(installation)[2:] == ["", 0]


def test_who_is_cut_off_serves_on_and_is_enrolled_anew(installation: RemoteInstallation) -> None:
    assert installation.stop("inside") == 0
    installation.manage("rotate-authority")
    said = installation.manage("rotate-authority", "--drop-old", "--force")
    assert "Cut off until they are enrolled anew" in said and "inside" in said
    installation.run("inside")
    installation.until(lambda: answers(installation), "it serves by what it has")
    installation.until(lambda: bool(installation.about("inside")["problem"]), "it is not linked, and says so")
    assert installation.stop("inside") == 0
    installation.enrol("inside")
    installation.run("inside")
    installation.until(lambda: installation.revision("inside") is not None, "it is linked again")
