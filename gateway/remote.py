"""One node on another machine, as a courier of the console's knows it: dialled or dialling in, and kept up.

A delivery is the whole document once, and afterwards what differs from the one that the node has in force. What is
known of the node is written down to be shown, and its door here passes on what it is asked.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from django.db import DatabaseError

from gateway import enrolments
from gateway.compile import UnknownNode
from gateway.core import delivery
from gateway.core.addresses import split_host_port
from gateway.core.difference import Document, difference
from gateway.core.enrolment import EnrolmentError, check_proof, proof
from gateway.enrolments import Known
from gateway.models import Node, NodeStatus, Role
from gateway.relay import link
from gateway.relay.control import ControlError, Door, socket_path
from gateway.relay.enrol import fingerprint
from gateway.relay.frames import Message
from gateway.relay.link import Asker, LinkError
from gateway.sameness import mark
from identity.core import authority
from identity.core.authority import Authorities, AuthorityError, Pair
from identity.core.vault import VaultError

if TYPE_CHECKING:
    from gateway.courier import Courier

log = logging.getLogger(__name__)

DELIVERY_TIMEOUT = 60.0  # seconds for a node to put a document in force
AGAIN_SECONDS = 0.5  # before a configuration that could not be read is read again
RETRY_SECONDS = 20.0  # before what a node refused is sent again, without a change
ASK_TIMEOUT = 10.0  # seconds for an answer
INVOKE_TIMEOUT = 60.0  # the same for a test invoke, which has a timeout of its own
MANY_DIFFERENCES = 50  # after which a node is given the whole, to start from
FIRST_DELAY, LAST_DELAY = 0.2, 5.0  # seconds before an edge is dialled again: doubling, with jitter
NOTE_SECONDS = 15.0  # between two notes that a node was heard of


@dataclass(frozen=True, slots=True)
class Credentials:
    """The console's.

    Attributes:
        authority: PEM of those that are believed, the one that signs first.
        console: from that one; deliveries are signed with it where the node believes it.
        shown: what links are opened with, before it is known what the node believes.
    """

    authority: str
    console: Pair
    shown: Pair

    @property
    def certificates(self) -> tuple[str, str, str]:
        return self.authority, self.console.certificate, self.shown.certificate

    @property
    def pinned(self) -> Authorities:
        return authority.read_authorities(self.authority)

    @property
    def signs(self) -> str:
        """Fingerprint of the authority that signs."""
        return authority.fingerprint_of(self.pinned[0])


@dataclass(slots=True)
class Remote:
    """One node on another machine: its link, what it has in force, its door here."""

    courier: "Courier"
    known: Known
    asker: Asker | None = None
    document: Document | None = None  # in force there, as far as we sent it
    digest: str = ""
    mark: str = ""  # of what is in force, as the node tells it
    revision: int = -1
    problem: str = "not linked yet"
    refused: tuple[int, float] | None = None  # revision, and loop time at which it is tried again
    certificate: x509.Certificate | None = None
    believes: frozenset[str] = frozenset()  # fingerprints of the authorities that the node does
    status: dict[str, Any] = field(default_factory=dict)
    _credentials: Credentials | None = None  # of the courier, when it was last told of
    _door: Door | None = None
    _dialling: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _noted: float = 0.0

    @property
    def name(self) -> str:
        return self.known.node

    async def open(self) -> None:
        await self._open_door()
        if self.known.role == Role.EDGE:
            self._dialling = asyncio.create_task(self._dial())

    async def _open_door(self) -> None:
        if self._door is not None:
            return
        door = Door(socket_path(self.courier.state_dir, self.name), self._asked)
        try:
            await door.open()
        except (ControlError, OSError) as error:
            # Another courier of this machine, or the node itself, which ran here until now: that one answers there.
            log.warning("node %s has no door here yet: %s", self.name, error)
        else:
            self._door = door

    async def close(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        if self.asker is not None:
            self.asker.close()
        if self._door is not None:
            await self._door.close()

    def changed(self, known: Known) -> None:
        self.known = known
        shown = self.certificate
        if self.asker is not None and shown is not None and authority.serial_of(shown) not in known.serials:
            log.warning("node %s: its certificate is worth nothing any more: the link ends", self.name)
            self.asker.close()
        credentials, before = self.courier.credentials, self._credentials
        self._credentials = credentials
        if credentials is not before and self.asker is not None and shown is not None:
            if not _is_of(shown, credentials.pinned):
                log.warning("node %s: its certificate is of an authority that was dropped: the link ends", self.name)
                self.asker.close()
            self._news.set()
        if self.courier.revision != self.revision:
            self._news.set()

    # --- as the door of the node ---

    async def _asked(self, message: Message) -> Message:
        """Raises ControlError."""
        if self.asker is None:
            raise ControlError(f"Node {self.name} is not linked with this console: {self.problem}.")
        timeout = INVOKE_TIMEOUT if message.get("op") == "invoke" else ASK_TIMEOUT
        try:
            answer = await self.asker.ask(message, timeout=timeout)
        except LinkError as error:
            raise ControlError(f"Node {self.name} cannot be asked: {error}.") from error
        return {name: value for name, value in answer.items() if name != "id"}

    # --- edges, which are dialled ---

    async def _dial(self) -> None:
        delay = FIRST_DELAY
        while True:
            began = asyncio.get_running_loop().time()
            problems = []
            for address in self.known.addresses:
                try:
                    await self._visit(address)
                    problems.append(f"{address}: the link ended")
                    break
                except (*link.ENDED, TimeoutError, AuthorityError, EnrolmentError, DatabaseError) as error:
                    problems.append(f"{address}: {link.words_of(error)}")
            await self._note_problem("; ".join(problems) or "no address is known at which it could be reached")
            if asyncio.get_running_loop().time() - began > LAST_DELAY:
                delay = FIRST_DELAY
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            delay = min(delay * 2, LAST_DELAY)

    async def _visit(self, address: str) -> None:
        """Dial one address, and be linked until the link ends."""
        credentials = self.courier.credentials
        host, port = split_host_port(address)
        writer = None
        try:
            async with asyncio.timeout(link.DIAL_TIMEOUT):
                reader, writer = await asyncio.open_connection(host, port, ssl=link.unverified(credentials.shown))
                if not link.is_direct(writer):
                    await self._upgrade(reader, writer, host, credentials)
            shown = link.peer_of(writer)
            if shown is None:
                raise AuthorityError("it shows no certificate")
            if self.known.proof_key and link.is_direct(writer) and not self._is_ours(shown):
                await self._enrol(reader, writer, shown)
                return
            self._check(shown)
            await self.linked(reader, writer, shown)
        finally:
            if writer is not None:
                await link.closed(writer)

    @staticmethod
    async def _upgrade(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, credentials: Credentials
    ) -> None:
        writer.write(link.upgrade(host))
        try:
            link.check_upgraded(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError as error:
            raise LinkError("what answers there is no registration port") from error
        await writer.start_tls(link.context(credentials.shown, credentials.authority, server=False))

    def _is_ours(self, shown: x509.Certificate) -> bool:
        try:
            return authority.node_of(shown, self.courier.credentials.pinned) == self.name
        except AuthorityError:
            return False

    def _check(self, shown: x509.Certificate) -> None:
        """Raises AuthorityError unless the certificate is the one by which this node is known."""
        name = authority.node_of(shown, self.courier.credentials.pinned)
        if name != self.name:
            raise AuthorityError(f"what answers there is node {name}")
        if authority.serial_of(shown) not in self.known.serials:
            raise AuthorityError("it shows a certificate that was replaced or disowned; enrol the node again")
        if not shown.not_valid_before_utc <= datetime.now(UTC) <= shown.not_valid_after_utc:
            raise AuthorityError("its certificate has ended; enrol the node again")

    async def _enrol(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shown: x509.Certificate) -> None:
        """Raises EnrolmentError, AuthorityError, LinkError, DatabaseError."""
        key, name = self.known.proof_key, self.name
        seen = fingerprint(shown), fingerprint(self.courier.credentials.shown.parsed)
        asker = Asker(reader, writer)
        reading = asyncio.create_task(asker.run())
        try:
            greeting = {"op": "enrol", "proof": proof(key, "console", name, *seen)}
            answer = _told(await asker.ask(greeting, timeout=ASK_TIMEOUT))
            asked = str(answer.get("request"))
            check_proof(answer.get("proof"), proof(key, "node", name, *seen, asked.encode()))
            certificate = await self.courier.ask_database(enrolments.certify, name, asked, key)
            told = proof(key, "console", name, *seen, certificate.encode())
            _told(
                await asker.ask({"op": "certificate", "certificate": certificate, "proof": told}, timeout=ASK_TIMEOUT)
            )
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    # --- one link ---

    async def linked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shown: x509.Certificate) -> None:
        """Keep the node up with the configuration, until the link ends. Raises one of ENDED, DatabaseError."""
        if self.asker is not None:  # the node came again before the old link was seen to have ended
            self.asker.close()
        asker = self.asker = Asker(reader, writer)
        self.certificate = shown
        await self._open_door()
        reading = asyncio.create_task(asker.run())
        keeping = asyncio.create_task(self._keep_up(asker))
        try:
            await asyncio.wait((reading, keeping), return_when=asyncio.FIRST_COMPLETED)
            for task in (keeping, reading):
                if task.done():
                    task.result()
        finally:
            for task in (reading, keeping):
                task.cancel()
            await asyncio.gather(reading, keeping, return_exceptions=True)
            asker.close()
            if self.asker is asker:
                self.asker = None
                await self._note_problem("the link ended")

    async def _keep_up(self, asker: Asker) -> None:
        """Deliver what is new, ask now and then, renew in time. Raises LinkError."""
        assert self.certificate is not None
        await self._write_down(enrolments.seen, self.name, self.certificate)
        await self._greet(asker, "hello")
        self.problem, self.refused = "", None
        log.info("node %s is linked; it has revision %d", self.name, self.revision)
        await self._note(linked=True, since=True)
        while True:
            self._news.clear()
            if self._is_behind():
                await self._deliver(asker)
            elif self._believes_others():
                await self._tell_whom_to_believe(asker)
            elif self._renews():
                await self._renew(asker)
            try:
                await asyncio.wait_for(self._news.wait(), link.PING_SECONDS)
            except TimeoutError:
                await self._greet(asker, "ping")
                await self._note()

    def _is_behind(self) -> bool:
        wanted, now = self.courier.revision, asyncio.get_running_loop().time()
        if self.refused is not None and self.refused[0] == wanted and now < self.refused[1]:
            return False
        return self.document is None or self.document["revision"] != wanted

    async def _greet(self, asker: Asker, op: str) -> None:
        answer = await asker.ask({"op": op, "revision": self.courier.revision}, timeout=ASK_TIMEOUT)
        if answer.get("digest") != self.digest:  # another console delivered, or the node started anew
            self.document = None
        self._take_note(answer)

    def _take_note(self, answer: Message) -> None:
        self.revision, self.digest = int(answer.get("revision", -1)), str(answer.get("digest", ""))
        self.mark = str(answer.get("mark", ""))
        said = answer.get("authorities")
        if isinstance(said, list):  # a node of the version before does not say, and cannot be told
            self.believes = frozenset(map(str, said))

    async def _deliver(self, asker: Asker) -> None:
        try:
            document, marked = await self.courier.ask_database(self._compiled)
        except (DatabaseError, UnknownNode, VaultError) as error:
            log.error("node %s: its configuration cannot be read: %s", self.name, error)
            await asyncio.sleep(AGAIN_SECONDS)
            return
        if self.document is None and self._has(document, marked):  # from us, before we began anew, or from another
            await self._is_in_force(document)
            return
        await self._note(on_way=document["revision"])
        answer = await self._send(asker, "deliver", document, self.document, marked)
        self._take_note(answer)
        if "error" in answer and self._has(document, marked):  # another console was quicker
            await self._is_in_force(document)
        elif "error" in answer:
            again = asyncio.get_running_loop().time() + RETRY_SECONDS
            self.refused = document["revision"], again
            self.document = None  # next time the whole: whatever it was, it does not stand on another
            self.problem = f"revision {document['revision']} is refused: {answer['error']}"
            log.error("node %s: %s", self.name, self.problem)
        else:
            self.document, self.refused, self.problem = document, None, ""
            if answer.get("differences", 0) >= MANY_DIFFERENCES:
                self._take_note(_told(await self._send(asker, "keep", document, None, marked)))
        await self._note(on_way=0, in_force="error" not in answer)

    def _has(self, document: Document, marked: str) -> bool:
        return marked != "" and marked == self.mark and document["revision"] == self.revision

    async def _is_in_force(self, document: Document) -> None:
        self.document, self.refused, self.problem = document, None, ""
        await self._note(on_way=0)

    def _compiled(self) -> tuple[Document, str]:
        """What is to be in force, and its mark. In the database's thread. Raises UnknownNode, DatabaseError."""
        document = self.courier.compile(self.name)
        return document, mark(document)

    async def _send(self, asker: Asker, op: str, document: Document, before: Document | None, marked: str) -> Message:
        content = document if before is None else difference(before, document)
        body = await asyncio.to_thread(lambda: json.dumps(content, separators=(",", ":")).encode())
        credentials = self.courier.credentials
        signing = credentials.console if credentials.signs in self.believes else credentials.shown
        signed = delivery.sign(
            signing, node=self.name, revision=document["revision"],
            stands_on="" if before is None else self.digest, body=body, now=time.time(),
        )  # fmt: skip
        return await asker.ask({"op": op, "mark": marked} | signed.head(), body, timeout=DELIVERY_TIMEOUT)

    def _believes_others(self) -> bool:
        """Whether the node is to be told whose console to believe. It is not where it cannot be told."""
        wanted = {authority.fingerprint_of(each) for each in self.courier.credentials.pinned}
        return self.asker is not None and self.believes not in (frozenset(), wanted)

    async def _tell_whom_to_believe(self, asker: Asker) -> None:
        """First both. Before the old one goes, what the node starts from is signed anew; the link, which the old one
        may have proved, ends."""
        credentials = self.courier.credentials
        narrows = bool(self.believes - {authority.fingerprint_of(each) for each in credentials.pinned})
        if narrows and self.document is not None:
            answer = await self._send(asker, "keep", self.document, None, self.mark)
            self._take_note(answer)
        answer = await asker.ask({"op": "authorities", "authority": credentials.authority}, timeout=DELIVERY_TIMEOUT)
        if "error" in answer:
            self.problem = f"it does not take the authorities: {answer['error']}"
            log.error("node %s: %s", self.name, self.problem)
            await self._note()
            return
        self.problem = ""
        self._take_note(answer)
        log.info("node %s believes %d authorities", self.name, len(credentials.pinned))
        await self._note()
        if narrows:
            asker.close()
        else:
            self._news.set()  # it is to have a certificate of the new one at once

    def _renews(self) -> bool:
        """In time, and at once where the certificate is of the old authority and the node believes the new one."""
        if self.asker is None or self.certificate is None:
            return False
        if authority.is_due(self.certificate, datetime.now(UTC)):
            return True
        credentials = self.courier.credentials
        return credentials.signs in self.believes and not _is_of(self.certificate, credentials.pinned[:1])

    async def _renew(self, asker: Asker) -> None:
        """A new certificate; the link ends, for the next one is proved by it."""
        assert self.certificate is not None
        shown = authority.serial_of(self.certificate)
        try:
            asked = str(_told(await asker.ask({"op": "renew"}, timeout=ASK_TIMEOUT)).get("request"))
            certificate = await self.courier.ask_database(enrolments.renew, self.name, asked, shown)
            _told(await asker.ask({"op": "certificate", "certificate": certificate}, timeout=ASK_TIMEOUT))
        except (DatabaseError, EnrolmentError, AuthorityError) as error:
            log.error("node %s: its certificate is not renewed: %s", self.name, error)
            return
        log.info("node %s: certificate renewed", self.name)
        self.known = Known(
            self.known.node, self.known.role, self.known.addresses,
            self.known.serials | {authority.serial_of(x509.load_pem_x509_certificate(certificate.encode()))},
        )  # fmt: skip
        asker.close()

    # --- what is shown ---

    async def _note_problem(self, words: str) -> None:
        if words != self.problem:
            log.warning("node %s: %s", self.name, words)
        self.problem = words
        await self._note(linked=False, since=self.status.get("linked", True))

    async def _note(
        self, *, linked: bool = True, since: bool = False, on_way: int | None = None, in_force: bool = False
    ) -> None:
        """Write down what is known of the node, where it is news."""
        now = datetime.now(UTC)
        fresh = dict(self.status, courier=self.courier.name, linked=linked, revision=self.revision,
                     problem=self.problem, authorities=sorted(self.believes))  # fmt: skip
        if since or "since" not in fresh:
            fresh["since"] = now
        if on_way is not None:
            fresh["on_way"], fresh["on_way_since"] = on_way, now if on_way else None
        if in_force:
            fresh["in_force_since"] = now
        due = linked and asyncio.get_running_loop().time() - self._noted > NOTE_SECONDS
        if fresh == self.status and not due:
            return
        if linked:
            fresh["heard"] = now
        self.status, self._noted = fresh, asyncio.get_running_loop().time()
        await self._write_down(_save_status, self.name, fresh)

    async def _write_down(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            await self.courier.ask_database(work, *arguments)
        except DatabaseError as error:
            log.error("node %s: its state cannot be written down: %s", self.name, error)


def _save_status(name: str, status: dict[str, Any]) -> None:
    node = Node.objects.filter(name=name).first()
    if node is not None:
        NodeStatus.objects.update_or_create(node=node, defaults=status)


def _is_of(certificate: x509.Certificate, authorities: Authorities) -> bool:
    try:
        authority.issuer_of(certificate, authorities)
    except AuthorityError:
        return False
    return True


def _told(answer: Message) -> Message:
    """Raises EnrolmentError where the node says why not."""
    if "error" in answer:
        raise EnrolmentError(str(answer["error"]))
    return answer
