"""What is done with a request: one function over an immutable snapshot, without I/O.

The relay, the simulation, the test invoke and every "what would happen" call it; they differ only in where
the facts come from. Steps follow `docs/decisions.md`: address, path, port access, authentication, ACL.
"""

import base64
import binascii
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from gateway.core import paths
from gateway.core.addresses import behind_proxies, parse_address
from gateway.core.paths import PathError
from gateway.core.reasons import REASONS, GatewayReason, Reason
from gateway.core.snapshot import (
    ADMINISTRATORS,
    API,
    DEFAULT_USER,
    EVERYBODY,
    ClientAuth,
    Port,
    PortType,
    Registration,
    Service,
    Snapshot,
    User,
)
from identity.core import chains, mapping
from identity.core.acl import ACL, admits
from identity.core.assertions import Proof
from identity.core.certificates import Certificate
from identity.core.mapping import usable_at
from identity.core.reasons import IdentityReason
from identity.core.trace import Step, Words

FOREVER = float("inf")


class Outcome(StrEnum):
    EXECUTE = "execute"  # a service of this node
    CALL = "call"  # the endpoint of an API
    PASS = "pass"  # noqa: S105 - through the registration port, as it is
    REFUSE = "refuse"
    VERIFY = "verify"  # the password has to be checked first; decide again with the verdict


class PasswordVerdict(Enum):
    UNKNOWN = "unknown"
    RIGHT = "right"
    WRONG = "wrong"
    THROTTLED = "throttled"  # too many wrong ones for this user from this address


class CredentialKind(StrEnum):
    CERTIFICATE = "certificate"
    BASIC = "basic"
    NONE = "none"


