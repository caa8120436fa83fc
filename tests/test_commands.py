"""What the two commands are made of: keys, demo, first operator, what is checked before anything starts."""

import base64
import http.client
import io
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.db.models import Max
from packaging.requirements import Requirement

from console import environment, operators
from console.authentication import locked_until, note_failure
from console.demo import seed
from console.free_ports import free_port, obstacle
from console.models import Operator, Role
from gateway.models import ChangeSet, Node, Port
from gateway.simulation import simulate
from identity.core.files import certificates_from
from tests.databases import new_database
from tests.factories import NodeFactory, RegularPortFactory

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def somebody_listens() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


# --- what is installed ---


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    for requirement in map(Requirement, wanted):
        version = pinned.get(requirement.name.lower())
        assert version is not None, f"constraints.txt lacks {requirement.name}"
        assert version in requirement.specifier, f"{requirement} does not allow {version}"


# --- the keys of a new installation ---


def values_of(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_keys_are_made_once_for_this_account_alone(tmp_path: Path) -> None:
    path = environment.ensure(tmp_path / "var", {})
    assert path == tmp_path / "var" / "postern.env"
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    first = path.read_text()
    assert environment.ensure(tmp_path / "var", {}) is None
    assert path.read_text() == first
    assert set(values_of(path)) == {"SECRET_KEY", "POSTERN_MASTER_KEY", "CONSOLE_BIND"}


def test_settings_take_what_was_made(tmp_path: Path) -> None:
    path = environment.ensure(tmp_path / "var", {})
    code = "from django.conf import settings; print(len(settings.POSTERN_MASTER_KEY), len(settings.SECRET_KEY) > 50)"
    clean = {"PATH": os.environ["PATH"], "POSTERN_ENV_FILE": str(path), "DJANGO_SETTINGS_MODULE": "console.settings"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    assert ran.stdout == "32 True\n"


def test_two_installations_have_different_keys(tmp_path: Path) -> None:
    paths = [environment.ensure(tmp_path / name / "var", {}) for name in ("one", "other")]
    one, other = (values_of(path) for path in paths if path)
    assert one["SECRET_KEY"] != other["SECRET_KEY"]
    assert one["POSTERN_MASTER_KEY"] != other["POSTERN_MASTER_KEY"]


def test_no_new_keys_for_a_database_whose_keys_are_gone(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "db.sqlite3").touch()
    with pytest.raises(environment.KeysLost, match=r"db\.sqlite3 is there, and .*postern\.env.* is not"):
        environment.ensure(tmp_path / "var", {})
    assert not (tmp_path / "var" / "postern.env").exists()


def test_nothing_is_made_where_the_keys_come_from_the_environment(tmp_path: Path) -> None:
    assert environment.ensure(tmp_path / "var", {"SECRET_KEY": "x", "POSTERN_MASTER_KEY_FILE": "/run/key"}) is None
    assert not (tmp_path / "var").exists()


def test_a_key_is_made_where_nothing_is_configured_yet_and_what_is_missing_is_told_in_a_line(tmp_path: Path) -> None:
    def run(command: str) -> subprocess.CompletedProcess[str]:
        bare = {"PATH": os.environ["PATH"], "POSTERN_HOME": str(tmp_path)}
        ask = [sys.executable, str(ROOT / "manage.py"), command]
        return subprocess.run(ask, env=bare, capture_output=True, text=True, timeout=60)

    assert len(base64.urlsafe_b64decode(run("new-key").stdout.strip())) == 32
    refused = run("doctor")
    assert refused.returncode == 1
    assert refused.stderr.startswith("This cannot be started as it is configured. Set SECRET_KEY")
    assert "Traceback" not in refused.stderr


def test_the_file_may_lie_elsewhere(tmp_path: Path) -> None:
    wanted = tmp_path / "etc" / "keys.env"
    assert environment.ensure(tmp_path / "var", {"POSTERN_ENV_FILE": str(wanted)}) == wanted


# --- free ports ---


def test_an_address_in_use_is_told_from_a_free_one() -> None:
    with somebody_listens() as port:
        assert obstacle("127.0.0.1", port) == "another program listens there already"
    assert obstacle("127.0.0.1", port) is None


def test_an_address_of_another_machine_is_told() -> None:
    assert obstacle("192.0.2.1", 8443) == "it is no address of this machine"


def test_a_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with somebody_listens() as port:
        found = free_port(port)
    assert found != port
    assert free_port(found) == found
    assert free_port(found, taken=frozenset({found})) != found


# --- the demo ---


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    """Where `prepare` writes in place of `var`."""
    settings.POSTERN_STATE_DIR = tmp_path / "state"
    settings.STATIC_ROOT = tmp_path / "static"
    return tmp_path


def prepare(*arguments: str) -> str:
    output = io.StringIO()
    call_command("prepare", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def demo(home: Path, db: None) -> Path:
    """The demo's folder, freshly seeded."""
    return seed.seed().parent


def revision() -> int | None:
    return ChangeSet.objects.aggregate(last=Max("id"))["last"]


@pytest.mark.django_db
def test_prepare_makes_the_demo_and_the_first_operator_once(home: Path) -> None:
    output = prepare("--demo")
    assert set(Node.objects.values_list("name", flat=True)) == {"edge", "inside"}
    password = re.search(r"admin, one-time password: (\S+)", output)
    assert password is not None
    operator = authenticate(username="admin", password=password[1])
    assert isinstance(operator, Operator)
    assert operator.role == Role.OWNER
    before = revision(), (home / "demo" / "alice.key").read_bytes()
    assert prepare("--demo") == ""
    assert (revision(), (home / "demo" / "alice.key").read_bytes()) == before


@pytest.mark.django_db
def test_without_demo_nothing_is_configured(home: Path) -> None:
    prepare()
    assert not Node.objects.exists()
    assert Operator.objects.get().username == "admin"
    assert not (home / "demo").exists()


@pytest.mark.django_db
def test_what_was_deleted_on_purpose_is_not_seeded_again(home: Path) -> None:
    prepare("--demo")
    empty = home / "empty.yaml"
    empty.write_text("version: 1\n")
    call_command("apply", "--prune", str(empty), stdout=io.StringIO(), stderr=io.StringIO())
    assert prepare("--demo") == ""
    assert not Node.objects.exists()


def test_the_demos_files_are_this_accounts_alone(demo: Path) -> None:
    assert stat.S_IMODE(demo.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in demo.iterdir()} == {0o600}


def test_the_demos_file_applied_again_changes_nothing(demo: Path) -> None:
    output = io.StringIO()
    call_command("apply", str(demo / "topology.yaml"), stdout=output, stderr=io.StringIO())
    assert output.getvalue() == "Nothing to change.\n"


def test_the_demo_moves_away_from_ports_that_are_taken(home: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with somebody_listens() as port:
        monkeypatch.setattr(seed, "PORTS", seed.PORTS | {"ext": port})
        seed.seed()
    assert Port.objects.get(name="ext").bind != f"127.0.0.1:{port}"


# What the demo is there to show: certificate, path → the user that it runs as in the end, or the reason why not.
SHOWN = {
    "a partner with a mapping": ("alice", "/orders", "alice"),
    "a partner by a rule": ("dave", "/orders", "dave"),
    "a certificate that ends soon": ("carol", "/orders", "carol"),
    "on file and mapped to nobody": ("stranger", "/orders", "certificate_unmapped"),
    "not on file": ("newcomer", "/orders", "certificate_unmapped"),
    "expired": ("bob", "/orders", "certificate_expired"),
    "no credential": (None, "/orders", "authentication_required"),
    "open to everybody": (None, "/status", "Default"),
    "the forum case": ("alice", "/gateway/certificate", "api_gateway"),
    "an endpoint that hands the caller on": ("alice", "/gateway/caller", "alice"),
    "an endpoint with a password": ("alice", "/gateway/basic", "batch"),
    "an endpoint with no identity": ("alice", "/gateway/anonymous", "endpoint_refused"),
    "an API opened on purpose": (None, "/gateway/opened", "api_gateway"),
}


def test_the_demo_shows_what_it_is_there_for(demo: Path) -> None:
    def outcome(name: str | None, path: str) -> str:
        certificate = certificates_from((demo / f"{name}.pem").read_bytes())[0].der if name else None
        answer = simulate("ext", "GET", path, certificate=certificate)
        return str(answer["reason"] or answer["lanes"][-1]["user"])

    found = {case: outcome(name, path) for case, (name, path, _) in SHOWN.items()}
    assert found == {case: expected for case, (_, _, expected) in SHOWN.items()}


def test_the_curl_line_names_what_is_there(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.parent)
    number = Port.objects.get(name="ext").bind.rpartition(":")[2]
    assert seed.curl_line() == (
        f"curl --cacert demo/server-ca.pem --cert demo/alice.pem --key demo/alice.key https://localhost:{number}/orders"
    )
    (demo / "alice.key").unlink()
    assert seed.curl_line() is None


# --- operators ---


@pytest.fixture
def anna(db: None) -> tuple[Operator, str]:
    password = operators.create("anna", Role.VIEWER, "tests")
    return Operator.objects.get(username="anna"), password


def test_a_lost_password_is_replaced_and_the_lock_ends(anna: tuple[Operator, str], settings: Any) -> None:
    _, old = anna
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        note_failure("anna", "192.0.2.7")
    output = io.StringIO()
    call_command("operator-password", "anna", stdout=output)
    new = re.search(r"one-time password of anna: (\S+)", output.getvalue())
    assert new is not None
    assert authenticate(username="anna", password=new[1]) is not None
    assert authenticate(username="anna", password=old) is None
    assert locked_until("anna", "192.0.2.8") is None


def test_a_new_password_is_recorded_and_not_shown(anna: tuple[Operator, str]) -> None:
    output = io.StringIO()
    call_command("operator-password", "anna", stdout=output)
    change = ChangeSet.objects.latest("id").changes.get()
    assert (change.kind, change.name, change.after["password"]) == ("operators", "anna", "set anew")
    assert not ChangeSet.objects.latest("id").configures


def test_an_operator_who_is_not_there(anna: tuple[Operator, str]) -> None:
    with pytest.raises(CommandError, match=r"There is no operator 'ana'\. There are: anna\."):
        call_command("operator-password", "ana")


# --- what serve checks before it starts anything ---


def test_a_port_that_is_taken_is_told_with_the_way_out(home: Path, db: None) -> None:
    with somebody_listens() as port:
        row = RegularPortFactory(name="front", bind=f"127.0.0.1:{port}", node__name="inside")
        with pytest.raises(CommandError) as raised:
            call_command("serve", "--no-console")
    assert f"Port front of node inside cannot listen at {row.bind}: another program" in str(raised.value)
    assert "manage.py apply" in str(raised.value)


def test_a_console_whose_address_is_taken_is_told_with_the_way_out(home: Path, db: None) -> None:
    with somebody_listens() as port, pytest.raises(CommandError, match="CONSOLE_BIND=") as raised:
        call_command("serve", "--bind", f"127.0.0.1:{port}")
    assert f"The console cannot listen at 127.0.0.1:{port}" in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--node", "edg"], "There is no node 'edg'. Configured: edge, inside.", id="an-unknown-node"),
        pytest.param(["--bind", "8000"], "--bind (CONSOLE_BIND): '8000' needs a port number", id="no-address"),
        pytest.param(["--bind", "gw.example:80"], "listen at an IP address", id="a-name-for-an-address"),
        pytest.param(["--no-nodes", "--no-console"], "--no-nodes goes with neither", id="nothing-at-all"),
        pytest.param(["--no-nodes", "--node", "edge"], "--no-nodes goes with neither", id="no-nodes-and-a-node"),
    ],
)
def test_serve_refuses(home: Path, db: None, arguments: list[str], message: str) -> None:
    NodeFactory(name="edge")
    NodeFactory(name="inside", role="internal")
    with pytest.raises(CommandError, match=re.escape(message)):
        call_command("serve", *arguments)


def test_serve_with_nothing_to_run(home: Path, db: None) -> None:
    with pytest.raises(CommandError, match="There is nothing to run"):
        call_command("serve", "--no-console")


def test_a_state_folder_too_deep_for_a_socket_is_told(home: Path, db: None, settings: Any) -> None:
    settings.POSTERN_STATE_DIR = home / ("x" * 100)
    NodeFactory()
    with pytest.raises(CommandError, match="too long for a socket: set POSTERN_STATE_DIR"):
        call_command("serve", "--no-console")


# --- the whole ---


@pytest.fixture
def installation() -> Iterator[dict[str, str]]:
    """The environment of an installation of its own; in a short path, for its sockets' sake."""
    folder = Path(tempfile.mkdtemp(prefix="postern-"))
    yield {
        "PATH": os.environ["PATH"],
        "POSTERN_ENV_FILE": str(folder / "postern.env"),
        "POSTERN_STATE_DIR": str(folder / "state"),
        "DATABASE_URL": new_database(folder),
        "STATIC_ROOT": str(folder / "static"),
        "PYTHONWARNINGS": "error",
    }
    shutil.rmtree(folder)


def ask(number: int, folder: Path, name: str) -> tuple[int, bytes]:
    """GET /orders with a certificate of the demo."""
    context = ssl.create_default_context(cafile=folder / "server-ca.pem")
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    connection = http.client.HTTPSConnection("localhost", number, context=context, timeout=30)
    try:
        connection.request("GET", "/orders")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_an_empty_folder_becomes_a_gateway_that_answers(installation: dict[str, str]) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=ROOT, env=installation, capture_output=True, text=True, check=True).stdout

    run("-m", "console.environment")
    run("manage.py", "prepare", "--demo")
    serve = [sys.executable, "manage.py", "serve"]
    with subprocess.Popen(serve, cwd=ROOT, env=installation, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "Try: curl" in line:
                break
        output = "".join(said)
        try:
            number = int(re.search(r"https://localhost:(\d+)/orders", output)[1])  # type: ignore[index]
            console = re.search(r"Console: http://(127\.0\.0\.1:\d+)/", output)[1]  # type: ignore[index]
            demo = Path(installation["POSTERN_STATE_DIR"]).parent / "demo"
            status, body = ask(number, demo, "alice")
            assert status == 200, body
            assert b'"user": "alice"' in body
            assert ask(number, demo, "stranger")[0] == 403
            page = http.client.HTTPConnection(console, timeout=30)
            page.request("GET", "/login/")
            assert page.getresponse().status == 200
            page.close()
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
    assert process.returncode == 0
    assert "serve   | stopping" in rest
    assert rest.endswith("serve   | stopped\n")
    assert "Traceback" not in output + rest


def test_a_console_whose_nodes_are_all_elsewhere_waits_for_them(installation: dict[str, str]) -> None:
    """Nothing of the nodes is looked at here, and the courier is there before the first of them is enrolled."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], cwd=ROOT, env=installation, capture_output=True, check=True)

    run("-m", "console.environment")
    run("manage.py", "prepare", "--demo")
    serve = [sys.executable, "manage.py", "serve", "--no-nodes"]
    with somebody_listens() as taken:
        there = installation | {"CONSOLE_NODES_BIND": f"127.0.0.1:{taken}", "CONSOLE_URL": "https://console.example"}
        with subprocess.Popen(serve, cwd=ROOT, env=there, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said, awaited = "", ["cannot be listened at", "Console: "]
            try:
                while not all(words in said for words in awaited) and (line := process.stdout.readline()):
                    said += line
            finally:
                process.send_signal(signal.SIGTERM)
                said += process.stdout.read()
    assert f"127.0.0.1:{taken} cannot be listened at" in said
    assert re.search(r"Console: https://console\.example/ \(it listens at 127\.0\.0\.1:\d+\)", said)
    assert not re.search(r"^(edge|inside)\s+\|", said, re.MULTILINE)
