"""Rows → the document of one node's snapshot: the only module that knows both.

A node's document holds what that node needs to decide, and nothing else: no backend of another node, no key
but its own, no password hash where it checks no password.

Who keeps a `Compiler` pays for a change what it touches: users, certificates and rules, of which there may be
100,000, are read once, shared by all nodes, and then followed by what the audit log names.
"""

import base64
import hashlib
import ssl
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import Model

from gateway.audit import changes_between, current_revision
from gateway.belongings import Belongings, belongings, truststore_of
from gateway.core.addresses import split_host_port
from gateway.core.difference import Document
from gateway.core.document import FORMAT
from gateway.core.narrowing import Narrowing
from gateway.core.snapshot import DEFAULT_ACL
from gateway.models import API, Change, ClientAuth, Dial, Endpoint, Node, Port, PortType, Registration, Service
from identity.core.names import folded
from identity.models import ACL, Certificate, Keystore, MappingRule, Truststore, Usage, User
from identity.models.groups import EVERYBODY
from identity.models.users import DEFAULT


class UnknownNode(LookupError):
    """No node of that name is configured."""


Section = dict[str, Any]
AT_ONCE = 500  # rows named in one query; where a change touches more, all are read anew


def document_of(node_name: str) -> Document:
    """The document of one node, at the revision in force.

    Raises:
        UnknownNode
    """
    return Compiler().document_of(node_name)


def documents(*, certificates: Collection[str]) -> dict[str, Document]:
    """The documents of all nodes as rows are now, for answers about them; none is ever put in force.

    Args:
        certificates: of the 100,000 on file that the question is about, by SHA-256; those that endpoints show are
            in the documents besides.
    """
    revision = current_revision()
    shared: dict[str, Section] = {"": {}, "certificates": certificates_on_file(certificates, {})}
    found = {}
    for name, own in _own_sections(None).items():
        for reader in own.common.values():
            if reader not in shared:
                shared[reader] = _READERS[reader](None)
        common = {section: shared[reader] for section, reader in own.common.items()}
        found[name] = own.sections | common | {"revision": revision}
    return found


def certificates_on_file(fingerprints: Collection[str], standing_in: Mapping[str, str]) -> Section:
    """That section of such documents alone. `standing_in`: what is no certificate's fingerprint → the user it means."""
    shown = Keystore.objects.filter(endpoints__isnull=False).values_list("sha256", flat=True)
    listed = sorted({*fingerprints, *shown})
    found: Section = {}
    for start in range(0, len(listed), AT_ONCE):
        found |= _certificates(listed[start : start + AT_ONCE])
    return found | {
        sha256: {"name": sha256, "user": user, "logs_in": True, "blocked": False}
        for sha256, user in standing_in.items()
    }


@dataclass(frozen=True, slots=True)
class _Own:
    """What is of one node alone; and for the sections that nodes share, which reader's it needs, "" for none.

    `usable`: for sections whose entries may be limited to ports, those of this node where they can count.
    """

    sections: Document
    common: dict[str, str]
    usable: dict[str, frozenset[str]]


