"""The frozen configuration of one node, and its document.

A document is plain JSON: what a node decides by can be written to a file, sent to another machine, compared
and signed. It is a section for each noun, an entry for each name. A new snapshot takes over from the one
before it every part whose entry is unchanged, so that what was parsed, and what was remembered of verdicts,
is not made again.
"""

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from gateway.core import difference, paths
from gateway.core.addresses import Address, EndpointURL, Network, parse_network, parse_url
from gateway.core.difference import Difference, Document
from gateway.core.limits import Limits
from identity.core.acl import ACL
from identity.core.certificates import Certificate, from_der
from identity.core.chains import MAX_DEPTH, Truststore, load_crl
from identity.core.files import certificates_from
from identity.core.mapping import ANYWHERE, FOREVER, Mappings, OnFile, Rule

FORMAT = 1
DEFAULT_USER, DEFAULT_ACL = "Default", "Default"
EVERYBODY, ANONYMOUS, ADMINISTRATORS = "Everybody", "Anonymous", "Administrators"


class Role(StrEnum):
    EDGE = "edge"
    INTERNAL = "internal"
    STANDALONE = "standalone"


class PortType(StrEnum):
    REGULAR = "regular"
    EXTERNAL = "external"
    REGISTRATION = "registration"
    INTERNAL = "internal"


class ClientAuth(StrEnum):
    PASSWORD = "password"  # noqa: S105
    REQUEST = "request"
    REQUIRE = "require"


class TLSVersion(StrEnum):
    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


class CipherSet(StrEnum):
    STRONG = "strong"
    COMPATIBLE = "compatible"


class EndpointIdentity(StrEnum):
    CALLER = "caller"
    CERTIFICATE = "certificate"
    BASIC = "basic"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class User:
    """Whom requests run as.

    Attributes:
        groups: all that count, the fixed ones too.
        password_hash: "" where this node has no business with it.
        ports: where alone he may be used; empty: everywhere.
    """

    name: str
    groups: frozenset[str]
    enabled: bool
    password_hash: str = field(default="", repr=False)
    ports: frozenset[str] = ANYWHERE


@dataclass(frozen=True, slots=True)
class IPAccess:
    default: bool
    allow: tuple[Network, ...]
    deny: tuple[Network, ...]

    def admits(self, address: Address) -> bool:
        """Deny wins, then allow, then the default."""
        if not self.deny and self.default:
            return True
        if any(address in network for network in self.deny):
            return False
        return self.default or any(address in network for network in self.allow)


@dataclass(frozen=True, slots=True)
class ServiceAccess:
    default: bool
    allow: frozenset[str]
    deny: frozenset[str]

    def admits(self, path: str, name: str | None) -> bool:
        """Deny wins, then allow, then the default. An entry is a path, which covers what lies below it, or a name."""
        if not self.allow and not self.deny:
            return self.default
        if _listed(self.deny, path, name):
            return False
        return self.default or _listed(self.allow, path, name)


def _listed(entries: frozenset[str], path: str, name: str | None) -> bool:
    return name in entries or any(entry.startswith("/") and paths.covers(entry, path) for entry in entries)


@dataclass(frozen=True, slots=True)
class Keystore:
    """`key`: PKCS#8 PEM in the clear, in memory only."""

    name: str
    chain: tuple[Certificate, ...]
    key: bytes = field(repr=False)

    @property
    def certificate(self) -> Certificate:
        return self.chain[0]


@dataclass(frozen=True, slots=True)
class Registration:
    """Permission of one node to register at one port, and what its channel may carry.

    Attributes:
        certificates: that its node is known by, SHA-256 in hex: the present one, and the next while it is renewed.
        paths: what the channel carries; empty: every path.
        truststores: whose certificates it may assert; None: all that the internal port trusts.
        groups: which groups count on it; None: every group but Administrators.
    """

    name: str
    port: str
    node: str
    certificates: tuple[str, ...]
    enabled: bool
    allow_test: bool
    paths: tuple[str, ...]
    truststores: tuple[Truststore, ...] | None
    groups: frozenset[str] | None

    def same_terms(self, other: "Registration") -> bool:
        """Whether all that it says of every tunnel is the same.

        A revocation list that comes in one of its truststores is no change: what is asserted by a tunnel that stands
        is judged by the truststores that are in force. Nor is another certificate: a tunnel ends when the one that
        it showed is admitted no longer.
        """
        mine, others = (replace(each, truststores=None, certificates=()) for each in (self, other))
        return mine == others and _names(self.truststores) == _names(other.truststores)

    def admits(self, certificate_sha256: str) -> bool:
        return certificate_sha256 in self.certificates

    def carries(self, path: str) -> bool:
        return not self.paths or any(paths.covers(prefix, path) for prefix in self.paths)


