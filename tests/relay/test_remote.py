"""Nodes on machines of their own: enrolment, delivery, and everything that may be missing or broken meanwhile."""

import base64
import dataclasses
import json
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.enrolment import read_bundle
from gateway.relay import handshake, link
from gateway.relay.control import ControlError, call
from gateway.relay.statefolder import StateFolder
from identity.core.authority import is_due, serial_of, utc_now
from tests.databases import away
from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import PATIENCE, ROOT, Backend, read_answer
from tests.relay.remote import POSTERN_NODE, RemoteInstallation

pytestmark = pytest.mark.timeout(240)  # several processes are started, one after the other

Make = Callable[..., RemoteInstallation]


@pytest.fixture
def make(backend: Backend) -> Iterator[Make]:
    """Makes the forum's installation on three machines, nothing running yet; in a folder whose sockets' paths are
    short enough, whatever the test is called."""
    made: list[RemoteInstallation] = []
    with tempfile.TemporaryDirectory(prefix="postern-") as folder:

        def one(change: Callable[[dict[str, Any]], None] = lambda topology: None) -> RemoteInstallation:
            topology = forum_topology(backend.port)
            change(topology)
            made.append(RemoteInstallation(Path(folder), forum_pki(), topology))
            return made[-1]

        yield one
        for installation in made:
            installation.close()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[RemoteInstallation]:
    """Edge and internal node are enrolled and linked. Nothing may be changed in it."""
    topology = forum_topology(shared_backend.port)
    insider = {"name": "insider", "groups": ["Partners"], "password": "only inside", "ports": ["dial"]}
    topology["users"].append(insider)
    topology["mapping_rules"] = [
        {"name": "insiders", "priority": 9, "subject": {"OU": "insiders-unit"}, "user": "insider",
         "ports": ["dial"]}
    ]  # fmt: skip
    installation = RemoteInstallation(tmp_path_factory.mktemp("apart"), forum_pki(), topology)
    try:
        yield installation.enrol_and_run("edge", "inside")
    finally:
        installation.close()


def test_the_forum_s_case_works_across_machines(apart: RemoteInstallation) -> None:
    assert apart.state("edge")["remote"], "who asks can tell that it is elsewhere"
    assert apart.request("ext", "/orders", "alice").json["user"] == "alice"
    assert apart.request("ext", "/gateway/certificate", "alice").json["user"] == "api_gateway"
    assert apart.request("ext", "/orders", "stranger").json["reason"] == "certificate_unmapped"


def test_a_test_invoke_travels_like_everything_else(apart: RemoteInstallation) -> None:
    alice = base64.b64encode(apart.pki["alice"].der).decode()
    message = {"op": "invoke", "port": "ext", "method": "GET", "target": "/orders", "certificate": alice, "timeout": 10}
    answer = call(apart.state_dir, "edge", message, timeout=PATIENCE)
    assert answer["status"] == 200
    assert [lane["node"] for lane in answer["lanes"]] == ["edge", "inside"]


def test_a_node_s_machine_has_neither_django_nor_the_console(apart: RemoteInstallation) -> None:
    """What would be imported there cannot be (`machine/sitecustomize.py`), and all of this runs."""
    probe = "import gateway.relay.cli\nfor name in ('django', 'console', 'gateway.models'):\n    __import__(name)"
    done = subprocess.run([sys.executable, "-c", probe], env=apart.node_env, capture_output=True, text=True, timeout=30)
    assert "django is not on this machine" in done.stderr
    told = subprocess.run(
        [*POSTERN_NODE, "status", "--state", str(apart.folder_of("edge"))], env=apart.node_env, capture_output=True,
        text=True, timeout=30,
    )  # fmt: skip
    assert told.returncode == 0 and "linked" in told.stdout and "port      ext (external): listening" in told.stdout