class Compiler:
    """Documents of nodes, kept up with the revision in force. A document that it gave is never changed."""

    def __init__(self) -> None:
        self.revision = -1
        self._common: dict[str, Section] = {}
        self._own: dict[str, _Own] = {}
        self._documents: dict[str, Document] = {}
        self._narrowing = Narrowing()

    def document_of(self, node_name: str) -> Document:
        """Raises UnknownNode."""
        while True:
            revision = self.follow()
            document = self._documents.get(node_name)
            if document is not None and document["revision"] == revision:
                return document
            document = self._narrowing.of(self._compile(node_name), self._own[node_name].usable)
            if current_revision() == revision:  # else rows of two revisions may be in it
                self._documents[node_name] = document
                return document

    def _compile(self, node_name: str) -> Document:
        own = self._own.get(node_name)
        if own is None:
            own = _own_sections([node_name]).get(node_name)
            if own is None:
                known = ", ".join(Node.objects.values_list("name", flat=True)) or "none yet"
                raise UnknownNode(f"There is no node {node_name!r}; configured: {known}.")
            self._own[node_name] = own
        common = {name: self._section(reader) if reader else {} for name, reader in own.common.items()}
        return own.sections | common | {"revision": self.revision}

    def _section(self, reader: str) -> Section:
        section = self._common.get(reader)
        if section is None:
            section = self._common[reader] = _READERS[reader](None)
        return section

    def follow(self) -> int:
        """Take note of what changed since; the revision in force."""
        revision = current_revision()
        if revision != self.revision:
            known, self.revision = self.revision, revision
            if 0 <= known < revision:
                self._take_up(Touched.by(changes_between(known, revision)))
            else:  # nothing was read yet, or the database is another one
                self._common, self._own, self._documents = {}, {}, {}
        return revision

    def _take_up(self, touched: "Touched") -> None:
        if touched.keys.keys() - {"users", "certificates", "mapping_rules"} or touched.block_changed:
            self._own = {}
        if touched.keys["users"] or touched.keys["certificates"]:
            self._common.pop("blocked", None)
        for reader in ("users", "users and hashes"):
            if touched.group_changed:  # renamed, perhaps, and its name is with each of its users
                self._common.pop(reader, None)
            elif touched.keys["users"]:
                self._replace(reader, touched.keys["users"], touched.user_names)
        certificates = touched.keys["certificates"]
        if touched.renamed_users:
            rows = Certificate.objects.filter(user__in=touched.renamed_users)
            certificates = certificates | {str(pk) for pk in rows.values_list("pk", flat=True)}
        if len(certificates) > AT_ONCE:
            self._common.pop("certificates", None)
        elif certificates:
            # By fingerprint: what a certificate is on file for besides speaks in its entry too.
            rows = Certificate.objects.filter(pk__in=certificates)
            fingerprints = touched.fingerprints | set(rows.values_list("sha256", flat=True))
            self._replace("certificates", fingerprints, fingerprints)
        if touched.keys["mapping_rules"] or touched.renamed_users:
            self._common.pop("mapping_rules", None)

    def _replace(self, reader: str, keys: set[str], gone: Iterable[str]) -> None:
        """Read anew the rows of these keys. The section that documents have stays as it was."""
        known = self._common.pop(reader, None)
        if known is None or len(keys) > AT_ONCE:
            return
        section = dict(known)
        for name in gone:
            section.pop(name, None)
        section.update(_READERS[reader](keys))
        self._common[reader] = section


class Drafts(Compiler):
    """The documents of all nodes for answers about them; none is ever put in force.

    Of the 100,000 certificates on file they have those that endpoints show: whoever asks about others puts these in
    (`certificates_on_file`).
    """

    def documents(self) -> dict[str, Document]:
        """As rows are at the revision in force."""
        self.follow()
        return self._all()

    def after(self, changes: Iterable[Change]) -> dict[str, Document]:
        """As they would be with changes that are made and not recorded yet; what is in force stays known."""
        draft = Drafts()
        draft.revision, draft._common, draft._own = self.revision, dict(self._common), dict(self._own)
        draft._take_up(Touched.by(changes))
        return draft._all()

    def _all(self) -> dict[str, Document]:
        self._common["certificates"] = certificates_on_file((), {})
        names = list(Node.objects.values_list("name", flat=True))
        if unread := [name for name in names if name not in self._own]:
            self._own |= _own_sections(unread)
        found = {name: self._compile(name) for name in names}
        del self._common["certificates"]  # it hangs on endpoints and certificates both: read anew each time
        return found


