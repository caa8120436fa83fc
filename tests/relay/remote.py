"""An installation whose nodes run on machines of their own, as far as one machine can play several: each has its own
state folder, sees no database, and is enrolled like any."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.relay.control import ControlError, call
from gateway.relay.statefolder import Identity, StateFolder
from identity.core import authority
from tests.ports import free_port
from tests.relay.installation import PATIENCE, ROOT, Installation

POSTERN_NODE = (sys.executable, "-m", "gateway.relay.cli")


_CERTIFY = """
import json
from datetime import timedelta
from django.utils import timezone
from gateway import enrolments
from gateway.models import Node
def certify(asked, days_ago):
    found, now = {}, timezone.now() - timedelta(days=days_ago)
    for name, request in asked.items():
        bundle = enrolments.offer(Node.objects.get(name=name), "test", None)
        found[name] = enrolments.certify(name, request, bundle.key, now=now)
    return json.dumps({"authority": enrolments.authority_row().certificate, "certificates": found})
"""


@dataclass
class RemoteInstallation(Installation):
    """`state_dir` is the console's; a node's own folder is `folder_of(name)`."""

    links: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    couriers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.env |= {"CONSOLE_NODES_BIND": self.links}
        # A node gets nothing of the console's: not even the names of its settings.
        path = f"{ROOT / 'tests' / 'relay' / 'machine'}:{ROOT}"
        self.node_env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONWARNINGS": "error"}

    def within(self, machine: str) -> list[str]:
        """What a command is begun with to run on a node's machine, or on the `console`'s."""
        return []

    def _command(self, name: str, command: str, *words: str) -> list[str]:
        return [*self.within(name), *POSTERN_NODE, command, "--state", str(self.folder_of(name)), *words]

    def folder_of(self, name: str) -> Path:
        return self.folder / f"machine-{name}"

    def start_courier(self, **env: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"courier-{len(self.couriers)}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.within("console"), sys.executable, "manage.py", "courier"],
                cwd=ROOT,
                env=self.env | env,
                stdout=log,
                stderr=log,
            )
        self.couriers.append(process)
        return process

    def stop_courier(self, number: int = signal.SIGTERM) -> None:
        courier = self.couriers.pop()
        courier.send_signal(number)
        courier.wait(PATIENCE)

    def enrol(self, name: str, **env: str) -> None:
        bundle = self.manage("bundle", "--node", name).strip()
        done = subprocess.run(
            self._command(name, "enrol", "--wait", "20", "-"), input=bundle, cwd=self.folder,
            env=self.node_env | env, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def enrol_all(self, *names: str, days_ago: int = 0) -> None:
        """Many at once, without their bundles' journey; their keys are made here."""
        keys = {name: authority.new_key() for name in names}
        asked = {name: authority.request(key, name) for name, key in keys.items()}
        given = json.loads(self.manage("shell", "-v0", "-c", f"{_CERTIFY}\nprint(certify({asked!r}, {days_ago}))"))
        for name, certificate in given["certificates"].items():
            folder = StateFolder(self.folder_of(name))
            folder.prepare()
            folder.save_identity(Identity(name, "internal", certificate, given["authority"], keys[name], (self.links,)))

    def run(self, *names: str, options: tuple[str, ...] = (), **env: str) -> None:
        for name in names:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.nodes[name] = subprocess.Popen(
                    self._command(name, "run", *options), cwd=self.folder, env=self.node_env | env,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip

    def enrol_and_run(self, *names: str) -> "RemoteInstallation":
        self.start_courier()
        for name in names:
            self.enrol(name)
            self.run(name)
        return self.linked(*names)

    def linked(self, *names: str) -> "RemoteInstallation":
        """Each is, and has a configuration; and every registration has a tunnel."""
        self.until(lambda: all(self.revision(name) is not None for name in names), "all are linked")
        self.ready()
        return self

    def revision(self, name: str) -> int | None:
        """In force, as the console is told; None where it is told nothing."""
        try:
            return int(self.state(name)["revision"])
        except ControlError:
            return None

    def about(self, name: str) -> dict[str, Any]:
        """What the node itself says of its configuration, on its own machine."""
        told: dict[str, Any] = call(self.folder_of(name), name, {"op": "state"})["configuration"]
        return told

    def close(self) -> None:
        super().close()
        while self.couriers:
            self.stop_courier()
