"""Runs one node's relay process and feeds it configuration: the one push path from rows to a node in force.

The relay itself knows neither Django nor the database, so compiling a snapshot never costs a request time.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.db import DatabaseError, close_old_connections

from gateway.audit import current_revision
from gateway.compile import UnknownNode, document_of
from gateway.relay import frames

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # how soon a change is seen
APPLY_TIMEOUT = 60.0  # seconds for a node to put a document in force


class Feed:
    """The parent's end of one relay process."""

    def __init__(self, node: str, state_dir: Path) -> None:
        self.node, self.state_dir = node, state_dir
        self.revision = -1
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def run(self) -> int:
        """Until the relay ends; its exit status.

        Raises:
            UnknownNode
        """
        document = document_of(self.node)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with theirs:
            command = [sys.executable, "-m", "gateway.relay", "--node", self.node,
                       "--state", str(self.state_dir), "--feed", str(theirs.fileno())]  # fmt: skip
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=_environment())  # noqa: S603
        self._socket = ours
        if self._stopping:  # the signal came while the process was being made
            self._process.terminate()
        with ours:
            if self._push(document):
                self._watch()
        return self._process.wait()

    def _stop(self, number: int, _: Any) -> None:
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _push(self, document: dict[str, Any]) -> bool:
        """Send a document and wait for the word on it. False when the process is gone."""
        assert self._socket is not None
        self._socket.settimeout(APPLY_TIMEOUT)
        try:
            self._socket.sendall(frames.encode({"document": document}))
            answer = frames.receive(self._socket)
        except OSError as error:
            if not self._stopping:
                log.error("node %s: the relay does not take its configuration: %s", self.node, error)
            return False
        if answer is None:
            return False
        # What was refused is not tried again until it changes; what is in force stays, and the relay says why.
        self.revision = document["revision"]
        return True

    def _watch(self) -> None:
        assert self._socket is not None
        self._socket.setblocking(False)
        while not self._stopping:
            readable, _, _ = select.select([self._socket], [], [], POLL_SECONDS)
            if readable:  # nothing is said unasked: this is the end
                return
            try:
                close_old_connections()
                if current_revision() != self.revision and not self._push(document_of(self.node)):
                    return
            except UnknownNode as error:
                log.error("%s It goes on with what it has until it is stopped.", error)
                self.revision = current_revision()
            except DatabaseError as error:
                log.error("node %s: the database cannot be asked: %s", self.node, error)


def _environment() -> dict[str, str]:
    """The relay gets none of the console's secrets."""
    secret = ("SECRET_KEY", "POSTERN_MASTER_KEY", "DATABASE_URL")
    root = str(Path(__file__).resolve().parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
