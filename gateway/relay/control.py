"""The local door to a running node: state, traces and test invokes out. Configuration comes by the feed alone.

A socket in `STATE/nodes/NAME/`, folder 0700, socket 0600; whoever connects must be of the same account, or root.
"""

import asyncio
import base64
import binascii
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.relay import frames
from gateway.relay.frames import FrameError, Message
from gateway.relay.invoke import Invoke, invoke
from gateway.relay.metrics import Metrics, exposition
from identity.core.certificates import CertificateError, from_der
from identity.core.commands import command

if TYPE_CHECKING:
    from gateway.relay.node import RelayNode

log = logging.getLogger(__name__)

MAX_REQUEST = 16 * 1024 * 1024  # bytes of one question; a test invoke's body is the largest part
MAX_PATH = 107  # bytes of a socket's path (unix(7))


class ControlError(Exception):
    """The node could not be asked; the message is fit for a page."""


class NotRunning(ControlError):
    """Nobody is behind the door."""


def socket_path(state_dir: Path, node: str, worker: int = 0) -> Path:
    """Worker 0 is asked; it asks the others."""
    return state_dir / "nodes" / node / (f"control-{worker}.sock" if worker else "control.sock")


def call(state_dir: Path, node: str, message: Message, *, timeout: float = 5.0) -> Message:
    """Ask a running node, and wait for its answer. Blocking; for the console and for commands.

    Args:
        timeout: seconds for the whole.
    Raises:
        ControlError: it does not run, does not answer in time, or refuses; the message says which.
    """
    path = socket_path(Path(state_dir), node)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(path))
            sock.sendall(frames.encode(message))
            answer = frames.receive(sock)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(f"Node {node} does not run here. Start it: {command(f'relay --node {node}')}") from error
        except TimeoutError as error:
            raise ControlError(f"Node {node} did not answer within {timeout:.0f} s.") from error
        except PermissionError as error:
            raise ControlError(f"Node {node} runs under another account, and does not let this one ask it.") from error
        except OSError as error:
            raise ControlError(f"Node {node} cannot be asked: {error.strerror or error}.") from error
    if answer is None:
        raise ControlError(f"Node {node} ended the conversation without an answer.")
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer


class Door:
    """A local socket that answers one question per connection, to this account alone."""

    def __init__(self, path: Path, handle: Callable[[Message], Awaitable[Message]]) -> None:
        """`handle` raises ControlError for what it cannot answer."""
        self.path, self._handle = path, handle
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Raises ControlError where the socket cannot be had."""
        if len(os.fsencode(self.path)) > MAX_PATH:
            raise ControlError(f"{self.path} is too long for a socket; set POSTERN_STATE_DIR to a shorter path")
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self.path.exists():
            self._take_over()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(self.path))
        self.path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._answer, sock=sock, limit=MAX_REQUEST)

    def _take_over(self) -> None:
        """Remove what a node that died left behind; a node that lives keeps its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.path))
            except OSError:
                self.path.unlink(missing_ok=True)
                return
        raise ControlError(f"Another process runs this node already: {self.path} answers.")

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _same_account(writer.get_extra_info("socket")):
                log.warning("control: refused a process of another account")
                return
            message = await asyncio.wait_for(frames.read(reader, MAX_REQUEST), 10.0)
            try:
                answer = await self._handle(message)
            except ControlError as error:
                answer = {"error": str(error)}
            writer.write(frames.encode(answer))
            await writer.drain()
        except (FrameError, asyncio.IncompleteReadError, TimeoutError, ConnectionError) as error:
            log.debug("control: %s", error)
        finally:
            writer.close()


