"""A whole installation for a browser: a database in a file, an edge and an internal node, and the console.

All of it runs as its users run it, in processes of their own: `manage.py relay`, `worker` and `runserver`.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from gateway.relay.control import ControlError, call
from tests.databases import new_database
from tests.factories import partner_ca, server_ca
from tests.minting import mint
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40.0  # for a process to answer, on a machine that is busy with other tests
SETTLE_SECONDS = 40.0  # for a change to be in force on every node
PAUSE = 0.05  # seconds between two looks
METRICS_TOKEN = "for one installation of a test"


class Installation:
    """`with Installation(folder, "olivia", PASSWORD) as place:`; `place.url` is the console's address.

    The operator, an owner, is made while the nodes and the console start.

    The edge's port `ext` shows /orders alone and hands it on; inside stands service `orders` behind ACL `Orders`,
    which lets nobody in, and port `dial` shows `inside_shows`, by default nothing.
    """

    nodes = ("edge", "inside")

    def __init__(self, folder: Path, operator: str, password: str, *, inside_shows: tuple[str, ...] = ()) -> None:
        self._operator, self._password = operator, password
        self.folder, self.state_dir, self._inside_shows = folder, folder / "state", inside_shows
        self.database = new_database(folder, migrated=True)
        self.ports = {name: free_port() for name in ("console", "ext", "reg")}
        self.url = f"http://127.0.0.1:{self.ports['console']}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Installation":
        try:
            topology = self.folder / "topology.yaml"
            topology.write_text(yaml.safe_dump(self._topology()))
            self._manage("apply", str(topology))
            for node in self.nodes:
                self._start(node, "relay", "--node", node)
            self._start("console", "runserver", "--noreload", f"127.0.0.1:{self.ports['console']}")
            self._start("worker", "worker")
            self._add_operator()
            for name in self.ports:
                self._wait_for_port(name)
            self.settle()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def _add_operator(self) -> None:
        code = (
            "import sys; from console.models import Operator; "
            f"Operator.objects.create_operator({self._operator!r}, sys.stdin.readline().strip(), 'owner')"
        )
        self._manage("shell", "-v0", "-c", code, feed=f"{self._password}\n")

    def settle(self) -> None:
        """Until every node works by the last revision, and the tunnel stands."""
        wanted = self._revision()
        self._wait(lambda: all(self._in_force(node, wanted) for node in self.nodes), SETTLE_SECONDS, "settled")

    def _in_force(self, node: str, revision: int) -> bool:
        try:
            state = call(self.state_dir, node, {"op": "state"}, timeout=30)
        except ControlError:
            return False
        return state["revision"] == revision and any(each["idle"] for each in state["tunnels"])

    def _revision(self) -> int:
        """As the console's metrics tell it: to start a program for the question takes longer than the settling."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["console"], timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
            told = dict(line.rsplit(" ", 1) for line in connection.getresponse().read().decode().splitlines())
        return int(float(told["postern_revision"]))

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "CONSOLE_METRICS_TOKEN": METRICS_TOKEN,
            "DATABASE_URL": self.database,
            "DEBUG": "1",  # the console serves its files as they are
            "DJANGO_SETTINGS_MODULE": "console.settings",
            "POSTERN_STATE_DIR": str(self.state_dir),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _manage(self, *arguments: str, feed: str = "") -> str:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(
            command,
            env=self._environment(),
            cwd=ROOT,
            input=feed,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _start(self, name: str, *arguments: str) -> None:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, env=self._environment(), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )

    def _wait_for_port(self, name: str) -> None:
        def answers() -> bool:
            for process, running in self._running.items():
                assert running.poll() is None, f"{process} ended: {self._log(process)}"
            with socket.socket() as probe:
                probe.settimeout(1.0)
                return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

        self._wait(answers, START_SECONDS, f"listening at {name}")

    def _wait(self, done: Any, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"not {what} after {seconds:.0f} s: {[self._log(n) for n in self._running]}"
            time.sleep(PAUSE)

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def _stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _topology(self) -> dict[str, Any]:
        inside = mint("CN=inside,O=Acme", server_ca())
        edge = mint("CN=localhost,O=Acme", server_ca(), purpose="server", san=["dns:localhost", "ip:127.0.0.1"])
        return {
            "version": 1,
            "nodes": [{"name": "edge", "role": "edge"}, {"name": "inside", "role": "internal"}],
            "truststores": [
                {"name": "partners", "certificates": partner_ca().pem},
                {"name": "servers", "certificates": server_ca().pem},
            ],
            "keystores": [
                {"name": "edge-server", "certificate": edge.pem, "private_key": edge.key_pem},
                {"name": "inside-client", "certificate": inside.pem, "private_key": inside.key_pem},
            ],
            "groups": [{"name": "Partners"}],
            "users": [{"name": "alice", "groups": ["Partners"]}],
            "acls": [{"name": "Orders"}],
            "services": [
                {"name": "orders", "node": "inside", "path": "/orders", "builtin": "whoami", "execute_acl": "Orders"}
            ],
            "ports": [
                {
                    "name": "ext",
                    "node": "edge",
                    "type": "external",
                    "bind": f"127.0.0.1:{self.ports['ext']}",
                    "tls": {"keystore": "edge-server", "truststore": "partners"},
                    "client_auth": "request",
                    "registration_port": "reg",
                    "service_access": {"default": "deny", "allow": ["/orders"]},
                },
                {
                    "name": "reg",
                    "node": "edge",
                    "type": "registration",
                    "bind": f"127.0.0.1:{self.ports['reg']}",
                    "tls": {"keystore": "edge-server", "truststore": "servers"},
                    "client_auth": "require",
                },
                {
                    "name": "dial",
                    "node": "inside",
                    "type": "internal",
                    "connect": [{"address": f"127.0.0.1:{self.ports['reg']}", "registration": "inside-at-reg"}],
                    "tls": {"keystore": "inside-client", "truststore": "servers", "server_name": "localhost"},
                    "client_auth": "request",
                    "client_truststore": "partners",
                    "service_access": {"default": "deny", "allow": list(self._inside_shows)},
                },
            ],
            "registrations": [
                {
                    "name": "inside-at-reg",
                    "port": "reg",
                    "node": "inside",
                    "certificate": inside.pem,
                    "allow_test": True,
                }
            ],
        }
