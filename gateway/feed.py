"""Runs one node's relay process and feeds it configuration: the one push path from rows to a node in force.

The relay itself knows neither Django nor the database, so compiling a snapshot never costs a request time. It is
given the whole document once, and afterwards what differs from the one that it has in force.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from gateway.audit import current_revision
from gateway.compile import Compiler, UnknownNode
from gateway.core.difference import Document, difference
from gateway.relay import frames
from gateway.renewals import swap_due
from gateway.revisions import Watch

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # how soon a change is seen where the database does not tell of it
DUE_SECONDS = 5.0  # how soon a keystore's renewal takes over once its time has come
APPLY_TIMEOUT = 60.0  # seconds for a node to put a document in force
NICENESS = 10  # reading a hundred thousand rows can wait for a moment, requests cannot


@dataclass(frozen=True, slots=True)
class Options:
    """How a node's processes run; what they do is configured.

    Attributes:
        workers: processes that share the node's ports.
        status: where `/metrics`, `/healthz` and `/readyz` are, HOST:PORT; "" nowhere.
        access_log: a file, or `-` for standard output; "" none.
    """

    workers: int = 1
    status: str = ""
    access_log: str = ""


class Feed:
    """The parent's end of one node's relay processes."""

    def __init__(self, node: str, state_dir: Path, options: Options) -> None:
        self.node, self.state_dir, self.options = node, state_dir, options
        self.revision = -1
        self._compiler = Compiler()
        self._news = Watch(POLL_SECONDS)
        self._stopping = False
        self._ask_due_at = 0.0  # on the monotonic clock
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        self._in_force: dict[socket.socket, Document] = {}

    def run(self) -> int:
        """Until a process ends, which ends the others; the exit status, of the first that failed if any did.

        Raises:
            UnknownNode
        """
        document = self._compiler.document_of(self.node)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        with contextlib.ExitStack() as stack:
            stack.callback(self._news.close)
            for worker in range(self.options.workers):
                self._sockets.append(stack.enter_context(self._start(worker)))
            if self._stopping:  # the signal came while the processes were being made
                self._terminate()
            if self._push(document):
                self._watch()
            if not self._stopping:  # one ended by itself: the node starts again as a whole
                self._terminate()
        statuses = [process.wait() for process in self._processes]
        return next((status for status in statuses if status), 0)

    def _start(self, worker: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            command = [sys.executable, "-m", "gateway.relay", "--node", self.node,
                       "--state", str(self.state_dir), "--feed", str(theirs.fileno()),
                       "--worker", str(worker), "--workers", str(self.options.workers),
                       "--status", self.options.status, "--access-log", self.options.access_log]  # fmt: skip
            self._processes.append(
                subprocess.Popen(command, pass_fds=[theirs.fileno()], env=_environment())  # noqa: S603
            )
        return ours

    def _pass_on(self, number: int, _: Any) -> None:
        if number == signal.SIGHUP:  # the access log was rotated
            for process in self._processes:
                if self.options.access_log and process.poll() is None:
                    process.send_signal(number)
            return
        self._stopping = True
        self._terminate()

    def _terminate(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()

    def _push(self, document: Document) -> bool:
        """Send a document to each process and wait for its word on it. False when one is gone."""
        for sock in self._sockets:
            sock.settimeout(APPLY_TIMEOUT)
            before = self._in_force.get(sock)
            message = {"document": document} if before is None else {"difference": difference(before, document)}
            try:
                sock.sendall(frames.encode(message))
                answer = frames.receive(sock)
            except OSError as error:
                if not self._stopping:
                    log.error("node %s: the relay does not take its configuration: %s", self.node, error)
                return False
            if answer is None:
                return False
            # What was refused is not tried again until it changes; what is in force stays, and the relay says why.
            if "error" not in answer:
                self._in_force[sock] = document
        self.revision = document["revision"]
        return True

    def _watch(self) -> None:
        os.nice(NICENESS)
        for sock in self._sockets:
            sock.setblocking(False)
        while not self._stopping:
            told = None
            try:
                close_old_connections()
                told = self._news.listen()  # before it is asked, so that nothing falls in between
                self._swap_due()
                if current_revision() != self.revision and not self._push(self._compiler.document_of(self.node)):
                    return
            except UnknownNode as error:
                log.error("%s It goes on with what it has until it is stopped.", error)
                self.revision = current_revision()
            except DatabaseError as error:
                log.error("node %s: the database cannot be asked: %s", self.node, error)
            ends = [*self._sockets, *([told] if told is not None else [])]
            readable, _, _ = select.select(ends, [], [], self._news.patience)
            if any(end in readable for end in self._sockets):  # nothing is said unasked: this is the end
                return

    def _swap_due(self) -> None:
        """Keystores whose renewal is to take over by now; asked every few seconds, for each question is a query."""
        now = time.monotonic()
        if now >= self._ask_due_at:
            self._ask_due_at = now + DUE_SECONDS
            swap_due(timezone.now())


def _environment() -> dict[str, str]:
    """The relay gets none of the console's secrets."""
    secret = ("SECRET_KEY", "POSTERN_MASTER_KEY", "DATABASE_URL")
    root = str(Path(__file__).resolve().parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