class ControlServer(Door):
    """Answers questions about the node that runs in this process."""

    def __init__(self, node: "RelayNode", state_dir: Path, name: str) -> None:
        super().__init__(socket_path(state_dir, name, node.worker), self.handle)
        self.node = node
        others = range(1, node.workers) if node.worker == 0 else ()
        self._others = [socket_path(state_dir, name, worker) for worker in others]

    async def handle(self, message: Message) -> Message:
        """Raises ControlError."""
        if message.get("op") == "missing":  # asked by the first worker, of one that starts too
            return {"missing": self.node.missing()}
        if self.node.snapshot is None:
            raise ControlError(f"Node {self.path.parent.name} is starting; ask again in a moment.")
        match message.get("op"):
            case "state":
                return merged([self.node.state(), *await self._ask_others(message)])
            case "trace":
                own = {"lanes": self.node.refusals.lanes(str(message.get("trace_id")))}
                found = [own, *await self._ask_others(message)]
                return next((answer for answer in found if answer["lanes"]), own)
            case "refused_since":
                others = await self._ask_others(message)
                sources = [self.node.refusals.since(message), *(answer["sources"] for answer in others)]
                return {"sources": [source for each in sources for source in each]}
            case "metrics":
                return {"metrics": self.node.metrics.as_document(), "state": self.node.state()}
            case "invoke":
                return await invoke(self.node, _read_invoke(message))
            case other:
                raise ControlError(f"There is no operation {other!r}.")

    async def metrics(self) -> bytes:
        """What all workers counted, as Prometheus reads it."""
        total = Metrics()
        states = [self.node.state()]
        total.add(self.node.metrics.as_document())
        for answer in await self._ask_others({"op": "metrics"}):
            total.add(answer["metrics"])
            states.append(answer["state"])
        return exposition(total, merged(states), self.node.snapshot)

    async def missing(self) -> list[str]:
        """Why the node is not ready to serve, in words; [] when it is, in each of its workers."""
        others = await asyncio.gather(*(_ask(path, {"op": "missing"}) for path in self._others))
        told = [None if answer is None else answer.get("missing") for answer in others]
        return _of_all([self.node.missing(), *(["it does not answer"] if each is None else each for each in told)])

    async def _ask_others(self, message: Message) -> list[Message]:
        """The other workers' answers; of one that starts or stops, none."""
        answers = await asyncio.gather(*(_ask(path, message) for path in self._others))
        return [answer for answer in answers if answer is not None and "error" not in answer]


async def _ask(path: Path, message: Message) -> Message | None:
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_REQUEST)
            try:
                writer.write(frames.encode(message))
                return await frames.read(reader, MAX_REQUEST)
            finally:
                writer.close()
    except (OSError, TimeoutError, FrameError, asyncio.IncompleteReadError) as error:
        log.warning("control: %s does not answer: %s", path.name, error)
        return None


def _of_all(missing: list[list[str]]) -> list[str]:
    """What every worker says once; the rest with the number of who says it, as logs have it."""
    common = [words for words in missing[0] if all(words in each for each in missing)]
    own = [f"worker {number}: {words}" for number, each in enumerate(missing) for words in each if words not in common]
    return common + own


def merged(states: list[dict[str, Any]]) -> dict[str, Any]:
    """One state of a node from those of its workers, the first of which speaks for what they share."""
    first, *others = states
    if not others:
        return first
    ports = {port["name"]: dict(port) for port in first["ports"]}
    tunnels: dict[tuple[str, str, str], dict[str, Any]] = {}
    for state in others:
        for port in state["ports"]:
            if port["name"] in ports:
                ports[port["name"]]["connections"] += port["connections"]
                ports[port["name"]]["listening"] &= port["listening"]
    for row in [row for state in states for row in state["tunnels"]]:
        key = row["registration"], row["port"], row["peer"]
        known = tunnels.setdefault(key, dict(row, idle=0, busy=0, certificates={}))
        for sha256, count in row["certificates"].items():
            known["certificates"][sha256] = known["certificates"].get(sha256, 0) + count
        known["idle"] += row["idle"]
        known["busy"] += row["busy"]
        known["last_seen"] = max((s for s in (known["last_seen"], row["last_seen"]) if s is not None), default=None)
    return first | {
        "revision": min(state["revision"] for state in states),
        "requests": sum(state["requests"] for state in states),
        "in_flight": sum(state["in_flight"] for state in states),
        "ports": list(ports.values()),
        "tunnels": list(tunnels.values()),
        "left": [row for state in states for row in state["left"]],
    }


def _same_account(sock: Any) -> bool:
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (os.getuid(), 0)


def _read_invoke(message: Message) -> Invoke:
    """Raises ControlError, naming the field."""
    try:
        certificate = message.get("certificate")
        return Invoke(
            port=str(message["port"]),
            method=str(message["method"]),
            target=str(message["target"]),
            headers=tuple((str(name), str(value)) for name, value in message.get("headers", [])),
            body=base64.b64decode(message.get("body") or "", validate=True),
            certificate=from_der(base64.b64decode(certificate, validate=True)) if certificate else None,
            chain=tuple(from_der(base64.b64decode(link, validate=True)) for link in message.get("chain") or []),
            username=message.get("username"),
            password=message.get("password"),
            timeout=float(message.get("timeout") or 30.0),
        )
    except KeyError as error:
        raise ControlError(f"A test invoke needs {error}.") from error
    except (ValueError, TypeError, CertificateError, binascii.Error) as error:
        raise ControlError(f"The test invoke cannot be read: {error}") from error