@dataclass(slots=True)
class Touched:
    """What changes named: primary keys by kind; and by what users and certificates were known before."""

    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    group_changed: bool = False
    user_names: set[str] = field(default_factory=set)
    renamed_users: set[str] = field(default_factory=set)
    fingerprints: set[str] = field(default_factory=set)
    block_changed: bool = False

    @classmethod
    def by(cls, changes: Iterable[Change]) -> "Touched":
        touched = cls()
        for change in changes:
            touched.note(change)
        return touched

    def note(self, change: Change) -> None:
        self.keys[change.kind].add(change.object_id)
        if change.kind == "certificates" and _is_blocked(change.before) != _is_blocked(change.after):
            self.block_changed = True  # a registration may be known by it
        if change.before is None:
            return
        match change.kind:
            case "groups":
                self.group_changed = True
            case "users":
                self.user_names.add(change.before["name"])
                if change.after is not None and change.after["name"] != change.before["name"]:
                    self.renamed_users.add(change.object_id)
            case "certificates":
                self.fingerprints.add(_sha256_of(change.before))


def _is_blocked(entry: dict[str, Any] | None) -> bool:
    return bool(entry and entry.get("blocked"))


def _sha256_of(entry: dict[str, Any]) -> str:
    """Of the certificate in an entry of the audit log."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(entry["certificate"])).hexdigest()


def _own_sections(nodes: Collection[str] | None) -> dict[str, _Own]:
    """Of each of the nodes, or of all."""
    token = settings.POSTERN_JWT_KEYSTORE
    found = belongings(nodes, acls=[DEFAULT_ACL], keystores=[token] if token else [])
    return {name: _own(each) for name, each in found.items()}


def _own(found: Belongings) -> _Own:
    decides = [port for port in found.ports if _identifies(port, found.apis)]
    by_password = any(port.accepts_basic for port in decides)
    asking = [port for port in decides if port.client_auth != ClientAuth.PASSWORD]
    by_certificate = bool(asking)
    token = _token(found.services)
    signing = [found.by_name[token["keystore"]]] if token and token["keystore"] in found.by_name else []
    sections = {
        "format": FORMAT,
        "node": {"name": found.node.name, "role": found.node.role},
        "ports": {port.name: _port(port) for port in found.ports},
        "services": {service.name: _service(service) for service in found.services},
        "apis": {api.name: _api(api) for api in found.apis},
        "endpoints": {endpoint.name: _endpoint(endpoint) for endpoint in found.endpoints},
        "registrations": {
            row.name: _registration(row, believes=row.pk in found.dialled, blocked=found.blocked)
            for row in found.registrations
        },
        "acls": _acls(found.acls),
        "truststores": _truststores(found.truststores),
        "keystores": _keystores([*found.keystores, *signing]),
        "token": token,
    }
    common = {
        "blocked": "blocked",
        "users": ("users and hashes" if by_password else "users") if decides else "",
        "certificates": "certificates" if by_certificate else "",
        "mapping_rules": "mapping_rules" if by_certificate else "",
    }
    at, by_mapping = (frozenset(port.name for port in among) for among in (decides, asking))
    return _Own(sections, common, {"users": at, "certificates": by_mapping, "mapping_rules": by_mapping})


def _identifies(port: Port, apis: list[API]) -> bool:
    """Whether requests at this port are given an identity on this node."""
    if port.type == PortType.REGISTRATION:
        return False
    return port.type != PortType.EXTERNAL or port.authenticate or bool(apis)


def _name(row: Model | None) -> str:
    return row.name if row is not None else ""  # type: ignore[attr-defined]


def _acl_name(guarded: Service | API) -> str:
    return guarded.execute_acl.name if guarded.execute_acl else DEFAULT_ACL


def _port(port: Port) -> dict[str, Any]:
    host, number = split_host_port(port.bind) if port.bind else ("", 0)
    return {
        "type": port.type,
        "host": host,
        "number": number,
        "keystore": _name(port.tls_keystore),
        "truststore": _name(truststore_of(port)),
        "server_name": port.tls_server_name,
        "client_auth": port.client_auth,
        "client_truststore": _name(port.client_truststore),
        "accept_basic": port.accepts_basic,
        "authenticate": port.authenticate,
        "explain": port.explain,
        "registration_port": _name(port.registration_port),
        "wait": port.wait,
        "connect": [_dial(dial) for dial in port.connect.all()],
        "connections": {"min": port.connections_min, "spare": port.connections_spare, "max": port.connections_max},
        "service_access": port.service_access,
        "ip_access": port.ip_access,
        "trusted_proxies": port.trusted_proxies,
        "limits": port.limits,
        "further_keystores": sorted(keystore.name for keystore in port.tls_keystores.all()),
        "min_version": port.tls_min_version,
        "ciphers": port.tls_ciphers,
    }


def _dial(dial: Dial) -> dict[str, Any]:
    host, number = split_host_port(dial.address)
    return {"host": host, "port": number, "registration": dial.registration.name}


def _service(service: Service) -> dict[str, Any]:
    return {
        "path": service.path,
        "methods": service.methods,
        "backend": service.backend,
        "builtin": service.builtin,
        "acl": _acl_name(service),
        "identity_headers": service.identity_headers,
        "forward_authorization": service.forward_authorization,
        "timeout": service.timeout,
        "trailers": service.trailers,
    }


def _api(api: API) -> dict[str, Any]:
    return {"path": api.path, "methods": api.methods, "endpoint": api.endpoint.name, "acl": _acl_name(api)}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "identity": endpoint.effective_identity.value,
        "keystore": _name(endpoint.keystore),
        "truststore": _name(endpoint.truststore),
        "username": endpoint.username,
        "password": endpoint.open_password(),
        "forward_authorization": endpoint.forward_authorization,
        "timeout": endpoint.timeout,
    }


def _registration(registration: Registration, *, believes: bool, blocked: Collection[str]) -> dict[str, Any]:
    """One registration.

    Args:
        believes: this node is the one at the far end, which holds the channel to what it may assert.
        blocked: certificates by which no node registers, by SHA-256.
    """
    admitted = [sha256 for sha256 in registration.admitted if sha256 not in blocked]
    limited = believes and registration.limits_assertions
    truststores = [store.name for store in registration.may_assert_truststores.all()]
    groups = [group.name for group in registration.may_assert_groups.all()]
    return {
        "port": registration.port.name,
        "node": registration.node.name,
        "certificate_sha256": admitted[0] if admitted else registration.sha256,
        **({"next_certificate_sha256": admitted[1]} if len(admitted) > 1 else {}),
        "enabled": registration.enabled and bool(admitted),
        "allow_test": registration.allow_test,
        "paths": registration.paths,
        # Where a limit is set and one of its two lists is left empty, that half is not limited.
        "may_assert": {"truststores": truststores if limited and truststores else None,
                       "groups": groups if limited and groups else None},
    }  # fmt: skip


def _users(keys: Collection[str] | None, *, hashes: bool = False) -> Section:
    """`keys`: of these rows alone."""
    rows, members = User.objects.all(), User.groups.through.objects.order_by("group__name")
    if keys is not None:
        rows, members = rows.filter(pk__in=keys), members.filter(user__in=keys)
    groups: dict[Any, list[str]] = defaultdict(list)
    for user_id, group in members.values_list("user_id", "group__name"):
        groups[user_id].append(group)
    found = {}
    for pk, name, enabled, password_hash, ports in rows.values_list("pk", "name", "enabled", "password_hash", "ports"):
        fixed = [EVERYBODY, "Anonymous"] if name == DEFAULT else [EVERYBODY]
        found[name] = {"groups": fixed + groups[pk], "enabled": enabled, **_limit(ports)}
        if hashes and password_hash:
            found[name]["password_hash"] = password_hash
    return found


def _acls(rows: Iterable[ACL]) -> dict[str, Any]:
    return {
        acl.name: {
            "allowed": [group.name for group in acl.allowed.all()],
            "denied": [group.name for group in acl.denied.all()],
        }
        for acl in rows
    }


def _certificates(keys: Collection[str] | None) -> Section:
    """`keys`: SHA-256. Of one that is there for several usages the entry that logs in speaks; a block of any blocks."""
    chosen = Certificate.objects.all() if keys is None else Certificate.objects.filter(sha256__in=keys)
    found: Section = {}
    rows = chosen.values_list("sha256", "name", "user__name", "usage", "blocked", "ports", "logs_in_until")
    for sha256, name, user, usage, blocked, ports, until in rows:
        before, logs_in = found.get(sha256), usage == Usage.SSL_AUTHENTICATION
        if before is None or logs_in:
            entry = {"name": name, "user": user, "logs_in": logs_in, "blocked": blocked, **_limit(ports)}
            found[sha256] = entry if until is None else entry | {"logs_in_until": until.timestamp()}
        if before is not None:
            found[sha256]["blocked"] = blocked or before["blocked"]
    return found


def _limit(ports: list[str]) -> dict[str, list[str]]:
    """Left out where there is none, so that a hundred thousand entries do not say so."""
    return {"ports": ports} if ports else {}


def _blocked(_: Collection[str] | None) -> Section:
    """What every node refuses, and whose connections it closes: also one that has no users and no certificates."""
    rows = Certificate.objects.order_by("sha256").values_list("sha256", flat=True)
    return {
        "certificates": list(rows.filter(blocked=True)),
        # By a subquery: the few who are disabled are found first, and not 100,000 certificates looked at.
        "of_disabled_users": list(rows.filter(user__in=User.objects.filter(enabled=False))),
    }


def _mapping_rules(_: Collection[str] | None) -> Section:
    return {
        rule.name: {
            "priority": rule.priority,
            "issuer_spki_sha256": rule.issuer_spki_sha256,
            "subject": {kind: sorted(folded(value) for value in values) for kind, values in rule.subject.items()},
            "san": rule.san,
            "user": rule.user.name if rule.user else None,
            "user_from": rule.user_from or None,
            **_limit(rule.ports),
        }
        for rule in MappingRule.objects.filter(enabled=True).select_related("user")
    }


_READERS: dict[str, Callable[[Collection[str] | None], Section]] = {
    "blocked": _blocked,
    "users": _users,
    "users and hashes": partial(_users, hashes=True),
    "certificates": _certificates,
    "mapping_rules": _mapping_rules,
}


def _base64(data: bytes | memoryview) -> str:
    return base64.b64encode(bytes(data)).decode()


def _truststores(rows: Iterable[Truststore]) -> dict[str, Any]:
    found = {}
    for store in rows:
        lists = list(store.crls.all())
        found[store.name] = {
            "anchors": [_base64(row.der) for row in store.certificates.all()],
            "crls": [_base64(row.der) for row in lists if not row.of_other],
            "hard": store.revocation == "hard",
            "max_intermediates": store.max_intermediates,
            # What a node of the version before knows nothing of is left out where there is none.
            **({"crls_of_others": others} if (others := [_base64(row.der) for row in lists if row.of_other]) else {}),
            **({"awaited": awaited} if (awaited := store.awaited()) else {}),
        }
    return found


def _keystores(rows: Iterable[Keystore]) -> dict[str, Any]:
    return {row.name: {"chain": row.chain, "key": row.open_private_key().decode()} for row in rows}


def _token(services: list[Service]) -> dict[str, Any] | None:
    """How `Postern-Identity` is signed, where a service of this node sends it."""
    if not settings.POSTERN_JWT_KEYSTORE or not any("jwt" in service.identity_headers for service in services):
        return None
    return {
        "keystore": settings.POSTERN_JWT_KEYSTORE,
        "issuer": settings.POSTERN_JWT_ISSUER,
        "audience": settings.POSTERN_JWT_AUDIENCE,
        "lifetime": settings.POSTERN_JWT_SECONDS,
    }
