"""What would happen to a request: decided by the same function as on the nodes, and nothing sent."""

import time
from typing import Any

from gateway.compile import document_of
from gateway.core import paths
from gateway.core.decision import CredentialKind, Decision, Facts, Outcome, PasswordVerdict, decide
from gateway.core.explain import lane
from gateway.core.reasons import REASONS, GatewayReason, Reason
from gateway.core.snapshot import API, EndpointIdentity, PortType, Snapshot, from_document
from gateway.models import Port as PortRow
from gateway.models import Registration as RegistrationRow
from gateway.relay.builtin import basic
from identity.core.assertions import Proof
from identity.core.certificates import Certificate, from_der
from identity.core.passwords import verify_password
from identity.core.reasons import IdentityReason


def simulate(
    port: str,
    method: str,
    target: str,
    *,
    certificate: bytes | None = None,
    chain: list[bytes] | None = None,
    username: str | None = None,
    password: str | None = None,
    address: str = "127.0.0.1",
) -> dict[str, Any]:
    """Decide as the nodes would, one after the other: `status`, `reason` and `lanes`, as a test invoke answers.

    Args:
        certificate, chain: DER; as if a handshake had shown them.
    Raises:
        LookupError: there is no such port, or it is not one that clients call.
    """
    row = PortRow.objects.select_related("node").filter(name=port, enabled=True).first()
    if row is None or row.type not in (PortType.EXTERNAL, PortType.REGULAR):
        raise LookupError(f"There is no enabled external or regular port {port!r}.")
    snapshot = from_document(document_of(row.node.name))
    facts = Facts(
        snapshot.ports[port],
        address,
        method,
        target,
        authorization=basic(username, password or "").decode() if username is not None else None,
        certificate=from_der(certificate) if certificate else None,
        intermediates=tuple(from_der(der) for der in chain or ()),
        proof=Proof.TEST if certificate else None,
    )
    lanes: list[dict[str, Any]] = []
    reason = _decide(facts, snapshot, lanes)
    return {
        "status": REASONS[reason].status if reason else 200,
        "reason": reason.value if reason else None,
        "lanes": lanes,
    }


def _decide(facts: Facts, snapshot: Snapshot, lanes: list[dict[str, Any]]) -> Reason | None:
    """Append this node's lane and those behind it; the reason that the caller would get."""
    now = time.time()
    decision = decide(facts, snapshot, now)
    if decision.outcome is Outcome.VERIFY:
        assert decision.user is not None
        right = verify_password(decision.password, decision.user.password_hash)
        facts.password = PasswordVerdict.RIGHT if right else PasswordVerdict.WRONG
        decision = decide(facts, snapshot, now)
    lanes.append(lane(snapshot.node, facts.port.name, decision))
    if decision.outcome is Outcome.PASS:
        return _beyond(facts, decision, facts.port.registration_port, decision.path, None, snapshot, lanes)
    if decision.outcome is Outcome.CALL:
        api = decision.route
        assert isinstance(api, API)
        endpoint = api.endpoint
        if endpoint.url.scheme != "reverse":
            return None  # what an https server says is its own business
        path = paths.rebase(decision.path, api.path, endpoint.url.base)
        inner = _beyond(facts, decision, endpoint.url.host, path, api, snapshot, lanes)
        if isinstance(inner, IdentityReason) and endpoint.identity is not EndpointIdentity.CALLER:
            return GatewayReason.ENDPOINT_REFUSED
        return inner
    return decision.reason


def _beyond(
    facts: Facts,
    decision: Decision,
    registration_port: str,
    path: str,
    api: API | None,
    edge: Snapshot,
    lanes: list[dict[str, Any]],
) -> Reason | None:
    """The internal node's decision on what the edge would send it."""
    if not edge.carries(registration_port, path):
        return GatewayReason.NOT_ON_CHANNEL
    rows = RegistrationRow.objects.filter(port__name=registration_port, enabled=True, dials__isnull=False)
    for row in rows.select_related("node").distinct():
        snapshot = from_document(document_of(row.node.name))
        registration = snapshot.registrations[row.name]
        if registration.carries(path):
            break
    else:
        return GatewayReason.NO_INTERNAL_CONNECTION
    port = next(p for p in snapshot.ports.values() if any(dial.registration.name == row.name for dial in p.connect))
    target = path if decision.query is None else f"{path}?{decision.query}"
    inner = Facts(port, decision.caller, facts.method, target, registration=registration)
    _hand_on(facts, decision, api, inner)
    return _decide(inner, snapshot, lanes)


def _hand_on(facts: Facts, decision: Decision, api: API | None, inner: Facts) -> None:
    """What the internal node is told of who calls."""
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
            inner.certificate, inner.intermediates, inner.proof = facts.certificate, facts.intermediates, facts.proof
        if facts.port.accept_basic and (api is None or decision.credential is CredentialKind.BASIC):
            inner.authorization = facts.authorization
