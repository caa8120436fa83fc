"""The doctor finds what is wrong, says what to do, and shows no secret."""

import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gateway.audit import current_revision
from gateway.relay import frames
from gateway.relay.control import socket_path
from identity.models import Keystore
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    """An installation's folder, as it should be."""
    settings.POSTERN_STATE_DIR, settings.POSTERN_ENV_FILE = tmp_path / "state", tmp_path / "postern.env"
    settings.POSTERN_STATE_DIR.mkdir(mode=0o700)
    settings.POSTERN_ENV_FILE.touch(0o600)
    return tmp_path


def examined() -> tuple[str, bool]:
    """What it says, and whether it calls something wrong."""
    said = io.StringIO()
    try:
        call_command("doctor", stdout=said)
    except CommandError:
        return said.getvalue(), True
    return said.getvalue(), False


@contextmanager
def node_that_says(state_dir: Path, name: str, **more: Any) -> Iterator[None]:
    """A control socket that answers every question with a state."""
    path = socket_path(state_dir, name)
    path.parent.mkdir(parents=True, mode=0o700)
    state = {"node": name, "revision": current_revision(), "ports": [], "tunnels": [], "clock": time.time(), **more}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            with server.accept()[0] as client:
                frames.receive(client)
                client.sendall(frames.encode(state))

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(10)


def test_an_installation_in_order_is_called_so(home: Path) -> None:
    node = factories.NodeFactory(name="edge")
    with node_that_says(home / "state", node.name):
        said, wrong = examined()
    assert not wrong, said
    assert "ok   node edge: runs" in said
    assert "ok   clock of node edge" in said
    assert "postern.env: only this account may read it" in said


@pytest.mark.parametrize("name", ["postern.env", "state"])
def test_what_others_may_read_is_told_with_the_mend(home: Path, name: str) -> None:
    (home / name).chmod(0o755)
    said, wrong = examined()
    assert wrong
    assert f"{home / name}: other accounts may use it (mode 755)" in said
    assert f"→ chmod {'700' if name == 'state' else '600'} {home / name}" in said


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(600.0, "BAD  clock of node edge: 600 s ahead of"), (-10.0, "WARN clock of node edge: 10 s behind")],
)
def test_a_clock_that_is_off_is_told(home: Path, ahead: float, words: str) -> None:
    factories.NodeFactory(name="edge")
    with node_that_says(home / "state", "edge", clock=time.time() + ahead):
        said, _ = examined()
    assert words in said
    assert "→ Have both hosts keep time by NTP." in said


def test_a_secret_that_does_not_open_is_told_and_not_shown(home: Path) -> None:
    keystore = factories.KeystoreFactory(name="edge-server")
    Keystore.objects.filter(pk=keystore.pk).update(private_key=b"\x01" + b"other" * 20)
    said, wrong = examined()
    assert wrong
    assert "BAD  keystore edge-server: " in said
    assert "sealed under a master key that is not configured" in said


def test_what_a_node_calls_is_tried(home: Path) -> None:
    with socket.socket() as listener, socket.socket() as closed:
        for each in (listener, closed):
            each.bind(("127.0.0.1", 0))
        listener.listen()
        node = factories.NodeFactory(name="inside")
        for name, port in (("answers", listener), ("silent", closed)):
            factories.ServiceFactory(name=name, node=node, path=f"/{name}", builtin="",
                                     backend=f"http://127.0.0.1:{port.getsockname()[1]}")  # fmt: skip
        with node_that_says(home / "state", "inside"):
            said, wrong = examined()
        assert wrong
        assert f"ok   127.0.0.1:{listener.getsockname()[1]}: takes a connection (service answers)" in said
        assert f"BAD  127.0.0.1:{closed.getsockname()[1]}: Connection refused (service silent)" in said


def test_a_node_that_is_behind_or_away_is_told(home: Path) -> None:
    factories.NodeFactory(name="edge")
    factories.NodeFactory(name="away")
    with node_that_says(home / "state", "edge", revision=0):
        said, _ = examined()
    assert "WARN node edge: works by revision 0" in said
    assert "WARN node away: Node away does not run here" in said


def test_only_problems_on_request(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("doctor", "--problems")
    assert "ok  " not in capsys.readouterr().out


def test_settings_for_https_are_clean() -> None:
    """As `CONSOLE_HTTPS=true` sets them; run in a process of its own, where the settings are read."""
    root = Path(__file__).resolve().parents[2]
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "console.settings", "CONSOLE_HTTPS": "true"}
    done = subprocess.run([sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], cwd=root,
                          env=env, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_proxy_that_nobody_believes_is_told(home: Path, settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Else everybody comes from one address, and guesses of one shut out all."""
    settings.CONSOLE_HTTPS = True
    call_command("doctor", "--problems")
    assert "name it in CONSOLE_TRUSTED_PROXIES" in capsys.readouterr().out
    settings.CONSOLE_TRUSTED_PROXIES = (ip_network("10.0.0.7"),)
    call_command("doctor", "--problems")
    assert "CONSOLE_TRUSTED_PROXIES" not in capsys.readouterr().out