def _names(stores: tuple[Truststore, ...] | None) -> tuple[str, ...] | None:
    return None if stores is None else tuple(store.name for store in stores)


@dataclass(frozen=True, slots=True)
class Dial:
    host: str
    port: int
    registration: Registration


@dataclass(frozen=True, slots=True)
class Connections:
    """How many tunnels an internal port keeps: at least `min`, `spare` of them idle, never more than `max`."""

    min: int
    spare: int
    max: int


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    path: str
    methods: frozenset[str]
    backend: EndpointURL | None
    builtin: str
    acl: ACL
    identity_headers: tuple[str, ...]
    forward_authorization: bool
    timeout: float  # seconds until the backend's first byte
    trailers: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    url: EndpointURL
    identity: EndpointIdentity
    keystore: Keystore | None
    truststore: Truststore | None
    username: str
    password: str = field(repr=False)
    forward_authorization: bool = False
    timeout: float = 60.0  # seconds until the first byte of the answer


@dataclass(frozen=True, slots=True)
class API:
    name: str
    path: str
    methods: frozenset[str]
    endpoint: Endpoint
    acl: ACL


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    type: PortType
    host: str
    number: int
    keystore: Keystore | None
    truststore: Truststore | None
    server_name: str
    client_auth: ClientAuth
    client_truststore: Truststore | None
    accept_basic: bool
    authenticate: bool
    explain: bool
    registration_port: str
    wait: float
    connect: tuple[Dial, ...]
    connections: Connections
    service_access: ServiceAccess
    ip_access: IPAccess
    trusted_proxies: tuple[Network, ...]
    limits: Limits
    further_keystores: tuple[Keystore, ...] = ()
    min_version: TLSVersion = TLSVersion.TLS_1_2
    ciphers: CipherSet = CipherSet.STRONG

    @property
    def keystores(self) -> tuple[Keystore, ...]:
        """All that the port shows; the first where no name chooses another. None of a port without TLS."""
        return (self.keystore, *self.further_keystores) if self.keystore is not None else ()

    @property
    def judges_by(self) -> Truststore | None:
        """Whom a caller's certificate must come from."""
        return self.client_truststore if self.type is PortType.INTERNAL else self.truststore


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """How `Postern-Identity` is made: keystore that signs, issuer, audience, lifetime in seconds."""

    keystore: Keystore
    issuer: str
    audience: str
    lifetime: int


