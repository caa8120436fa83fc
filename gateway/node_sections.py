"""Rows → the sections of a node's document: what is of one node alone, and what all nodes share.

Reads what is stored and decides nothing. Which sections are kept, and when they are read again, is `gateway.compile`'s.
"""

import base64
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import Model

from gateway.belongings import Belongings, belongings, truststore_of
from gateway.core.addresses import split_host_port
from gateway.core.difference import Document
from gateway.core.document import FORMAT
from gateway.core.snapshot import DEFAULT_ACL
from gateway.models import API, ClientAuth, Dial, Endpoint, Port, PortType, Registration, Service
from identity.core.names import folded
from identity.models import ACL, Certificate, Keystore, MappingRule, Truststore, Usage, User
from identity.models.groups import EVERYBODY
from identity.models.users import DEFAULT

Section = dict[str, Any]
AT_ONCE = 500  # values in one query


# --- what is of one node alone ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Own:
    """What is of one node alone; and for the sections that nodes share, which reader's it needs, "" for none.

    Attributes:
        usable: for sections whose entries may be limited to ports, those of this node where they can count.
        rows: what the sections were made of.
    """

    sections: Document
    common: dict[str, str]
    usable: dict[str, frozenset[str]]
    rows: Belongings

    @property
    def shown(self) -> set[str]:
        """The certificates that its endpoints show, by SHA-256."""
        return {each.keystore.sha256 for each in self.rows.endpoints if each.keystore is not None}


def own_sections(nodes: Collection[str] | None) -> dict[str, Own]:
    """Of each of the nodes, or of all."""
    token = settings.POSTERN_JWT_KEYSTORE
    found = belongings(nodes, acls=[DEFAULT_ACL], keystores=[token] if token else [])
    return {name: _own(each) for name, each in found.items()}


def _own(found: Belongings) -> Own:
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
        "registrations": registrations(found),
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
    return Own(sections, common, {"users": at, "certificates": by_mapping, "mapping_rules": by_mapping}, found)


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


def registrations(found: Belongings) -> dict[str, Any]:
    return {
        row.name: _registration(row, believes=row.pk in found.dialled, blocked=found.blocked)
        for row in found.registrations
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


def _acls(rows: Iterable[ACL]) -> dict[str, Any]:
    return {
        acl.name: {
            "allowed": [group.name for group in acl.allowed.all()],
            "denied": [group.name for group in acl.denied.all()],
        }
        for acl in rows
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


# --- what nodes share ---------------------------------------------------------------------------------------


def _users(keys: Collection[str] | None, *, hashes: bool = False) -> Section:
    """`keys`: of these rows alone."""
    rows, members = User.objects.all(), User.groups.through.objects.order_by("group__name")
    if keys is not None:
        rows, members = rows.filter(pk__in=keys), members.filter(user__in=keys)
    groups: dict[Any, list[str]] = defaultdict(list)
    for user_id, group in members.values_list("user_id", "group__name"):
        groups[user_id].append(group)
    return {
        name: _user(name, groups[pk], enabled, ports, password_hash if hashes else "")
        for pk, name, enabled, password_hash, ports in rows.values_list(
            "pk", "name", "enabled", "password_hash", "ports"
        )
    }


def _user(name: str, groups: list[str], enabled: bool, ports: list[str], password_hash: str) -> dict[str, Any]:
    fixed = [EVERYBODY, "Anonymous"] if name == DEFAULT else [EVERYBODY]
    entry = {"groups": fixed + groups, "enabled": enabled, **_limit(ports)}
    return entry | {"password_hash": password_hash} if password_hash else entry


def user_of(row: User, *, hashes: bool) -> dict[str, Any]:
    """The entry of one row, which need not be stored as it is."""
    groups = [group.name for group in row.groups.all()]
    return _user(row.name, groups, row.enabled, row.ports, row.password_hash if hashes else "")


# What a node is told of a certificate on file, behind which row it is.
CERTIFICATE = ("pk", "sha256", "name", "user__name", "usage", "blocked", "ports", "logs_in_until")


def columns_of(row: Certificate) -> tuple[Any, ...]:
    """`CERTIFICATE` of one row, which need not be stored as it is."""
    user = row.user.name if row.user else None
    return row.pk, row.sha256, row.name, user, row.usage, row.blocked, row.ports, row.logs_in_until


def with_row(rows: Iterable[tuple[Any, ...]], row: Certificate) -> list[tuple[Any, ...]]:
    """Those columns, with this row in its place among them."""
    return [columns_of(row) if each[0] == row.pk else each for each in rows]


def certificates_of(rows: Iterable[tuple[Any, ...]]) -> Section:
    """`rows`: columns of `CERTIFICATE`, in the order of their names.

    Of one that is there for several usages the entry that logs in speaks; a block of any blocks.
    """
    found: Section = {}
    for _, sha256, name, user, usage, blocked, ports, until in rows:
        before, logs_in = found.get(sha256), usage == Usage.SSL_AUTHENTICATION
        if before is None or logs_in:
            entry = {"name": name, "user": user, "logs_in": logs_in, "blocked": blocked, **_limit(ports)}
            found[sha256] = entry if until is None else entry | {"logs_in_until": until.timestamp()}
        if before is not None:
            found[sha256]["blocked"] = blocked or before["blocked"]
    return found


def certificates_on_file(fingerprints: Iterable[str], *more: str) -> list[tuple[Any, ...]]:
    """Columns of `CERTIFICATE`, and `more` behind them, of the certificates with these fingerprints."""
    listed = sorted(set(fingerprints))
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(listed), AT_ONCE):
        rows = Certificate.objects.filter(sha256__in=listed[start : start + AT_ONCE])
        found += rows.values_list(*CERTIFICATE, *more)
    return found


def _certificates(fingerprints: Collection[str] | None) -> Section:
    """Of 100,000 no list is made besides."""
    if fingerprints is not None:
        return certificates_of(certificates_on_file(fingerprints))
    return certificates_of(Certificate.objects.values_list(*CERTIFICATE))


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


READERS: dict[str, Callable[[Collection[str] | None], Section]] = {
    "blocked": _blocked,
    "users": _users,
    "users and hashes": partial(_users, hashes=True),
    "certificates": _certificates,
    "mapping_rules": _mapping_rules,
}
