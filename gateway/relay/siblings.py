"""The other processes of a node on its own machine: workers that share its ports, fed by the first.

The first is enrolled, linked with the console and keeps the folder; the others have their configuration from it alone,
over the feed that a node which runs beside the console has. A link that the console opens at a registration port comes
to any of them: a sibling carries it to the first, unread, for the TLS inside is spoken there.
"""

import asyncio
import json
import logging
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.core.delivery import Statement
from gateway.core.difference import Document
from gateway.relay import frames, link
from gateway.relay.control import ControlError
from gateway.relay.statefolder import StateError, StateFolder
from identity.core import authority
from identity.core.authority import AuthorityError

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0  # seconds for a sibling to be there
APPLY_TIMEOUT = 60.0  # seconds for a sibling to put a document in force
STOP_TIMEOUT = 60.0  # seconds for one to end, beyond which it is killed; what it may take to drain is in its ports


def side_door(state_dir: Path, node: str) -> Path:
    """Where siblings bring the console's links to the first."""
    return state_dir / "nodes" / node / "links.sock"


@dataclass(slots=True)
class Sibling:
    """`digest`: of what it has in force; "" for nothing."""

    number: int
    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    digest: str = ""


class Siblings:
    """The first worker's end. One that ends by itself ends the node, which then starts again as a whole."""

    def __init__(self, state_dir: Path, node: str, workers: int, *, access_log: str, ended: Callable[[], None]) -> None:
        """`ended` is told when one did without being asked to."""
        self._state_dir, self._node, self.workers = state_dir, node, workers
        self._access_log, self._ended = access_log, ended
        self._siblings: list[Sibling] = []
        self._watching: list[asyncio.Task[None]] = []
        self._stopping = False
        self.status = 0  # the exit status of the first that failed

    async def start(self) -> None:
        """All of them are there before one listens: who dials us shares himself out among all.

        Raises:
            ControlError: one does not start.
        """
        for number in range(1, self.workers):
            sibling = await self._start(number)
            self._siblings.append(sibling)
            self._watching.append(asyncio.create_task(self._watch(sibling)))
        problems = await asyncio.gather(*(self._answer(sibling, START_TIMEOUT) for sibling in self._siblings))
        if problem := next((each for each in problems if each), ""):
            raise ControlError(problem)

    async def _start(self, number: int) -> Sibling:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway.relay", "--node", self._node, "--state", str(self._state_dir),
                "--feed", str(theirs.fileno()), "--worker", str(number), "--workers", str(self.workers),
                "--access-log", self._access_log, "--sibling", pass_fds=[theirs.fileno()],
            )  # fmt: skip
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        return Sibling(number, process, reader, writer)

    async def _watch(self, sibling: Sibling) -> None:
        status = await sibling.process.wait()
        self.status = self.status or (1 if status < 0 else status)
        if not self._stopping:
            log.error("worker %d has ended with status %d: the node stops", sibling.number, status)
            self._ended()

    # --- configuration ---

    async def give(self, document: Document, digest: str, to: "list[Sibling] | None" = None) -> str:
        """The whole, to all; why one does not take it, "" where all did."""
        body = await asyncio.to_thread(lambda: json.dumps(document, separators=(",", ":")).encode())
        return await self._push(self._siblings if to is None else to, "document", body, digest)

    async def follow(self, body: bytes, statement: Statement, whole: Document) -> str:
        """What came from the console, as it came; and the `whole` to whoever has not what a difference stands on.

        Returns:
            why one does not take it, "" where all did; it goes on with what it has.
        """
        stands_on, digest = statement.stands_on, statement.digest
        level = [each for each in self._siblings if not stands_on or each.digest == stands_on]
        problem = await self._push(level, "difference" if stands_on else "document", body, digest)
        behind = [each for each in self._siblings if each not in level]
        if behind:
            problem = await self.give(whole, digest, behind) or problem
        return problem

    def summed_up(self, before: str, digest: str) -> None:
        """What was in force by one digest is so by another."""
        for sibling in self._siblings:
            if sibling.digest == before:
                sibling.digest = digest

    async def links_changed(self) -> None:
        """Whom links are taken from is told by the folder, and is another now."""
        if problem := await self._push(self._siblings, "links", b"{}", None):
            log.error("%s", problem)

    async def _push(self, to: list[Sibling], kind: str, body: bytes, digest: str | None) -> str:
        message = b'{"%s":%s}' % (kind.encode(), body)
        problems = await asyncio.gather(*(self._send(each, message, digest) for each in to))
        return next((problem for problem in problems if problem), "")

    async def _send(self, sibling: Sibling, message: bytes, digest: str | None) -> str:
        sibling.writer.write(frames.framed(message))
        problem = await self._answer(sibling, APPLY_TIMEOUT)
        if digest is not None and not problem:
            sibling.digest = digest
        return problem

    @staticmethod
    async def _answer(sibling: Sibling, timeout: float) -> str:
        """What it says is wrong; "" where nothing is. `timeout`: in seconds."""
        try:
            async with asyncio.timeout(timeout):
                await sibling.writer.drain()
                answer = await frames.read(sibling.reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            return f"worker {sibling.number}: {link.words_of(error)}"
        return f"worker {sibling.number}: {answer['error']}" if "error" in answer else ""

    # --- stopping ---

    def signal(self, number: int) -> None:
        for sibling in self._siblings:
            if sibling.process.returncode is None:
                sibling.process.send_signal(number)

    def stop(self) -> None:
        """Ask them to finish what is in flight; `closed` waits for it."""
        self._stopping = True
        self.signal(signal.SIGTERM)

    async def closed(self) -> None:
        if self._watching:
            await asyncio.wait(self._watching, timeout=STOP_TIMEOUT)
        self.signal(signal.SIGKILL)
        await asyncio.gather(*self._watching)
        for sibling in self._siblings:
            sibling.writer.close()


class Carrier:
    """A sibling's end: lets the console's links in by its registration ports, and carries them to the first."""

    def __init__(self, folder: StateFolder, node: str) -> None:
        """Raises StateError."""
        self._folder, self._door = folder, side_door(folder.path, node)
        self._identity = folder.identity()
        self._carried: set[asyncio.Task[None]] = set()

    @property
    def authority(self) -> str:
        return self._identity.authority

    def links_changed(self) -> None:
        """Read anew from whom links are taken."""
        try:
            self._identity = self._folder.identity()
        except StateError as error:  # what was read before holds; the first says what is wrong with the folder
            log.error("%s", error)

    def admits(self, der: bytes) -> bool:
        try:
            authority.require_console(authority.from_der(der), self._identity.pinned)
        except AuthorityError:
            return False
        return True

    def take_over(self, transport: Any, gone: Callable[[], None]) -> link.Splice:
        splice = link.Splice(transport, gone)
        self._hold(self._carry(splice, transport))
        return splice

    def _hold(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._carried.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._carried.discard)

    async def _carry(self, splice: link.Splice, transport: Any) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, str(self._door))
        except OSError as error:
            log.warning("link: the first worker does not take it: %s", error.strerror or error)
            sock.close()
            transport.close()
            return
        await splice.run(sock)

    async def close(self) -> None:
        tasks = list(self._carried)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