class Routes:
    """Paths → what stands there; the longest prefix on segment borders wins."""

    __slots__ = ("_by_path",)

    def __init__(self, entries: Mapping[str, Service | API]) -> None:
        self._by_path = dict(entries)

    def __len__(self) -> int:
        return len(self._by_path)

    def find(self, path: str) -> Service | API | None:
        by_path = self._by_path
        while path:
            found = by_path.get(path)
            if found is not None:
                return found
            path = path[: path.rfind("/")]
        return by_path.get("/")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one node decides by.

    Attributes:
        revision: of the configuration that it was made from.
        blocked: certificates that are, by SHA-256: every node refuses them, whether it maps or not.
        of_disabled: certificates on file of users that are disabled: what a node knows of them that has no users.
    """

    revision: int
    node: str
    role: Role
    ports: Mapping[str, Port]
    services: Mapping[str, Service]
    apis: Mapping[str, API]
    endpoints: Mapping[str, Endpoint]
    registrations: Mapping[str, Registration]
    users: Mapping[str, User]
    acls: Mapping[str, ACL]
    mapping_rules: Mapping[str, Rule]
    mappings: Mappings
    truststores: Mapping[str, Truststore]
    keystores: Mapping[str, Keystore]
    token: TokenSettings | None
    blocked: frozenset[str]
    of_disabled: frozenset[str]
    api_routes: Routes
    all_routes: Routes
    document: Document = field(repr=False, compare=False)

    def carries(self, registration_port: str, path: str) -> bool:
        """Whether a registration there may carry `path`. Where there is none at all, that is not what is wrong."""
        there = [r for r in self.registrations.values() if r.port == registration_port and r.enabled]
        return not there or any(registration.carries(path) for registration in there)


class SnapshotError(ValueError):
    """The document cannot be put in force; the message says which part and why. The one in force stays."""


T = TypeVar("T")


class _Builder:
    """Turns sections into values, taking over what has not changed.

    `change`: what made `document` of the one of `before`; without a `before`, everything is new.
    """

    def __init__(self, document: Document, before: Snapshot | None, change: Difference | None) -> None:
        self.document, self.before = document, before
        self._put: Mapping[str, Mapping[str, Any]] = change["put"] if change else {}
        self._removed: Mapping[str, list[str]] = change["removed"] if change else {}

    def section(
        self, name: str, make: Callable[[str, Any], T], *, depends_on: tuple[bool, ...] = ()
    ) -> Mapping[str, T]:
        """`make(name, entry)` for each entry; an unchanged entry's value is the one from before.

        `depends_on`: whether sections that values here refer to stayed the same, value by value. Where they did
        not, all are made again, and those that come out equal are the ones from before all the same.
        """
        if self.before is None:
            return {key: self._made(name, key, entry, make) for key, entry in self.document.get(name, {}).items()}
        old: Mapping[str, T] = getattr(self.before, name)
        if all(depends_on):
            if self.untouched(name):
                return old
            made, touched = dict(old), self._put.get(name, {})
            gone = [made.pop(key) for key in self._removed.get(name, ())]
            changed = bool(gone)
        else:
            made, touched = {}, self.document[name]
            changed = len(touched) != len(old)
        for key, entry in touched.items():
            value, was = self._made(name, key, entry, make), old.get(key)
            made[key] = was if was is not None and was == value else value
            changed = changed or made[key] is not was
        return made if changed else old

    @staticmethod
    def _made(name: str, key: str, entry: Any, make: Callable[[str, Any], T]) -> T:
        try:
            return make(key, entry)
        except (ValueError, KeyError, TypeError) as error:
            raise SnapshotError(f"{name}[{key}]: {error}") from error

    def untouched(self, name: str) -> bool:
        """Whether no entry of the section came, changed or went."""
        return self.before is not None and name not in self._put and name not in self._removed

    def put(self, name: str) -> Mapping[str, Any]:
        """The section's entries that are new or changed."""
        return self.document.get(name, {}) if self.before is None else self._put.get(name, {})

    def unchanged(self, name: str, made: Mapping[str, object]) -> bool:
        """Whether every value of the section is the very one from before."""
        return self.before is not None and made is getattr(self.before, name)


def from_document(document: Document, before: Snapshot | None = None) -> Snapshot:
    """The snapshot that `document` describes, sharing with `before` what is the same.

    Raises:
        SnapshotError: `document` is of another format, incomplete or contradicts itself.
    """
    if document.get("format") != FORMAT:
        raise SnapshotError(f"format {document.get('format')!r}; this node reads format {FORMAT}")
    if missing := [section for section in difference.SECTIONS if not isinstance(document.get(section), dict)]:
        raise SnapshotError(f"the document lacks {', '.join(missing)}")
    with _as_snapshot_errors():
        if before is None:
            return _build(document, None, None)
        change = difference.difference(before.document, document)
        return _build(difference.patched(before.document, change), before, change)


def amended(before: Snapshot, change: Difference) -> Snapshot:
    """`before` with a difference: it costs what it changes.

    Raises:
        SnapshotError: it stands on another revision, or what comes of it contradicts itself.
    """
    with _as_snapshot_errors():
        return _build(difference.patched(before.document, change), before, change)


@contextlib.contextmanager
def _as_snapshot_errors() -> Iterator[None]:
    try:
        yield
    except SnapshotError:
        raise
    except difference.DifferenceError as error:
        raise SnapshotError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"the document lacks {error}, or has it in another form") from error


