"""Every node's snapshot at once, and the way that a request takes through them; nothing is sent.

What the simulation, the test invoke's explanation and the answers about access have in common: each node decides by
`gateway.core.decision.decide`, and what one hands on the next decides again. Knows no rows; `gateway.compile` does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.core import paths
from gateway.core.decision import CredentialKind, Decision, Facts, Outcome, PasswordVerdict, decide
from gateway.core.difference import Document
from gateway.core.document import from_document
from gateway.core.reasons import GatewayReason, Reason
from gateway.core.snapshot import API, EndpointIdentity, Port, PortType, Registration, Service, Snapshot, User
from gateway.relay.builtin import basic
from identity.core.assertions import Proof
from identity.core.certificates import Certificate
from identity.core.reasons import IdentityReason

# Whether a password is the user's; the relay asks a pool of slow hashes.
Verify = Callable[[str, User], bool]


class FarEnd(NamedTuple):
    """Where a channel ends: the internal node's own view of the registration, and the port that dialled."""

    registration: Registration
    snapshot: Snapshot
    port: Port


class Lane(NamedTuple):
    """One node's part of a way."""

    snapshot: Snapshot
    port: Port
    decision: Decision


@dataclass(slots=True)
class Way:
    """What came of a request. `reason`: what the caller would be told; None where it is carried out."""

    lanes: list[Lane] = field(default_factory=list)
    reason: Reason | None = None


@dataclass(slots=True)
class Memory:
    """What was found out of places, as of a time (seconds since 1970-01-01 UTC), and of ports."""

    at: float = 0.0
    found: dict[Any, Any] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)  # port → one that it lets in

    def at_time(self, now: float) -> dict[Any, Any]:
        """What was found out in the minute before `now`: certificates of our own end."""
        if not 0 <= now - self.at < 60:
            self.at, self.found = now, {}
        return self.found


