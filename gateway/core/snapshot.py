"""The frozen configuration of one node: all that it decides by, and nothing of where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.core import paths
from gateway.core.addresses import Address, EndpointURL, Network
from gateway.core.difference import Document
from gateway.core.limits import Limits
from identity.core.acl import ACL
from identity.core.certificates import Certificate
from identity.core.chains import Truststore
from identity.core.mapping import ANYWHERE, Mappings, Rule

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
