"""Carries configuration to nodes on other machines, and their word back: the one push path beside `feed`.

It dials edges, at their registration port, and takes the links of the others. For each node it offers on this
machine the very door that a node which runs here has, so that whoever asks nodes need not know where they are. It
decides nothing: what it knows of a node it writes down to be shown. Several consoles may each run one.

The database is asked in one thread, beside the loop; while it is down, links and doors stay, and nodes go on.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from django.db import DatabaseError, close_old_connections, connections

from gateway import enrolments, rotation
from gateway.audit import current_revision
from gateway.compile import Compiler
from gateway.core.difference import Document
from gateway.core.enrolment import EnrolmentError, check_proof, proof
from gateway.enrolments import Known
from gateway.models import Role
from gateway.relay import link
from gateway.relay.enrol import fingerprint
from gateway.relay.entrance import Entrance
from gateway.relay.frames import Message
from gateway.relay.link import LinkError
from gateway.remote import ASK_TIMEOUT, Credentials, Remote
from gateway.revisions import Watch
from identity.core import authority
from identity.core.authority import AuthorityError
from identity.core.vault import VaultError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.3  # how soon a change is seen where the database does not tell of it
STRANGERS = 32  # callers without a certificate who are listened to at a time

T = TypeVar("T")


class Courier:
    """`bind`: where nodes that dial are taken, HOST:PORT; "" nowhere."""

    def __init__(self, bind: str, state_dir: Path, *, name: str = "") -> None:
        self.bind, self.state_dir = bind, state_dir
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.credentials: Credentials = None  # type: ignore[assignment]  # read before anything is linked
        self.known: dict[str, Known] = {}
        self.revision = -1
        self.remotes: dict[str, Remote] = {}
        self._compiler = Compiler()
        self._news = Watch(POLL_SECONDS)  # the database's thread's
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._entrance: Entrance | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._database_problem = ""
        self._strangers = 0

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`. Raises OSError where `bind` cannot be had."""
        try:
            while not stopping.is_set():
                told = await self._look()
                if self._entrance is None and self.bind and self.credentials is not None:
                    self._listen()
                await self._rest(stopping, told)
        finally:
            await self._close()

    async def _rest(self, stopping: asyncio.Event, told: int | None) -> None:
        """Until something may have changed, or `stopping`. `told`: what can be read then."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        if told is not None:
            loop.add_reader(told, woken.set)
        waits = [asyncio.create_task(event.wait()) for event in (stopping, woken)]
        try:
            await asyncio.wait(waits, timeout=self._news.patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if told is not None:
                loop.remove_reader(told)
            for task in waits:
                task.cancel()

    async def _close(self) -> None:
        if self._entrance is not None:  # 1. nobody new is let in
            await self._entrance.close()
        for task in list(self._calls):  # 2. calls and links end
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        for remote in self.remotes.values():
            await remote.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close_database)
        self._thread.shutdown()  # 3. what was asked of the database is done

    # --- the database ---

    def _close_database(self) -> None:
        self._news.close()
        connections.close_all()

    async def ask_database(self, work: Callable[..., T], *arguments: Any) -> T:
        """Raises DatabaseError, and what `work` raises."""

        def run() -> T:
            close_old_connections()
            return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def _look(self) -> int | None:
        """See what changed in the database, and have it taken to where it belongs; what can be read at the next."""
        try:
            told = await self.ask_database(self._news.listen)  # before it is asked, so that nothing falls in between
            revision, known, credentials = await self.ask_database(_look, self.credentials)
        except (DatabaseError, VaultError) as error:
            if str(error) != self._database_problem:  # once for each new problem
                log.error("the database cannot be asked: %s", error)
            self._database_problem = str(error)
            return None
        self._database_problem = ""
        if self._entrance is not None and credentials is not self.credentials:  # another is to be shown
            await self._entrance.close()
            self._entrance = None
        self.revision, self.known, self.credentials = revision, known, credentials
        for name in self.remotes.keys() - known.keys():
            log.info("node %s is no longer one of other machines'", name)
            await self.remotes.pop(name).close()
        for name, facts in known.items():
            if name not in self.remotes:
                self.remotes[name] = Remote(self, facts)
                await self.remotes[name].open()
            self.remotes[name].changed(facts)
        return told

    def compile(self, node: str) -> Document:
        """In the database's thread. Raises UnknownNode, DatabaseError."""
        return self._compiler.document_of(node)

    # --- nodes that dial ---

    def _listen(self) -> None:
        made = link.context(self.credentials.shown, self.credentials.authority, server=True, ask=False)
        self._entrance = Entrance.at(self.bind, made, self._accepted)
        log.info("courier %s: nodes are taken at %s", self.name, self.bind)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._called(reader, writer))
        self._calls.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._calls.discard)

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer_name(writer)
        try:
            shown = link.peer_of(writer)
            if shown is None:
                await self._enrol_caller(reader, writer, peer)
                return
            name = authority.node_of(shown, self.credentials.pinned)
            remote = self.remotes.get(name)
            if remote is None or authority.serial_of(shown) not in remote.known.serials:
                raise AuthorityError(f"node {name} is disowned, or has another certificate by now")
            await remote.linked(reader, writer, shown)
        except (*link.ENDED, TimeoutError, AuthorityError) as error:
            log.warning("a call from %s ends: %s", peer, error)
        finally:
            await link.closed(writer)

    async def _enrol_caller(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        """Whoever comes without a certificate has a bundle, or nothing."""
        if self._strangers >= STRANGERS:
            raise LinkError("too many come without a certificate at once")
        self._strangers += 1
        try:
            message, _ = await asyncio.wait_for(link.receive(reader, link.MAX_STRANGER), ASK_TIMEOUT)
        finally:
            self._strangers -= 1
        try:
            answer = await self._certified(message)
        except (EnrolmentError, AuthorityError) as error:
            log.warning("enrolment from %s is refused: %s", peer, error)
            answer = {"error": str(error)}
        except DatabaseError:
            answer = {"error": "The console cannot reach its database; try again in a while."}
        await link.send(writer, answer)

    async def _certified(self, message: Message) -> Message:
        """Raises EnrolmentError, AuthorityError, DatabaseError."""
        name, asked = str(message.get("node")), str(message.get("request"))
        known = (await self.ask_database(enrolments.known_nodes)).get(name)  # a bundle may be a moment old
        if message.get("op") != "enrol" or known is None or not known.proof_key or known.role == Role.EDGE:
            raise EnrolmentError(f"There is no bundle for node {name} that can still be used. Make a new one.")
        seen = fingerprint(self.credentials.shown.parsed), asked.encode()
        check_proof(message.get("proof"), proof(known.proof_key, "node", name, *seen))
        certificate = await self.ask_database(enrolments.certify, name, asked, known.proof_key)
        told = proof(known.proof_key, "console", name, *seen, certificate.encode())
        return {"certificate": certificate, "proof": told}


def _look(credentials: Credentials | None) -> tuple[int, dict[str, Known], Credentials]:
    row = enrolments.authority_row()
    if row.old_certificate and not rotation.left_behind():
        with contextlib.suppress(EnrolmentError):  # another console was quicker
            rotation.drop_old("courier")
            log.info("no node needs the old authority any more: it is dropped")
        row = enrolments.authority_row()
    if credentials is None or credentials.certificates != row.certificates:  # opened where there is something new
        credentials = Credentials(row.believed, row.console, row.shown)
    return current_revision(), enrolments.known_nodes(), credentials


def _peer_name(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if peer else "somebody"