class World:
    """`entries`: ports that clients call, each with its node's snapshot. Immutable.

    `memory`: what was found out of its places, or of a world that differs in its certificates on file alone.
    """

    def __init__(self, snapshots: Mapping[str, Snapshot], memory: "Memory | None" = None) -> None:
        self.snapshots = dict(snapshots)
        self.memory = memory or Memory()
        self.entries: dict[str, tuple[Snapshot, Port]] = {}
        self._channels: dict[str, list[FarEnd]] = {}
        for snapshot in self.snapshots.values():
            for port in snapshot.ports.values():
                if port.type in (PortType.REGULAR, PortType.EXTERNAL):
                    self.entries[port.name] = snapshot, port
                for dial in port.connect:
                    if dial.registration.enabled:
                        end = FarEnd(dial.registration, snapshot, port)
                        self._channels.setdefault(dial.registration.port, []).append(end)
        for ends in self._channels.values():
            ends.sort(key=lambda end: (end.registration.name, end.port.name))

    @classmethod
    def of(cls, documents: Mapping[str, Document], before: "World | None" = None) -> "World":
        """`before`: shares what is the same. Raises SnapshotError."""
        old = before.snapshots if before else {}
        return cls({node: from_document(document, old.get(node)) for node, document in documents.items()})

    @property
    def users(self) -> dict[str, User]:
        """All that some node knows, with their password hashes where one node has business with them."""
        found: dict[str, User] = {}
        for snapshot in self.snapshots.values():
            for name, user in snapshot.users.items():
                if name not in found or user.password_hash:
                    found[name] = user
        return found

    def far_ends(self, registration_port: str) -> list[FarEnd]:
        return self._channels.get(registration_port, [])

    def far_end(self, registration_port: str, path: str) -> FarEnd | None:
        """The end of the channel that carries the path."""
        return next((end for end in self.far_ends(registration_port) if end.registration.carries(path)), None)

    # --- the way of a request ---

    def walk(self, facts: Facts, snapshot: Snapshot, now: float, verify: Verify) -> Way:
        """Decide as the nodes would, one after the other, from `facts` at a port of `snapshot`."""
        way = Way()
        way.reason = self._decide(facts, snapshot, now, verify, way.lanes)
        return way

    def _decide(self, facts: Facts, snapshot: Snapshot, now: float, verify: Verify, lanes: list[Lane]) -> Reason | None:
        """Append this node's lane and those behind it; the reason that the caller would get."""
        decision = decide(facts, snapshot, now)
        if decision.outcome is Outcome.VERIFY:
            assert decision.user is not None
            right = verify(decision.password, decision.user)
            facts.password = PasswordVerdict.RIGHT if right else PasswordVerdict.WRONG
            decision = decide(facts, snapshot, now)
        lanes.append(Lane(snapshot, facts.port, decision))
        if decision.outcome is Outcome.PASS:
            if not snapshot.carries(facts.port.registration_port, decision.path):
                return GatewayReason.NOT_ON_CHANNEL
            inner = self._hand_on(facts, decision, None, facts.port.registration_port, decision.path)
            return self._beyond(inner, now, verify, lanes)
        if decision.outcome is Outcome.CALL:
            assert isinstance(decision.route, API)
            return self.called(decision.route, facts, decision, snapshot, now, verify, lanes)
        return decision.reason

    def called(
        self, api: API, facts: Facts, decision: Decision, edge: Snapshot, now: float, verify: Verify, lanes: list[Lane]
    ) -> Reason | None:
        """What comes of the call that an API makes for a caller whom this node has admitted."""
        endpoint = api.endpoint
        if endpoint.url.scheme != "reverse":
            return None  # what an https server says is its own business
        path = paths.rebase(decision.path, api.path, endpoint.url.base)
        if not edge.carries(endpoint.url.host, path):
            return GatewayReason.NOT_ON_CHANNEL
        inner = self._beyond(self._hand_on(facts, decision, api, endpoint.url.host, path), now, verify, lanes)
        if isinstance(inner, IdentityReason) and endpoint.identity is not EndpointIdentity.CALLER:
            return GatewayReason.ENDPOINT_REFUSED
        return inner

    def _beyond(
        self, inner: tuple[Facts, Snapshot] | None, now: float, verify: Verify, lanes: list[Lane]
    ) -> Reason | None:
        """The internal node's decision on what the edge would send it."""
        if inner is None:
            return GatewayReason.NO_INTERNAL_CONNECTION
        return self._decide(*inner, now, verify, lanes)

    def _hand_on(
        self, facts: Facts, decision: Decision, api: API | None, registration_port: str, path: str
    ) -> tuple[Facts, Snapshot] | None:
        """What the internal node is told, of the request and of who calls; None where no channel leads there."""
        end = self.far_end(registration_port, path)
        if end is None:
            return None
        target = path if decision.query is None else f"{path}?{decision.query}"
        inner = Facts(end.port, decision.caller, facts.method, target, registration=end.registration)
        identity = api.endpoint.identity if api else EndpointIdentity.CALLER
        if identity is EndpointIdentity.CERTIFICATE:
            assert api is not None and api.endpoint.keystore is not None
            leaf: Certificate
            leaf, *above = api.endpoint.keystore.chain
            inner.certificate, inner.intermediates, inner.proof = leaf, tuple(above), Proof.KEY
        elif identity is EndpointIdentity.BASIC:
            assert api is not None
            inner.authorization = basic(api.endpoint.username, api.endpoint.password).decode()
        elif identity is EndpointIdentity.CALLER:
            if decision.credential is CredentialKind.CERTIFICATE:
                inner.certificate, inner.proof = facts.certificate, facts.proof
                inner.intermediates = facts.intermediates
            if facts.port.accept_basic and (api is None or decision.credential is CredentialKind.BASIC):
                inner.authorization = facts.authorization
        return inner, end.snapshot


def routes_of(snapshot: Snapshot, port: Port) -> Iterable[Service | API]:
    """What stands at a port of this node; what passes through it stands on the node behind."""
    if port.type is PortType.EXTERNAL:
        return snapshot.apis.values()
    return [*snapshot.services.values(), *snapshot.apis.values()]