def test_the_link_is_refused_to_everybody_else_and_everywhere_else(apart: RemoteInstallation) -> None:
    asked = link.upgrade("localhost")
    with apart.connection("reg", "inside-client") as sock:  # a registered node is not the console
        sock.sendall(asked)
        refused = read_answer(sock.makefile("rb"))
        assert (refused.status, refused.json["reason"]) == (403, "certificate_untrusted")
    with apart.connection("ext", "alice") as sock:
        sock.sendall(asked)
        assert read_answer(sock.makefile("rb")).status == 404
    with pytest.raises((ssl.SSLError, ConnectionError)), apart.connection("reg", "alice") as sock:
        sock.sendall(asked)
        read_answer(sock.makefile("rb"))


def test_a_node_s_certificate_opens_no_registration(apart: RemoteInstallation, tmp_path: Path) -> None:
    """It passes the handshake of a registration port, for the console's does; and there it ends."""
    identity = StateFolder(apart.folder_of("inside")).identity()
    pair = tmp_path / "pair.pem"
    pair.write_text(identity.certificate + identity.key)
    context = apart.context()
    context.load_cert_chain(pair)
    asked = handshake.Registering("inside-at-reg", "0123456789abcdef", 1_800_000_000.0)
    for what, reason in ((handshake.request(asked, "localhost"), "certificate_untrusted"),
                         (link.upgrade("localhost"), "certificate_untrusted")):  # fmt: skip
        with socket.create_connection(apart.address("reg"), 10) as plain, context.wrap_socket(plain) as sock:
            sock.sendall(what)
            assert read_answer(sock.makefile("rb")).json["reason"] == reason


def test_an_edge_s_whole_folder_holds_what_it_must_and_nothing_else(apart: RemoteInstallation) -> None:
    """Its ports take passwords and it answers APIs, so it maps; but it runs nothing, and believes no channel."""
    folder = apart.folder_of("edge")
    content = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    assert {oct(file.stat().st_mode & 0o777) for file in folder.rglob("*") if file.is_file()} == {"0o600"}
    assert {oct(file.stat().st_mode & 0o777) for file in folder.rglob("*") if file.is_dir()} == {"0o700"}
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        "identity.json", "configuration/whole"
    }  # fmt: skip
    document = json.loads((folder / "configuration" / "whole").read_bytes().partition(b"\n")[2])
    assert document["users"]["insider"] == {"groups": [], "enabled": True, "ports": ["dial"]}, "he is for another port"
    assert document["users"]["batch"]["password_hash"] and b"insiders-unit" not in content
    assert document["services"] == {} and document["keystores"].keys() == {"edge-server", "edge-client"}
    for foreign in ("inside-server", "inside-client"):
        # In one line, as JSON has it; the middle, for the last line of two keys of a kind may be alike.
        key = "".join(apart.pki[foreign].key_pem.splitlines()[1:-1])
        assert key not in content.replace(b"\\n", b"").decode("latin-1")
    backend = apart.topology["services"][2]["backend"]
    assert backend.encode() not in content and b"orders:submit" not in content
    assert apart.env["POSTERN_MASTER_KEY"].encode() not in content and apart.env["SECRET_KEY"].encode() not in content
    ours = subprocess_authority_key(apart)
    assert ours not in content.decode("latin-1")


def subprocess_authority_key(installation: RemoteInstallation) -> str:
    """The middle of the authority's private key, as the console has it sealed."""
    code = "from gateway.models import Authority; print(Authority.objects.get().pair.key.splitlines()[1])"
    return installation.manage("shell", "-v0", "-c", code).strip()


# --- what may be missing ---


def in_force(installation: RemoteInstallation, revision: int) -> None:
    installation.until(
        lambda: all(installation.revision(name) == revision for name in ("edge", "inside")),
        f"revision {revision} is in force on both",
    )  # fmt: skip


def latest(installation: RemoteInstallation) -> int:
    code = "from gateway.audit import current_revision; print(current_revision())"
    return int(installation.manage("shell", "-v0", "-c", code))


def map_stranger(installation: RemoteInstallation, user: str | None) -> int:
    stored = next(row for row in installation.topology["certificates"] if row["name"] == "stranger")
    stored.pop("user", None)
    if user:
        stored["user"] = user
    installation.apply()
    return latest(installation)


