"""A node on its own machine: starts from its state folder, and takes links by which the console asks and delivers.

It holds what a feed holds for a local node, and knows neither Django nor a database.
"""

import asyncio
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from cryptography import x509

from gateway.core import delivery
from gateway.core.addresses import split_host_port
from gateway.core.delivery import Delivery, DeliveryError, Statement
from gateway.core.document import SnapshotError
from gateway.core.snapshot import PortType
from gateway.relay import link
from gateway.relay.control import ControlError, ControlServer
from gateway.relay.entrance import Entrance
from gateway.relay.frames import Message
from gateway.relay.node import RelayNode
from gateway.relay.siblings import Siblings, side_door
from gateway.relay.statefolder import Identity, StateError, StateFolder
from identity.core import authority
from identity.core.authority import AuthorityError

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.2, 5.0  # seconds before the console is dialled again: doubling, with jitter
CONFIRM_SECONDS = 60.0  # between two notes in the folder that the configuration is the newest
Clock = Callable[[], float]


class Agent:
    """Owns the state folder and the links of one node."""

    def __init__(
        self, folder: StateFolder, identity: Identity, node: RelayNode, *, siblings: Siblings | None = None,
        clock: Clock = time.time,
    ) -> None:  # fmt: skip
        self.folder, self.identity, self.node, self._clock = folder, identity, node, clock
        self.siblings = siblings  # the node's other processes, where it has any
        self.control = ControlServer(node, folder.path, identity.node)
        self.revision, self.digest, self.differences = -1, "", 0
        self.mark = ""  # by which the console knows again what is in force
        self.confirmed: float | None = None  # when the console last said that nothing newer is there
        self.refused: Message | None = None  # the last delivery that was, and why
        self.problem = ""  # why the console was not reached; "" where it was, or is not dialled
        self._linked = 0  # links on which the console has proved itself
        self._noted = 0.0
        self._new_key: str | None = None
        self._applying = asyncio.Lock()
        self._becoming = asyncio.Lock()  # taken after `_applying`, where both are
        self._links: set[asyncio.Task[None]] = set()
        self._dialling: list[asyncio.Task[None]] = []
        self._direct: Entrance | None = None
        self._side: Entrance | None = None  # where siblings bring links
        node.links, node.configuration = self, self.about

    # --- starting and stopping ---

    async def start(self) -> None:
        """Serve by what lies in the folder, and be there for the console.

        Raises:
            ControlError: the node runs already.
        """
        await self.control.open()
        if self.siblings is not None:
            self._open_side_door()
            await self.siblings.start()
        try:
            await self._start_from_folder()
        except (StateError, SnapshotError) as error:
            # A port that is taken, a file that is damaged: the console has the whole, and is told.
            log.error("node %s does not start from its folder: %s", self.identity.node, error)
            self.refused = {"revision": None, "words": str(error), "at": self._clock()}
        await self._listen_directly()
        if not self.identity.listen:
            self._dialling = [asyncio.create_task(self._dial(address)) for address in self.identity.consoles]

    async def _start_from_folder(self) -> None:
        kept = self.folder.load(self.identity.pinned, self.identity.node)
        if kept is None:
            log.warning("node %s has no configuration yet: waiting for the console", self.identity.node)
            return
        giving = None
        if self.siblings is not None:  # they read it while we do
            giving = asyncio.create_task(self.siblings.give(kept.document, kept.digest))
            await asyncio.sleep(0)
        try:
            await self.node.apply(kept.document)
        finally:
            problem = await giving if giving is not None else ""
        self.revision, self.digest, self.differences = kept.revision, kept.digest, kept.differences
        self.confirmed, self.mark = kept.confirmed, kept.mark
        if problem:
            raise SnapshotError(problem)
        log.info("node %s: revision %d, %.0f s old", self.identity.node, kept.revision, self.age or 0.0)

    async def close(self) -> None:
        if self.siblings is not None:
            self.siblings.stop()
        for task in self._dialling:
            task.cancel()
        await self._stop_listening_directly()
        await self._close_side_door()
        tasks = [*self._dialling, *self._links]
        for task in self._links:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.control.close()
        if self.node.snapshot is not None:
            await self.node.drain()
        else:
            self.node.passwords.close()
        if self.siblings is not None:
            await self.siblings.closed()

    # --- what is told ---

    @property
    def age(self) -> float | None:
        """Seconds since the console last said that what is in force is the newest."""
        return None if self.confirmed is None else max(0.0, self._clock() - self.confirmed)

    def about(self) -> Message:
        """How old the configuration is, and how the node stands with the console."""
        return {
            "revision": self.revision,
            "age": self.age,
            "linked": self._linked > 0,
            "problem": "" if self._linked else self.problem,
            "refused": self.refused,
            "certificate_ends": self.identity.pair.parsed.not_valid_after_utc.timestamp(),
        }

    # --- links ---

    @property
    def authority(self) -> str:
        return self.identity.authority

    def links_changed(self) -> None:
        """It is this agent that changed."""

    async def _become(self, identity: Identity) -> None:
        """Another certificate, or others to believe: at every door from now on. Raises OSError, ControlError."""
        await asyncio.to_thread(self.folder.save_identity, identity)
        self.identity = identity
        await self._stop_listening_directly()  # it would go on by what was before, and so would the side door
        await self._listen_directly()
        if self.siblings is not None:
            await self._close_side_door()
            self._open_side_door()

    def admits(self, der: bytes) -> bool:
        """Whether a certificate that was proved at a registration port is the console's."""
        try:
            authority.require_console(authority.from_der(der), self.identity.pinned)
        except AuthorityError:
            return False
        return True

    def take_over(self, transport: Any, gone: Callable[[], None]) -> link.Splice:
        """An upgraded connection of the console's: TLS is spoken inside it, and then it is a link."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        splice = link.Splice(transport, gone)
        self._hold(splice.run(ours))
        self._hold(self._inside(theirs))
        return splice

    async def _inside(self, sock: socket.socket) -> None:
        try:
            reader, writer = await link.shaken(sock, self._server_context())
        except link.ENDED as error:
            log.warning("link: no TLS inside the upgraded connection: %s", error)
            return
        await self._serve(reader, writer)

    def _hold(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        return task

    def _server_context(self) -> ssl.SSLContext:
        return link.context(self.identity.pair, self.identity.authority, server=True)

    async def _listen_directly(self) -> None:
        """An edge without a registration port in force is reached where it was enrolled."""
        snapshot = self.node.snapshot
        has_port = snapshot is not None and any(p.type is PortType.REGISTRATION for p in snapshot.ports.values())
        wanted = bool(self.identity.listen) and not has_port
        if wanted and self._direct is None:
            try:
                self._direct = Entrance.at(self.identity.listen, self._server_context(), self._called)
            except OSError as error:
                self.problem = f"{self.identity.listen} cannot be listened at: {error.strerror or error}"
                log.error("the console cannot reach this node: %s", self.problem)
        elif not wanted:
            await self._stop_listening_directly()

    async def _stop_listening_directly(self) -> None:
        """Links that came by it stay."""
        entrance, self._direct = self._direct, None
        if entrance is not None:
            await entrance.close()

    async def _close_side_door(self) -> None:
        """Links that came by it stay."""
        entrance, self._side = self._side, None
        if entrance is not None:
            await entrance.close()

    def _open_side_door(self) -> None:
        """Raises ControlError."""
        door = side_door(self.folder.path, self.identity.node)
        door.unlink(missing_ok=True)  # what a node that died left behind: that none lives, its control has shown
        try:
            self._side = Entrance.in_file(door, self._server_context(), self._called)
        except OSError as error:
            raise ControlError(f"{door}: {error.strerror or error}") from error

    def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hold(self._serve(reader, writer))

    async def _dial(self, address: str) -> None:
        """Be linked with the console at one address, whenever it is there."""
        host, port = split_host_port(address)
        delay = FIRST_DELAY
        while True:
            began = asyncio.get_running_loop().time()
            try:
                tls = link.context(self.identity.pair, self.identity.authority, server=False)
                async with asyncio.timeout(link.DIAL_TIMEOUT):
                    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
                await self._hold(self._serve(reader, writer))
            except (*link.ENDED, TimeoutError) as error:
                self._note_problem(f"{address}: {link.words_of(error)}")
            if asyncio.get_running_loop().time() - began > LAST_DELAY:
                delay = FIRST_DELAY
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay = min(delay * 2, LAST_DELAY)

    def _note_problem(self, words: str) -> None:
        if words != self.problem:  # once for each new problem
            log.warning("the console is not reached at %s", words)
        self.problem = words

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One link, until it ends."""
        try:
            shown = link.peer_of(writer)
            if shown is None:
                raise AuthorityError("it showed no certificate")
            authority.require_console(shown, self.identity.pinned)
        except AuthorityError as error:
            self._note_problem(f"what is there is not the console: {error}")
            await link.closed(writer)
            return
        self._linked += 1
        try:
            await link.answer(reader, writer, partial(self._answer_to, writer, shown))
        except (*link.ENDED, TimeoutError) as error:
            self._note_problem(f"the link ended: {link.words_of(error)}")
        finally:
            self._linked -= 1
            await link.closed(writer)

    # --- what the console asks ---

    async def _answer_to(
        self, writer: asyncio.StreamWriter, shown: x509.Certificate, message: Message, body: bytes
    ) -> Message:
        """A link stands for as long as what it was proved by is believed."""
        try:
            authority.require_console(shown, self.identity.pinned)
        except AuthorityError as error:
            self._note_problem(f"a link ends: {error}")
            writer.close()
            return {"error": str(error)}
        return await self._answer(message, body)

    async def _answer(self, message: Message, body: bytes) -> Message:
        match message.get("op"):
            case "hello" | "ping":
                self._confirm(message.get("revision"))
                return self._in_force() | {"node": self.identity.node}
            case "deliver" | "keep":
                async with self._applying:
                    return await self._take(message, body)
            case "renew":
                # Of two consoles that renew at once either has a certificate made for the one key.
                self._new_key = self._new_key or authority.new_key()
                return {"request": authority.request(self._new_key, self.identity.node)}
            case "certificate":
                async with self._becoming:
                    return await self._renewed(str(message.get("certificate")))
            case "authorities":
                async with self._applying, self._becoming:
                    return await self._believe(str(message.get("authority")))
            case _:
                try:
                    return await self.control.handle(message)
                except ControlError as error:
                    return {"error": str(error)}

    def _in_force(self) -> Message:
        return {
            "revision": self.revision,
            "digest": self.digest,
            "differences": self.differences,
            "mark": self.mark,
            "certificate_ends": self.identity.pair.parsed.not_valid_after_utc.timestamp(),
            "authorities": [authority.fingerprint_of(each) for each in self.identity.pinned],
        }

    async def _take(self, message: Message, body: bytes) -> Message:
        """Put a delivery in force, or keep it in place of what it sums up; else say why not."""
        revision = None
        try:
            given = Delivery.of(message, body)
            statement = await asyncio.to_thread(delivery.verify, given, self.identity.pinned, self.identity.node)
            revision = statement.revision
            delivery.check_order(statement, self.revision, self.digest)
            mark = str(message.get("mark", ""))
            problem = await self._put_in_force(given, statement, mark, apply=message["op"] == "deliver")
        except (DeliveryError, SnapshotError, ValueError) as error:
            return self._refuse(revision, str(error))
        except OSError as error:
            return self._refuse(revision, f"it cannot be kept in {self.folder.path}: {error.strerror or error}")
        if problem:  # the console sends the whole after a while, which puts a sibling right
            self.mark = ""
            return self._refuse(revision, problem)
        self.refused = None
        self._confirm(statement.revision)
        return self._in_force()

    async def _put_in_force(self, given: Delivery, statement: Statement, mark: str, *, apply: bool) -> str:
        """Written first, then in force, then in its place: what is in force is what the next start finds.

        Returns:
            why another process of this node does not take it, "" where all did.
        """
        problem = ""
        if not apply and (statement.stands_on or statement.revision != self.revision):
            raise DeliveryError("what is kept sums up what is in force")
        held = await asyncio.to_thread(self.folder.hold, given, statement, mark)
        try:
            if apply:
                content = json.loads(given.body)
                if content.get("revision") != statement.revision:
                    raise DeliveryError("the body is of another revision than its statement")
                await self._stop_listening_directly()  # the address is to be the registration port's
                await (self.node.amend(content) if statement.stands_on else self.node.apply(content))
            before, self.revision, self.digest = self.digest, statement.revision, statement.digest
            self.mark = mark
            await asyncio.to_thread(held.commit)
            if self.siblings is not None:
                if apply:
                    whole = self.node.snapshot.document
                    problem = await self.siblings.follow(given.body, statement, whole)
                else:
                    self.siblings.summed_up(before, self.digest)
        except BaseException:
            held.drop()
            raise
        finally:
            await self._listen_directly()
        if statement.stands_on:
            self.differences += 1
        else:
            self.differences = 0
            await asyncio.to_thread(self.folder.settled)
        return problem

    def _refuse(self, revision: int | None, words: str) -> Message:
        log.error("revision %s is refused: %s", revision, words)
        self.refused = {"revision": revision, "words": words, "at": self._clock()}
        return self._in_force() | {"error": words}

    def _confirm(self, newest: object) -> None:
        if newest == self.revision and self.revision >= 0:
            self.confirmed = self._clock()
            if self.mark and self.refused is not None and self.refused["revision"] == self.revision:
                self.refused = None  # another console had brought it
            if self.confirmed - self._noted > CONFIRM_SECONDS:
                self._noted = self.confirmed
                self.folder.confirm()

    async def _renewed(self, certificate: str) -> Message:
        """Take a new certificate for the key that was made for it; of several for one key, the first."""
        try:
            identity = self.identity.renewed(self._new_key or self.identity.key, certificate)
            if authority.node_of(identity.pair.parsed, identity.pinned) != identity.node:
                raise AuthorityError("it is another node's")
            if identity.pair.parsed.public_key() == self.identity.pair.private_key.public_key():
                return {}
            if self._new_key is None:
                raise AuthorityError("no renewal was asked for")
            if identity.pair.parsed.public_key() != identity.pair.private_key.public_key():
                raise AuthorityError("it is for another key")
            await self._become(identity)
            self._new_key = None
        except (ValueError, OSError, ControlError) as error:
            return {"error": f"the new certificate is not taken: {error}"}
        log.info("node %s: certificate renewed", identity.node)
        return {}

    async def _believe(self, said: str) -> Message:
        """Take the console's word for whose console is believed from now on."""
        identity = self.identity.believing(said)
        try:
            authority.node_of(identity.pair.parsed, identity.pinned)  # else the console would not believe us
            await asyncio.to_thread(self.folder.check, identity.pinned, identity.node)  # or the next start would not
            await self._become(identity)
            self.node.links_changed()
            if self.siblings is not None:
                await self.siblings.links_changed()
        except (ValueError, OSError, ControlError) as error:
            return {"error": f"the authorities are not taken: {error}"}
        log.info("node %s: authorities believed: %d", identity.node, len(identity.pinned))
        return self._in_force()