@dataclass(slots=True)
class Facts:
    """What is known of a request, by whoever received it.

    Attributes:
        peer: the address that the bytes came from; at an internal port the caller's, as the edge tells it.
        target: the request target as it came: origin form, or absolute form.
        forwarded_for: values of X-Forwarded-For, in order.
        authorization: the one Authorization value, or None.
        certificate, intermediates: what the peer proved, and what came with it.
        proof: how it was proved; at an internal port from the verified assertion.
        valid_until: when the proof ends, seconds since 1970-01-01 UTC.
        problem: why the channel itself refuses (assertion, registration), found before the decision.
        registration: at an internal port, that of the tunnel.
        misdirected: the host that was asked for, where the connection was made for another one's name.
    """

    port: Port
    peer: str
    method: str
    target: str
    forwarded_for: tuple[str, ...] = ()
    authorization: str | None = None
    certificate: Certificate | None = None
    intermediates: tuple[Certificate, ...] = ()
    proof: Proof | None = None
    valid_until: float = FOREVER
    problem: tuple[Reason, str] | None = None
    registration: Registration | None = None
    password: PasswordVerdict = PasswordVerdict.UNKNOWN
    misdirected: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the request runs as. `groups`: that count for being allowed; `denied_by`: that count for being denied."""

    user: str
    groups: frozenset[str]
    denied_by: frozenset[str]
    credential: CredentialKind
    certificate: Certificate | None = None
    chain: tuple[Certificate, ...] = ()

    @property
    def anonymous(self) -> bool:
        return self.user == DEFAULT_USER


@dataclass(slots=True)
class Decision:
    """What comes of a request.

    Attributes:
        path, query: in their normal form; the query without `?`, None where the target has none.
        caller: the address that counts as the caller's.
        identity: None where nobody was found, or where the far side finds out.
        chain: verified issuers of the caller's certificate.
        until: the decision holds until then (seconds since 1970-01-01 UTC), all else being equal.
        detail: what was wrong, for callers of a port that explains.
        allow: methods for the Allow header of a 405.
        user, password: with VERIFY, whose password is to be checked, and the password.
    """

    outcome: Outcome
    steps: list[Step] = field(default_factory=list)
    reason: Reason | None = None
    path: str = ""
    query: str | None = None
    caller: str = ""
    route: Service | API | None = None
    credential: CredentialKind = CredentialKind.NONE
    proof: Proof | None = None
    identity: Identity | None = None
    chain: tuple[Certificate, ...] = ()
    until: float = FOREVER
    detail: Words = ""
    allow: frozenset[str] = frozenset()
    user: User | None = None
    password: str = field(default="", repr=False)

    @property
    def status(self) -> int:
        """Of a refusal."""
        return REASONS[self.reason].status if self.reason is not None else 200


def decide(facts: Facts, snapshot: Snapshot, now: float) -> Decision:
    """What is done with the request. Total: never raises. `now`: seconds since 1970-01-01 UTC."""
    decision = Decision(Outcome.REFUSE)
    if _check_address(facts, decision) or _check_path(facts, snapshot, decision):
        return decision
    if _check_port_access(facts, decision) or _authenticate(facts, snapshot, now, decision):
        return decision
    _check_acl(decision)
    return decision


# Each step returns True when it ended the decision.


def _refuse(decision: Decision, reason: Reason, check: str, found: Words, against: Words = "") -> bool:
    decision.outcome, decision.reason = Outcome.REFUSE, reason
    decision.detail = against or found
    decision.steps.append(Step(check, False, found, against))
    return True


def _check_address(facts: Facts, decision: Decision) -> bool:
    port = facts.port
    decision.caller = facts.peer
    try:
        address = parse_address(facts.peer)
        if port.trusted_proxies and facts.forwarded_for:
            address = behind_proxies(address, facts.forwarded_for, port.trusted_proxies)
            decision.caller = str(address)
    except ValueError:
        return _refuse(decision, GatewayReason.IP_DENIED, "address", facts.peer, "that is no address")
    access = port.ip_access
    if not access.admits(address):
        why = "in a denied network" if any(address in n for n in access.deny) else "in no allowed network"
        return _refuse(
            decision,
            GatewayReason.IP_DENIED,
            "address",
            decision.caller,
            ("ip_access of port {0}: {1}", port.name, why),
        )
    decision.steps.append(Step("address", True, decision.caller, ("ip_access of port {0} admits it", port.name)))
    if facts.misdirected:
        against: Words = "the certificate that the connection was shown is not for this host"
        return _refuse(decision, GatewayReason.MISDIRECTED_REQUEST, "host", facts.misdirected, against)
    return False


def split_target(target: str) -> tuple[str, str | None]:
    """Path and query of an origin-form or absolute-form target (RFC 9112, section 3.2).

    Raises:
        PathError: neither.
    """
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https") or not rest or rest[0] in "/?#":
            raise PathError("the target is neither a path nor an absolute URL")
        cut = min((i for i in (rest.find("/"), rest.find("?"), rest.find("#")) if i >= 0), default=len(rest))
        target = rest[cut:]
        if not target.startswith("/"):
            target = "/" + target
    path, separator, query = target.partition("?")
    if separator:
        paths.check_query(query)
    return path, query if separator else None


def _check_path(facts: Facts, snapshot: Snapshot, decision: Decision) -> bool:
    if facts.method in ("CONNECT", "TRACE") or facts.target == "*":
        return _refuse(decision, GatewayReason.NOT_IMPLEMENTED, "path", ("{0} {1}", facts.method, facts.target[:200]))
    if not facts.target.startswith("/") and "://" not in facts.target:
        return _refuse(
            decision, GatewayReason.NOT_IMPLEMENTED, "path", ("target {0}", facts.target[:200]), "authority form"
        )
    try:
        raw, decision.query = split_target(facts.target)
        path = paths.normalise(raw)
    except PathError as error:
        return _refuse(decision, GatewayReason.REQUEST_MALFORMED, "path", facts.target[:200], str(error))
    decision.path = path
    external = facts.port.type is PortType.EXTERNAL
    route = (snapshot.api_routes if external else snapshot.all_routes).find(path)
    decision.route = route
    if facts.registration is not None and not facts.registration.carries(path):
        against: Words = ("registration {0} carries {1}", facts.registration.name, facts.registration.paths)
        return _refuse(decision, GatewayReason.NOT_ON_CHANNEL, "path", path, against)
    if route is None:
        if external:
            against = ("no API; passed through {0}", facts.port.registration_port)
            decision.steps.append(Step("path", True, path, against))
            return False
        # What the port's list denies is told before what is there, so that a port shows only what its list shows.
        if not facts.port.service_access.admits(path, None):
            return _check_port_access(facts, decision)
        return _refuse(
            decision, GatewayReason.NOT_FOUND, "path", path, ("no service among {0}", len(snapshot.all_routes))
        )
    kind = "API" if isinstance(route, API) else "service"
    if route.methods and facts.method not in route.methods:
        if not facts.port.service_access.admits(path, route.name):
            return _check_port_access(facts, decision)
        decision.allow = route.methods
        against = ("{0} {1} takes {2}", kind, route.name, route.methods)
        return _refuse(decision, GatewayReason.METHOD_NOT_ALLOWED, "path", ("{0} {1}", facts.method, path), against)
    decision.steps.append(Step("path", True, path, ("{0} {1} at {2}", kind, route.name, route.path)))
    return False


def _check_port_access(facts: Facts, decision: Decision) -> bool:
    port, route = facts.port, decision.route
    if port.service_access.admits(decision.path, route.name if route else None):
        decision.steps.append(
            Step("port access", True, decision.path, ("service_access of port {0} shows it", port.name))
        )
        return False
    against: Words = ("service_access of port {0} does not show it", port.name)
    return _refuse(decision, GatewayReason.SERVICE_NOT_ON_PORT, "port access", decision.path, against)


def _authenticate(facts: Facts, snapshot: Snapshot, now: float, decision: Decision) -> bool:
    """Exactly one identity, or a refusal; a pass-through without `authenticate` leaves it to the far side."""
    passing = decision.route is None
    if facts.problem is not None:
        return _refuse(decision, facts.problem[0], "assertion", facts.problem[1])
    if facts.certificate is not None:
        decision.credential, decision.proof = CredentialKind.CERTIFICATE, facts.proof
        return _by_certificate(facts, facts.certificate, snapshot, now, decision, passing)
    port = facts.port
    if port.client_auth is ClientAuth.REQUIRE:
        against: Words = ("port {0} requires one", port.name)
        return _refuse(decision, IdentityReason.CERTIFICATE_REQUIRED, "certificate", "none shown", against)
    basic = facts.authorization is not None and is_basic(facts.authorization)
    if basic and port.accept_basic:
        decision.credential = CredentialKind.BASIC
        return _by_password(facts, snapshot, decision, passing)
    if passing and not port.authenticate:
        decision.outcome = Outcome.PASS
        decision.steps.append(Step("authentication", True, "no credential", "the internal node decides"))
        return True
    default = snapshot.users.get(DEFAULT_USER)
    groups = default.groups if default else frozenset({EVERYBODY, "Anonymous"})
    decision.identity = Identity(DEFAULT_USER, groups, groups, CredentialKind.NONE)
    unread = "a password, which the port does not accept" if basic else "no credential"
    decision.steps.append(Step("authentication", True, unread, "runs as Default"))
    if passing:
        decision.outcome = Outcome.PASS
        return True
    return False


def _by_certificate(
    facts: Facts, certificate: Certificate, snapshot: Snapshot, now: float, decision: Decision, passing: bool
) -> bool:
    port, registration = facts.port, facts.registration
    found: Words = (
        "{0} (…{1}), by {2}",
        certificate.title,
        certificate.sha256[-8:],
        facts.proof or "tls",
    )
    if facts.proof is Proof.TEST and registration is not None and not registration.allow_test:
        against: Words = ("registration {0} does not allow test invokes (allow_test)", registration.name)
        return _refuse(decision, IdentityReason.ASSERTION_NOT_PERMITTED, "certificate", found, against)
    truststore = port.judges_by
    if port.client_auth is ClientAuth.PASSWORD or truststore is None:
        against = ("port {0} takes no certificates (client_auth: password)", port.name)
        return _refuse(decision, IdentityReason.CERTIFICATE_UNTRUSTED, "certificate", found, against)
    verdict = chains.judge(certificate, facts.intermediates, truststore, now)
    decision.until = min(decision.until, verdict.until, facts.valid_until)
    if verdict.reason is not None:
        return _refuse(decision, verdict.reason, "certificate", found, verdict.words)
    decision.chain = verdict.chain
    decision.steps.append(Step("certificate", True, found, verdict.words))
    if certificate.sha256 in snapshot.blocked:  # of all nodes, those that map nobody too
        against = "it is blocked, and logs nobody in by a rule either"
        return _refuse(decision, IdentityReason.CERTIFICATE_UNMAPPED, "mapping", found, against)
    if registration is not None and registration.truststores is not None:
        allowed = [chains.judge(certificate, facts.intermediates, store, now) for store in registration.truststores]
        decision.until = min([decision.until, *(verdict.until for verdict in allowed)])
        if all(verdict.reason is not None for verdict in allowed):
            names = tuple(store.name for store in registration.truststores)
            against = ("registration {0} may assert certificates of {1} only", registration.name, names)
            return _refuse(decision, IdentityReason.ASSERTION_NOT_PERMITTED, "registration", found, against)
    if passing and not port.authenticate:
        decision.outcome = Outcome.PASS
        decision.steps.append(Step("authentication", True, "certificate handed on", "the internal node maps it"))
        return True
    resolution = mapping.resolve(certificate, verdict.chain, snapshot.mappings, snapshot.users, port.name, now)
    decision.until = min(decision.until, resolution.until)
    decision.steps.extend(resolution.steps)
    if resolution.reason is not None or resolution.user is None:
        decision.outcome, decision.reason = Outcome.REFUSE, resolution.reason
        decision.detail = resolution.steps[-1].against or resolution.steps[-1].found
        return True
    return _as_user(resolution.user, facts, snapshot, decision, passing)


def is_basic(authorization: str) -> bool:
    return authorization[:6].lower() == "basic " or authorization.lower() == "basic"


def parse_basic(authorization: str) -> tuple[str, str]:
    """User and password (RFC 7617). Raises ValueError."""
    try:
        pair = base64.b64decode(authorization[6:].strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not base64 of UTF-8 text") from error
    user, separator, password = pair.partition(":")
    if not separator or not user or any(c < " " or c == "\x7f" for c in pair):
        raise ValueError("not user:password")
    return user, password


def _by_password(facts: Facts, snapshot: Snapshot, decision: Decision, passing: bool) -> bool:
    if passing and not facts.port.authenticate:
        decision.outcome = Outcome.PASS
        decision.steps.append(
            Step("authentication", True, "user and password handed on", "the internal node checks them")
        )
        return True
    invalid = IdentityReason.INVALID_CREDENTIALS
    try:
        name, decision.password = parse_basic(facts.authorization or "")
    except ValueError as error:
        return _refuse(decision, invalid, "password", "the Authorization header", str(error))
    if facts.password is PasswordVerdict.THROTTLED:
        against: Words = "too many wrong passwords for this user from this address; refused for a while"
        return _refuse(decision, invalid, "password", ("user {0}", name), against)
    user = snapshot.users.get(name)
    barred = _why_barred(user, facts.port)
    if facts.password is PasswordVerdict.UNKNOWN:
        # There is always something to verify, and it takes as long. Of a user who may not log in here it is what
        # nobody's password is: whether his was right shows in nothing, not in what is remembered or counted either.
        decision.outcome = Outcome.VERIFY
        decision.user = user if user is not None and not barred else User(name, frozenset(), False)
        return True
    wrong = "user or password is wrong"
    if user is None or user.name == DEFAULT_USER or barred or facts.password is PasswordVerdict.WRONG:
        _refuse(decision, invalid, "password", ("user {0}", name), barred or wrong)
        decision.detail = wrong  # to the caller each of these is the same; the trace knows better
        return True
    decision.steps.append(Step("password", True, ("user {0}", name), "the password is right"))
    return _as_user(name, facts, snapshot, decision, passing)


def _why_barred(user: User | None, port: Port) -> Words:
    """Why a user's password counts for nothing at a port, right or wrong; "" where it may count."""
    if user is None or user.name == DEFAULT_USER:
        return ""
    if not user.enabled:
        return "the user is disabled"
    if not usable_at(user.ports, port.name):
        return "the user is for ports {0} only, and this is port {1}", user.ports, port.name
    return ""


