"""A test invoke, or its simulation: what is asked of which node, what is recorded of it, and the answer to be read."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from django.utils.translation import gettext

from console.nodes import ask, enrolled
from gateway.audit import record_test
from gateway.core.document import SnapshotError
from gateway.models import Port
from gateway.relay.control import ControlError
from gateway.simulation import simulate
from identity.core.certificates import Certificate as Parsed
from identity.models import Certificate, Keystore

TIMEOUT = 30.0  # seconds for a test invoke, as the node counts them
CONNECT = 5.0  # seconds more, for asking the node and hearing from it

Credential = Literal["none", "certificate", "keystore", "pem", "password"]


class InvocationError(Exception):
    """Nothing was sent, or no answer came; the message says why, in words for a page."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is sent, and as whom. Every address in it is a configured port's: nothing else can be reached.

    Attributes:
        target: path and query, as a client would write them.
        headers: (name, value), in order.
        certificate: with the credential `certificate`; its key is not needed, nor had.
        keystore: with the credential `keystore`; its certificate and intermediates are shown, its key is not used.
        pem: with the credential `pem`; a certificate that need not be on file, and what comes with it, leaf first.
    """

    port: Port
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    credential: Credential = "none"
    certificate: Certificate | None = None
    keystore: Keystore | None = None
    pem: tuple[Parsed, ...] = ()
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def chain(self) -> list[bytes]:
        """DER: what a handshake would have shown, leaf first; empty without a certificate."""
        if self.credential == "certificate" and self.certificate is not None:
            return [bytes(self.certificate.der)]
        if self.credential == "keystore" and self.keystore is not None:
            return [link.der for link in self.keystore.certificates]
        if self.credential == "pem":
            return [link.der for link in self.pem]
        return []

    @property
    def basic(self) -> tuple[str, str] | tuple[None, None]:
        return (self.username, self.password) if self.credential == "password" else (None, None)

    @property
    def caller(self) -> str:
        """The credential as the first word of what happened."""
        if self.credential == "certificate" and self.certificate is not None:
            return self.certificate.subject
        if self.credential == "keystore" and self.keystore is not None:
            return self.keystore.subject
        if self.credential == "pem" and self.pem:
            return self.pem[0].subject.text or _by_fingerprint(self.pem[0].sha256)
        if self.credential == "password":
            return gettext("user {user}").format(user=self.username)
        return gettext("no credential")


def _by_fingerprint(sha256: str) -> str:
    return gettext("certificate …{fingerprint}").format(fingerprint=sha256[-8:])


def send(invocation: Invocation) -> dict[str, Any]:
    """The running node's answer, as `gateway.relay.invoke` gives it.

    Raises:
        InvocationError
    """
    chain = invocation.chain
    username, password = invocation.basic
    message = {
        "op": "invoke",
        "port": invocation.port.name,
        "method": invocation.method,
        "target": invocation.target,
        "headers": [list(header) for header in invocation.headers],
        "body": base64.b64encode(invocation.body.encode()).decode(),
        "certificate": base64.b64encode(chain[0]).decode() if chain else None,
        "chain": [base64.b64encode(link).decode() for link in chain[1:]],
        "username": username,
        "password": password,
        "timeout": TIMEOUT,
    }
    try:
        return ask(invocation.port.node.name, message, timeout=TIMEOUT + CONNECT, elsewhere=enrolled())
    except ControlError as error:
        raise InvocationError(str(error)) from error


def simulated(invocation: Invocation) -> dict[str, Any]:
    """What the nodes would decide, with `lanes` as an answer has them; nothing is sent.

    Raises:
        InvocationError
    """
    chain = invocation.chain
    username, password = invocation.basic
    try:
        return simulate(
            invocation.port.name,
            invocation.method,
            invocation.target,
            certificate=chain[0] if chain else None,
            chain=chain[1:],
            username=username,
            password=password,
        )
    except LookupError as error:
        raise InvocationError(str(error)) from error
    except SnapshotError as error:
        raise InvocationError(f"The configuration cannot be put in force: {error}") from error


def details(invocation: Invocation, outcome: dict[str, Any] | InvocationError) -> dict[str, Any]:
    """For the audit log: who was tried where, and what came of it. No password, body, header value or query."""
    found: dict[str, Any] = {
        "port": invocation.port.name,
        "node": invocation.port.node.name,
        "method": invocation.method,
        "path": invocation.target.partition("?")[0],
        "credential": invocation.credential,
    }
    match invocation.credential:
        case "certificate":
            found |= {"certificate": str(invocation.certificate)}
        case "keystore":
            found |= {"keystore": str(invocation.keystore)}
        case "pem":
            found |= {
                "certificate": f"{invocation.pem[0].subject.text}, SHA-256 {invocation.pem[0].sha256}".removeprefix(
                    ", "
                )
            }
        case "password":
            found |= {"username": invocation.username}
    if invocation.headers:
        found["headers"] = [name for name, _ in invocation.headers]
    if isinstance(outcome, InvocationError):
        return found | {"error": str(outcome)}
    return found | {
        "status": outcome["status"],
        "reason": outcome.get("reason"),
        "users": {lane["node"]: lane["user"] for lane in outcome["lanes"]},
        "trace_id": outcome.get("trace_id"),
    }


def tried(actor: str, address: str | None, invocation: Invocation, *, simulate: bool = False) -> dict[str, Any]:
    """The answer of a test invoke or of a simulation; what came of it stands in the audit log, whoever asked.

    Raises:
        InvocationError: there is no answer. That is recorded too.
    """
    try:
        answer = simulated(invocation) if simulate else send(invocation)
    except InvocationError as error:
        _record(actor, address, invocation, error, simulate=simulate)
        raise
    _record(actor, address, invocation, answer, simulate=simulate)
    return answer


def _record(
    actor: str,
    address: str | None,
    invocation: Invocation,
    outcome: dict[str, Any] | InvocationError,
    *,
    simulate: bool,
) -> None:
    what = "simulated" if simulate else "test invoke"
    where = f"{invocation.method} {invocation.target.partition('?')[0][:200]} at {invocation.port}"
    told = {"simulated": simulate} | details(invocation, outcome)
    record_test(actor, f"{what}: {where}", address, invocation.port.name, told)


def body_text(answer: dict[str, Any]) -> str | None:
    """The answer's body to be read: JSON indented, text as it is; None for what is no text."""
    raw = base64.b64decode(answer["body"])
    cut = len(raw) < answer["body_size"]
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if not (cut and error.end == len(raw)):  # a character that the limit cut in two is no reason
            return None
        text = raw[: error.start].decode()
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def ran_as(answer: dict[str, Any]) -> str:
    """The user that the last node took the caller for; "" where that was nobody, or it did not tell."""
    return next((lane["user"] for lane in reversed(answer["lanes"]) if lane["user"]), "")