def _build(document: Document, before: Snapshot | None, change: Difference | None) -> Snapshot:
    build = _Builder(document, before, change)
    truststores = build.section("truststores", _truststore)
    keystores = build.section("keystores", _keystore)
    acls = build.section("acls", lambda name, e: ACL(name, frozenset(e["allowed"]), frozenset(e["denied"])))
    users = build.section("users", _user)
    stores = build.unchanged("truststores", truststores), build.unchanged("keystores", keystores)
    endpoints = build.section("endpoints", lambda n, e: _endpoint(n, e, keystores, truststores), depends_on=stores)
    services = build.section("services", lambda n, e: _service(n, e, acls), depends_on=(build.unchanged("acls", acls),))
    apis = build.section(
        "apis",
        lambda n, e: API(n, e["path"], frozenset(e["methods"]), endpoints[e["endpoint"]], acls[e["acl"]]),
        depends_on=(build.unchanged("acls", acls), build.unchanged("endpoints", endpoints)),
    )
    registrations = build.section("registrations", lambda n, e: _registration(n, e, truststores), depends_on=stores[:1])
    ports = build.section(
        "ports",
        lambda n, e: _port(n, e, keystores, truststores, registrations),
        depends_on=(*stores, build.unchanged("registrations", registrations)),
    )
    token, blocked = document.get("token"), document.get("blocked", {})
    rules = build.section("mapping_rules", _rule)
    if before is not None and services is before.services and apis is before.apis:
        api_routes, all_routes = before.api_routes, before.all_routes
    else:
        api_routes = Routes({api.path: api for api in apis.values()})
        by_path: dict[str, Service | API] = {service.path: service for service in services.values()}
        all_routes = Routes(by_path | {api.path: api for api in apis.values()})
    return Snapshot(
        revision=document["revision"],
        node=document["node"]["name"],
        role=Role(document["node"]["role"]),
        ports=ports,
        services=services,
        apis=apis,
        endpoints=endpoints,
        registrations=registrations,
        users=users,
        acls=acls,
        mapping_rules=rules,
        mappings=_mappings(build, rules),
        truststores=truststores,
        keystores=keystores,
        token=TokenSettings(keystores[token["keystore"]], token["issuer"], token["audience"], token["lifetime"])
        if token
        else None,
        blocked=frozenset(blocked.get("certificates", ())),
        of_disabled=frozenset(blocked.get("of_disabled_users", ())),
        api_routes=api_routes,
        all_routes=all_routes,
        document=document,
    )


def _user(name: str, entry: Any) -> User:
    return User(name, frozenset(entry["groups"]), entry["enabled"], entry.get("password_hash", ""), _ports(entry))


def _ports(entry: Any) -> frozenset[str]:
    """Where alone something counts; an entry that names none counts everywhere."""
    return frozenset(entry["ports"]) if "ports" in entry else ANYWHERE


def _truststore(name: str, entry: Any) -> Truststore:
    anchors = tuple(from_der(base64.b64decode(text)) for text in entry["anchors"])
    crls = [load_crl(base64.b64decode(text), anchors) for text in entry["crls"]]
    # A console of the version before says nothing of the others.
    of_others = entry.get("crls_of_others", ())
    crls += [load_crl(base64.b64decode(text), anchors, of_others=True) for text in of_others]
    depth, awaited = entry.get("max_intermediates", MAX_DEPTH), tuple(entry.get("awaited", ()))
    return Truststore(name, anchors, tuple(crls), entry["hard"], depth, awaited)


def _keystore(name: str, entry: Any) -> Keystore:
    return Keystore(name, certificates_from(entry["chain"].encode()), entry["key"].encode())


def _endpoint(
    name: str, entry: Any, keystores: Mapping[str, Keystore], truststores: Mapping[str, Truststore]
) -> Endpoint:
    return Endpoint(
        name=name,
        url=parse_url(entry["url"], ("https", "reverse")),
        identity=EndpointIdentity(entry["identity"]),
        keystore=keystores[entry["keystore"]] if entry["keystore"] else None,
        truststore=truststores[entry["truststore"]] if entry["truststore"] else None,
        username=entry["username"],
        password=entry["password"],
        forward_authorization=entry["forward_authorization"],
        timeout=entry["timeout"],
    )


def _service(name: str, entry: Any, acls: Mapping[str, ACL]) -> Service:
    return Service(
        name=name,
        path=entry["path"],
        methods=frozenset(entry["methods"]),
        backend=parse_url(entry["backend"], ("http", "https")) if entry["backend"] else None,
        builtin=entry["builtin"],
        acl=acls[entry["acl"]],
        identity_headers=tuple(entry["identity_headers"]),
        forward_authorization=entry["forward_authorization"],
        timeout=entry["timeout"],
        trailers=frozenset(trailer.lower().encode() for trailer in entry["trailers"]),
    )