def _as_user(name: str, facts: Facts, snapshot: Snapshot, decision: Decision, passing: bool) -> bool:
    user = snapshot.users[name]
    groups, registration = user.groups, facts.registration
    if registration is not None:
        if registration.groups is None:
            groups = user.groups - {ADMINISTRATORS}
        else:
            groups = user.groups & (registration.groups | {EVERYBODY})
            if not groups - {EVERYBODY}:
                against: Words = ("registration {0} may assert groups {1} only", registration.name, registration.groups)
                found: Words = ("user {0} in {1}", name, user.groups)
                return _refuse(decision, IdentityReason.ASSERTION_NOT_PERMITTED, "registration", found, against)
    # What is denied to the user stays denied on a channel that carries fewer of his groups.
    decision.identity = Identity(
        name, groups, user.groups, decision.credential,
        facts.certificate if decision.credential is CredentialKind.CERTIFICATE else None, decision.chain,
    )  # fmt: skip
    decision.steps.append(Step("user", True, ("user {0}, enabled", name), ("groups: {0}", groups)))
    if passing:
        decision.outcome = Outcome.PASS
        return True
    return False


def _check_acl(decision: Decision) -> None:
    route, identity = decision.route, decision.identity
    assert route is not None and identity is not None
    acl: ACL = route.acl
    against: Words = ("ACL {0} allows {1}; denies {2}", acl.name, acl.allowed, acl.denied)
    found: Words = ("user {0} in {1}", identity.user, identity.groups)
    if not admits(acl, identity.groups, identity.denied_by):
        anonymous = identity.credential is CredentialKind.NONE
        reason = IdentityReason.AUTHENTICATION_REQUIRED if anonymous else IdentityReason.ACL_DENIED
        _refuse(decision, reason, "ACL", found, against)
        return
    decision.steps.append(Step("ACL", True, found, against))
    decision.outcome = Outcome.CALL if isinstance(route, API) else Outcome.EXECUTE