def test_a_courier_that_begins_anew_sends_what_changed_and_nothing_else(make: Make) -> None:
    """With 100,000 certificates the whole would take every node a second, for nothing."""
    installation = make().enrol_and_run("edge", "inside")
    files = {name: installation.folder_of(name) / "configuration" / "whole" for name in ("edge", "inside")}
    before = {name: file.stat().st_ino for name, file in files.items()}  # another file by each delivery
    installation.stop_courier()
    assert installation.stop("inside") == 0
    installation.run("inside")  # nor does it matter that a node has begun anew
    installation.start_courier()
    for name in files:
        installation.until(lambda name=name: installation.revision(name) is not None, f"{name} is linked again")
    in_force(installation, map_stranger(installation, "alice"))
    assert installation.request("ext", "/orders", "stranger").status == 200
    assert {name: file.stat().st_ino for name, file in files.items()} == before
    for file in files.values():
        assert [each.name.isdecimal() for each in sorted(file.parent.iterdir())] == [True, False], "one difference"


def test_traffic_goes_on_without_console_and_without_database(make: Make) -> None:
    installation = make().enrol_and_run("edge", "inside")
    log = installation.folder / "courier-0.log"
    # The database is gone, and the courier runs: links stay, and what it is asked it answers.
    with away(installation.env["DATABASE_URL"]):
        installation.until(lambda: "the database cannot be asked" in log.read_text(), "the courier has seen it")
        assert installation.request("ext", "/orders", "alice").status == 200
        assert installation.revision("edge") is not None
    in_force(installation, map_stranger(installation, "alice"))
    assert installation.request("ext", "/orders", "stranger").status == 200
    # The console is gone, and the nodes start again: from what they have.
    installation.stop_courier(signal.SIGKILL)
    for name in ("edge", "inside"):
        assert installation.stop(name) == 0
        installation.run(name)

    def serves() -> bool:
        try:
            return installation.request("ext", "/orders", "stranger").status == 200
        except OSError:
            return False

    installation.until(serves, "they serve by the last good configuration")
    about = installation.about("edge")
    assert not about["linked"] and about["age"] < 300
    with pytest.raises(ControlError, match="does not run here"):
        installation.state("edge")
    # A change that is made meanwhile is in force once the console is back.
    revision = map_stranger(installation, None)
    installation.start_courier()
    in_force(installation, revision)
    assert installation.request("ext", "/orders", "stranger").json["reason"] == "certificate_unmapped"


def test_two_consoles_write_and_deliver_at_once(make: Make) -> None:
    installation = make()
    other = f"127.0.0.1:{free_port()}"
    installation.env["CONSOLE_NODES_ADDRESS"] = f"{installation.links},{other}"
    installation.start_courier()
    installation.start_courier(CONSOLE_NODES_BIND=other, POSTERN_STATE_DIR=str(installation.folder / "other"))
    for name in ("edge", "inside"):
        installation.enrol(name)
        installation.run(name)
    installation.linked("edge", "inside")
    writers = [
        subprocess.Popen(
            [sys.executable, "manage.py", "shell", "-v0", "-c", WRITE_USERS.format(who=who)], cwd=ROOT,
            env=installation.env,
        )
        for who in ("one", "two")
    ]  # fmt: skip
    assert [writer.wait(60) for writer in writers] == [0, 0]
    revision = latest(installation)
    in_force(installation, revision)
    installation.until(
        lambda: call(installation.folder / "other", "edge", {"op": "state"})["revision"] == revision,
        "both consoles say so",
    )
    document = json.loads(installation.manage("shell", "-v0", "-c", PRINT_DOCUMENT))
    assert {f"{who}{n}" for who in ("one", "two") for n in range(8)} <= document["users"].keys()
    assert StateFolder(installation.folder_of("inside")).load(
        StateFolder(installation.folder_of("inside")).identity().pinned, "inside"
    ).document == document  # type: ignore[union-attr]  # fmt: skip


WRITE_USERS = """
from gateway.audit import change_set
from identity.models import User
for n in range(8):
    with change_set("test", "a user"):
        User(name=f"{who}{{n}}").save()
"""
PRINT_DOCUMENT = "import json; from gateway.compile import document_of; print(json.dumps(document_of('inside')))"