def _registration(name: str, entry: Any, truststores: Mapping[str, Truststore]) -> Registration:
    asserts = entry["may_assert"]
    return Registration(
        name=name,
        port=entry["port"],
        node=entry["node"],
        # A console of the version before says nothing of the next one.
        certificates=tuple(
            entry[each] for each in ("certificate_sha256", "next_certificate_sha256") if entry.get(each)
        ),
        enabled=entry["enabled"],
        allow_test=entry["allow_test"],
        paths=tuple(entry["paths"]),
        truststores=None if asserts["truststores"] is None else tuple(truststores[t] for t in asserts["truststores"]),
        groups=None if asserts["groups"] is None else frozenset(asserts["groups"]),
    )


def _port(
    name: str,
    entry: Any,
    keystores: Mapping[str, Keystore],
    truststores: Mapping[str, Truststore],
    registrations: Mapping[str, Registration],
) -> Port:
    services, addresses = entry["service_access"], entry["ip_access"]
    return Port(
        name=name,
        type=PortType(entry["type"]),
        host=entry["host"],
        number=entry["number"],
        keystore=keystores[entry["keystore"]] if entry["keystore"] else None,
        truststore=truststores[entry["truststore"]] if entry["truststore"] else None,
        server_name=entry["server_name"],
        client_auth=ClientAuth(entry["client_auth"]),
        client_truststore=truststores[entry["client_truststore"]] if entry["client_truststore"] else None,
        accept_basic=entry["accept_basic"],
        authenticate=entry["authenticate"],
        explain=entry["explain"],
        registration_port=entry["registration_port"],
        wait=entry["wait"],
        connect=tuple(Dial(d["host"], d["port"], registrations[d["registration"]]) for d in entry["connect"]),
        connections=Connections(**entry["connections"]),
        service_access=ServiceAccess(
            services["default"] == "allow", frozenset(services["allow"]), frozenset(services["deny"])
        ),
        ip_access=IPAccess(
            addresses["default"] == "allow",
            tuple(map(parse_network, addresses["allow"])),
            tuple(map(parse_network, addresses["deny"])),
        ),
        trusted_proxies=tuple(map(parse_network, entry["trusted_proxies"])),
        limits=Limits.of(entry["limits"]),
        # A console of the version before says nothing of these.
        further_keystores=tuple(keystores[each] for each in entry.get("further_keystores", ())),
        min_version=TLSVersion(entry.get("min_version", TLSVersion.TLS_1_2)),
        ciphers=CipherSet(entry.get("ciphers", CipherSet.STRONG)),
    )


def _rule(name: str, entry: Any) -> Rule:
    return Rule(
        name=name,
        priority=entry["priority"],
        issuer_spki_sha256=entry["issuer_spki_sha256"],
        subject=tuple((kind, tuple(values)) for kind, values in sorted(entry["subject"].items())),
        san=entry["san"],
        user=entry["user"],
        user_from=entry["user_from"],
        ports=_ports(entry),
    )


def _on_file(entry: Any) -> OnFile:
    until = entry.get("logs_in_until", FOREVER)  # absent where it has no end
    return OnFile(entry["name"], entry["user"], entry["logs_in"], entry["blocked"], _ports(entry), until)


class _Certificates(Mapping[str, OnFile]):
    """Certificates on file, each made of its entry when it is asked for: 100,000 cost a start nothing, and are there
    once."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def __getitem__(self, sha256: str) -> OnFile:
        return _on_file(self._entries[sha256])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _mappings(build: _Builder, rules: Mapping[str, Rule]) -> Mappings:
    for sha256, entry in build.put("certificates").items():
        if not entry.keys() >= _ON_FILE:
            raise SnapshotError(f"certificates[{sha256}]: it lacks {', '.join(sorted(_ON_FILE - entry.keys()))}")
    entries, before = build.document["certificates"], build.before
    if before is None:
        return Mappings.of(_Certificates(entries), rules.values())
    mappings = before.mappings
    if not build.unchanged("mapping_rules", rules):
        old = before.mapping_rules
        mappings = mappings.with_rules(
            removed=[rule for name, rule in old.items() if rules.get(name) is not rule],
            added=[rule for name, rule in rules.items() if old.get(name) is not rule],
        )
    return mappings if build.untouched("certificates") else replace(mappings, exact=_Certificates(entries))


_ON_FILE = {"name", "user", "logs_in", "blocked"}
