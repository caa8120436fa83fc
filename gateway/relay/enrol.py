"""`postern-node enrol`: make the node's key here, and get its certificate from the console.

Internal and standalone nodes dial the console. An edge dials nobody: it listens where its registration port will
be, and the console comes.
"""

import asyncio
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.core.addresses import split_host_port
from gateway.core.enrolment import Bundle, EnrolmentError, check_proof, proof
from gateway.relay import link
from gateway.relay.entrance import Entrance
from gateway.relay.frames import Message
from gateway.relay.statefolder import Identity, StateFolder
from identity.core import authority
from identity.core.authority import AuthorityError, Pair

WAIT = 600.0  # seconds for which an edge waits for the console
ANSWER = 20.0  # seconds for an answer of the console


async def enrol(bundle: Bundle, folder: StateFolder, *, wait: float = WAIT) -> Identity:
    """Raises EnrolmentError, StateError."""
    if bundle.expires < time.time():
        raise EnrolmentError("The bundle's time is over. Make a new one on the node's page.")
    folder.prepare()
    key = authority.new_key()
    try:
        async with asyncio.timeout(wait):
            certificate = await (_be_called(bundle, key) if bundle.listen else _call(bundle, key))
    except TimeoutError as error:
        raise EnrolmentError(f"The console did not come to {bundle.listen} within {wait:.0f} s. {_WHY_NOT}") from error
    identity = Identity(
        node=bundle.node, role=bundle.role, certificate=certificate, authority=bundle.authority, key=key,
        consoles=bundle.consoles, listen=bundle.listen,
    )  # fmt: skip
    try:
        folder.save_identity(identity)
    except OSError as error:
        raise EnrolmentError(f"{folder.path} cannot be written: {error.strerror or error}") from error
    return identity


_WHY_NOT = (
    "It dials the address that the node's page names, from the machine where the courier runs, by itself or with "
    "`postern serve`; that page tells what came of it."
)


# --- who dials ---


async def _call(bundle: Bundle, key: str) -> str:
    """The first of the console's addresses that answers decides."""
    problems = []
    for address in bundle.consoles:
        try:
            return await _ask_for_certificate(bundle, key, address)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            problems.append(f"{address}: {link.words_of(error)}")
    raise EnrolmentError(f"The console cannot be reached. {'; '.join(problems) or 'The bundle names no address.'}")


async def _ask_for_certificate(bundle: Bundle, key: str, address: str) -> str:
    host, port = split_host_port(address)
    tls = link.context(None, bundle.authority, server=False)
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=tls), link.DIAL_TIMEOUT)
    try:
        console = _console(writer, bundle)
        asked = authority.request(key, bundle.node)
        seen = fingerprint(console), asked.encode()
        message = {"op": "enrol", "node": bundle.node, "request": asked,
                   "proof": proof(bundle.key, "node", bundle.node, *seen)}  # fmt: skip
        await link.send(writer, message)
        answer, _ = await asyncio.wait_for(link.receive(reader), ANSWER)
        if "error" in answer:
            raise EnrolmentError(f"The console refuses: {answer['error']}")
        certificate = _certificate(answer, bundle, key)
        check_proof(answer.get("proof"), proof(bundle.key, "console", bundle.node, *seen, certificate.encode()))
        return certificate
    finally:
        await link.closed(writer)


def _console(writer: asyncio.StreamWriter, bundle: Bundle) -> x509.Certificate:
    """Raises EnrolmentError where the other end is not the console that the bundle pins."""
    shown = link.peer_of(writer)
    try:
        if shown is None:
            raise AuthorityError("it shows no certificate")
        authority.require_console(shown, authority.read_authorities(bundle.authority))
    except ValueError as error:
        raise EnrolmentError(f"What answers is not the console: {error}") from error
    return shown


def _certificate(answer: Message, bundle: Bundle, key: str) -> str:
    """Raises EnrolmentError where what came is not this node's certificate, for its key."""
    pem = str(answer.get("certificate", ""))
    try:
        parsed = x509.load_pem_x509_certificate(pem.encode())
        named = authority.node_of(parsed, authority.read_authorities(bundle.authority))
        if named != bundle.node or parsed.public_key() != Pair("", key).private_key.public_key():
            raise AuthorityError(f"it is for node {named}, or for another key")
    except ValueError as error:
        raise EnrolmentError(f"The certificate that came is not this node's: {error}") from error
    return pem


def fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


# --- an edge, which is dialled ---


async def _be_called(bundle: Bundle, key: str) -> str:
    own = Pair(authority.self_made(key, bundle.node, authority.utc_now()), key)
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    visit = _Visit(bundle, own, done)
    try:
        entrance = Entrance.at(bundle.listen, link.context(own, bundle.authority, server=True), visit.accepted)
    except OSError as error:
        raise EnrolmentError(f"{bundle.listen} cannot be listened at: {error.strerror or error}") from error
    try:
        certificate = await done
        await visit.over.wait()
        return certificate
    finally:
        await entrance.close()
        await visit.close()


class _Visit:
    """The console's call at an edge that has no certificate yet."""

    def __init__(self, bundle: Bundle, own: Pair, done: "asyncio.Future[str]") -> None:
        self.bundle, self.own, self.done = bundle, own, done
        self.over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            console = _console(writer, self.bundle)
            seen = fingerprint(self.own.parsed), fingerprint(console)
            asked = authority.request(self.own.key, self.bundle.node)
            while not self.done.done():
                message, _ = await asyncio.wait_for(link.receive(reader), ANSWER)
                try:
                    answer = self._answer(message, seen, asked)
                except EnrolmentError as error:
                    answer = {"error": str(error)}
                await link.send(writer, answer | {"id": message.get("id", 0)})
        except (*link.ENDED, TimeoutError, EnrolmentError):
            pass  # whoever it was, the console comes again
        finally:
            await link.closed(writer)
            if self.done.done():
                self.over.set()

    def _answer(self, message: Message, seen: tuple[bytes, ...], asked: str) -> Message:
        """Raises EnrolmentError."""
        key, node = self.bundle.key, self.bundle.node
        if message.get("op") == "enrol":
            check_proof(message.get("proof"), proof(key, "console", node, *seen))
            return {"request": asked, "proof": proof(key, "node", node, *seen, asked.encode())}
        if message.get("op") == "certificate":
            certificate = _certificate(message, self.bundle, self.own.key)
            check_proof(message.get("proof"), proof(key, "console", node, *seen, certificate.encode()))
            if not self.done.done():
                self.done.set_result(certificate)
            return {}
        raise EnrolmentError("this node is being enrolled")
