"""A snapshot from its document, or from the one before and what changed.

A document is plain JSON: what a node decides by can be written to a file, sent to another machine, compared
and signed. It is a section for each noun, an entry for each name. A new snapshot takes over from the one
before it every part whose entry is unchanged, so that what was parsed, and what was remembered of verdicts,
is not made again.
"""

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gateway.core import difference
from gateway.core.addresses import parse_network, parse_url
from gateway.core.difference import Difference, Document
from gateway.core.limits import Limits
from gateway.core.snapshot import (
    API,
    CipherSet,
    ClientAuth,
    Connections,
    Dial,
    Endpoint,
    EndpointIdentity,
    IPAccess,
    Keystore,
    Port,
    PortType,
    Registration,
    Role,
    Routes,
    Service,
    ServiceAccess,
    Snapshot,
    TLSVersion,
    TokenSettings,
    User,
)
from identity.core.acl import ACL
from identity.core.certificates import from_der
from identity.core.chains import MAX_DEPTH, Truststore, load_crl
from identity.core.files import certificates_from
from identity.core.mapping import ANYWHERE, FOREVER, Mappings, OnFile, Rule

FORMAT = 1


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