def test_a_node_that_is_disowned_is_heard_no_more(make: Make) -> None:
    installation = make().enrol_and_run("edge", "inside")
    installation.manage("disown", "--node", "inside")
    installation.until(lambda: not installation.about("inside")["linked"], "its link has ended")
    with pytest.raises(ControlError, match="does not run here"):
        installation.state("inside")
    refused = "disowned, or has another certificate by now"
    log = installation.folder / "courier-0.log"
    installation.until(lambda: refused in log.read_text(), "it came again, and was refused")
    # What it has, it goes on with; a registration is disabled where its edge is told.
    assert installation.request("ext", "/orders", "alice").status == 200
    installation.topology["registrations"][0]["enabled"] = False
    installation.apply()
    installation.until(
        lambda: installation.request("ext", "/orders", "alice").json.get("reason") == "no_internal_connection",
        "its tunnels are gone",
    )  # fmt: skip
    # Enrolled again, it is heard.
    installation.stop("inside")
    installation.enrol("inside")
    installation.run("inside")
    installation.until(lambda: installation.revision("inside") is not None, "it is linked again")


def test_certificates_renew_by_themselves(make: Make) -> None:
    installation = make()
    installation.start_courier()
    installation.enrol_all("inside", days_ago=70)
    folder = StateFolder(installation.folder_of("inside"))
    old = folder.identity()
    installation.run("inside")
    installation.until(lambda: folder.identity().certificate != old.certificate, "it has another one")
    installation.until(lambda: installation.revision("inside") is not None, "it is linked by that")
    assert not is_due(folder.identity().pair.parsed, utc_now())
    serial = serial_of(folder.identity().pair.parsed)
    installation.until(
        lambda: installation.manage("shell", "-v0", "-c", PRINT_SERIALS).split() == [serial],
        "the old one counts no more",
    )  # fmt: skip


PRINT_SERIALS = (
    "from gateway.models import Enrolment as E; print(*E.objects.values_list('serial', 'next_serial').get())"
)


def test_a_bundle_is_used_once_and_in_time(make: Make) -> None:
    installation = make()
    installation.start_courier()
    bundle = installation.manage("bundle", "--node", "inside").strip()

    def enrol(text: str, folder: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*POSTERN_NODE, "enrol", "--state", str(installation.folder / folder), text], env=installation.node_env,
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    installation.until(lambda: "nodes are taken" in installation.logs(), "the courier listens")
    installation.until(lambda: enrol(bundle, "one").returncode == 0, "the courier has seen the bundle")
    again = enrol(bundle, "two")
    assert again.returncode == 1 and "no bundle for node inside that can still be used" in again.stderr
    newer = installation.manage("bundle", "--node", "inside").strip()
    changed = read_bundle(newer)
    for field, words in ({"secret": "guessed"}, "secret"), ({"node": "edge"}, "no bundle for node edge"), (
        {"expires": 1}, "time is over"
    ):  # fmt: skip
        refused = enrol(dataclasses.replace(changed, **field).text(), "three")
        assert refused.returncode == 1 and words in refused.stderr, refused.stderr
    assert "begins with" in enrol("postern-", "four").stderr
    assert "cut short" in enrol(newer[:-9], "four").stderr


def test_clocks_that_are_ten_minutes_off_change_nothing(make: Make) -> None:
    """Tokens are told in the internal node's time, and certificates of nodes are backdated."""
    installation = make()
    installation.start_courier()
    for name, skew in (("edge", "-600"), ("inside", "600")):
        installation.enrol(name, SKEW=skew)
        installation.run(name, SKEW=skew)
    installation.linked("edge", "inside")
    assert installation.request("ext", "/orders", "alice").json["user"] == "alice"
    assert installation.request("ext", "/gateway/certificate", "alice").json["user"] == "api_gateway"
    behind = installation.state("edge")["clock"]
    assert installation.state("inside")["clock"] - behind > 1199, "it was asked later, too"
    in_force(installation, map_stranger(installation, "alice"))
    assert installation.request("ext", "/orders", "stranger").status == 200
