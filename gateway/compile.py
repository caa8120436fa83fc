"""Rows → the document of one node's snapshot: the only module that knows both.

A node's document holds what that node needs to decide, and nothing else: no backend of another node, no key
but its own, no password hash where it checks no password.
"""

import base64
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db.models import Model, Q, QuerySet

from gateway.audit import current_revision
from gateway.core.addresses import split_host_port
from gateway.core.snapshot import DEFAULT_ACL, FORMAT, Document
from gateway.models import API, ClientAuth, Dial, Endpoint, Node, Port, PortType, Registration, Service
from identity.models import ACL, Certificate, Keystore, MappingRule, Truststore, Usage, User
from identity.models.groups import EVERYBODY
from identity.models.users import DEFAULT


class UnknownNode(LookupError):
    """No node of that name is configured."""


def document_of(node_name: str) -> Document:
    """The document of one node, at the revision in force.

    Raises:
        UnknownNode
    """
    revision = current_revision()  # first: a change in between is then seen as one that is still to come
    node = Node.objects.filter(name=node_name).first()
    if node is None:
        known = ", ".join(Node.objects.values_list("name", flat=True)) or "none yet"
        raise UnknownNode(f"There is no node {node_name!r}; configured: {known}.")
    ports = list(
        Port.objects.filter(node=node, enabled=True)
        .select_related("tls_keystore", "tls_truststore", "client_truststore", "registration_port")
        .prefetch_related("connect__registration")
    )
    services = list(Service.objects.filter(node=node).select_related("execute_acl"))
    apis = list(API.objects.filter(node=node).select_related("execute_acl", "endpoint"))
    endpoints = list(
        Endpoint.objects.filter(apis__node=node)
        .distinct()
        .select_related("keystore", "truststore", "registration_port")
    )
    registrations = list(
        Registration.objects.filter(Q(port__in=ports) | Q(dials__port__in=ports))
        .distinct()
        .select_related("port", "node")
        .prefetch_related("may_assert_truststores", "may_assert_groups")
    )
    blocked = list(Certificate.objects.filter(blocked=True).order_by("sha256").values_list("sha256", flat=True))
    decides = [port for port in ports if _identifies(port, apis)]
    token = _token(services)
    keystores = {keystore.pk for row in (*ports, *endpoints) if (keystore := _keystore_of(row))}
    if token:
        keystores |= set(Keystore.objects.filter(name=token["keystore"]).values_list("pk", flat=True))
    truststores = {
        store.pk
        for store in (
            *(port.tls_truststore for port in ports),
            *(port.client_truststore for port in ports),
            *(endpoint.truststore for endpoint in endpoints),
            *(store for r in registrations for store in r.may_assert_truststores.all()),
        )
        if store is not None
    }
    return {
        "format": FORMAT,
        "revision": revision,
        "node": {"name": node.name, "role": node.role},
        "ports": {port.name: _port(port) for port in ports},
        "services": {service.name: _service(service) for service in services},
        "apis": {api.name: _api(api) for api in apis},
        "endpoints": {endpoint.name: _endpoint(endpoint) for endpoint in endpoints},
        "registrations": {each.name: _registration(each, set(blocked)) for each in registrations},
        "users": _users(hashes=any(port.accepts_basic for port in decides)) if decides else {},
        "acls": _acls({DEFAULT_ACL, *(_acl_name(guarded) for guarded in (*services, *apis))}),
        "certificates": _certificates() if decides else {},
        "mapping_rules": _mapping_rules() if decides else {},
        "truststores": _truststores(Truststore.objects.filter(pk__in=truststores)),
        "keystores": _keystores(Keystore.objects.filter(pk__in=keystores)),
        "token": token,
        "blocked": {"certificates": blocked, "of_disabled_users": _of_disabled_users()},
    }


def _identifies(port: Port, apis: list[API]) -> bool:
    """Whether requests at this port are given an identity on this node."""
    if port.type == PortType.REGISTRATION:
        return False
    return port.type != PortType.EXTERNAL or port.authenticate or bool(apis)


def _keystore_of(row: Port | Endpoint) -> Keystore | None:
    return row.tls_keystore if isinstance(row, Port) else row.keystore


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
        "truststore": _name(port.tls_truststore)
        if port.client_auth != ClientAuth.PASSWORD or port.connect.all()
        else "",
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


def _registration(registration: Registration, blocked: set[str]) -> dict[str, Any]:
    """`blocked`: certificates; a node that is known by one of them registers nowhere."""
    limited = registration.limits_assertions
    truststores = [store.name for store in registration.may_assert_truststores.all()]
    groups = [group.name for group in registration.may_assert_groups.all()]
    return {
        "port": registration.port.name,
        "node": registration.node.name,
        "certificate_sha256": registration.sha256,
        "enabled": registration.enabled and registration.sha256 not in blocked,
        "allow_test": registration.allow_test,
        "paths": registration.paths,
        # Where a limit is set and one of its two lists is left empty, that half is not limited.
        "may_assert": {"truststores": truststores if limited and truststores else None,
                       "groups": groups if limited and groups else None},
    }  # fmt: skip


def _users(*, hashes: bool) -> dict[str, Any]:
    groups: dict[Any, list[str]] = {}
    for user_id, group in User.groups.through.objects.values_list("user_id", "group__name").order_by("group__name"):
        groups.setdefault(user_id, []).append(group)
    found = {}
    rows = User.objects.values_list("pk", "name", "enabled", "password_hash", "ports")
    for pk, name, enabled, password_hash, ports in rows:
        fixed = [EVERYBODY, "Anonymous"] if name == DEFAULT else [EVERYBODY]
        found[name] = {"groups": fixed + groups.get(pk, []), "enabled": enabled, **_limit(ports)}
        if hashes and password_hash:
            found[name]["password_hash"] = password_hash
    return found


def _acls(names: Iterable[str]) -> dict[str, Any]:
    return {
        acl.name: {
            "allowed": [group.name for group in acl.allowed.all()],
            "denied": [group.name for group in acl.denied.all()],
        }
        for acl in ACL.objects.filter(name__in=names).prefetch_related("allowed", "denied")
    }


def _certificates() -> dict[str, Any]:
    rows = Certificate.objects.values_list("sha256", "name", "user__name", "usage", "blocked", "ports")
    return {
        sha256: {"name": name, "user": user, "logs_in": usage == Usage.SSL_AUTHENTICATION, "blocked": blocked,
                 **_limit(ports)}
        for sha256, name, user, usage, blocked, ports in rows
    }  # fmt: skip


def _limit(ports: list[str]) -> dict[str, list[str]]:
    """Left out where there is none, so that a hundred thousand entries do not say so."""
    return {"ports": ports} if ports else {}


def _of_disabled_users() -> list[str]:
    rows = Certificate.objects.filter(user__enabled=False).order_by("sha256")
    return list(rows.values_list("sha256", flat=True))


def _mapping_rules() -> dict[str, Any]:
    from identity.core.names import folded

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


def _base64(data: bytes | memoryview) -> str:
    return base64.b64encode(bytes(data)).decode()


def _truststores(rows: QuerySet[Truststore]) -> dict[str, Any]:
    return {
        store.name: {
            "anchors": [_base64(row.der) for row in store.certificates.all()],
            "crls": [_base64(row.der) for row in store.crls.all()],
            "hard": store.revocation == "hard",
        }
        for store in rows.prefetch_related("certificates", "crls")
    }


def _keystores(rows: QuerySet[Keystore]) -> dict[str, Any]:
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
