"""Row → entry: an object of the configuration as the file writes it. Export, audit and comparison read this alone.

Every field of the object is in its entry, references by name, secrets as `{kept: fingerprint}`; what is empty or
says what its absence says is left out.
"""

import hashlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Model, QuerySet

from gateway.models import API, Endpoint, Node, Port, PortType, Registration, Service
from identity.core import certificates
from identity.core.vault import VaultError, fingerprint
from identity.models import ACL, Certificate, Group, Keystore, MappingRule, RevocationSource, Truststore, User, sealing

Entry = dict[str, Any]

# Section of the file ↔ model, in an order in which what is named stands before what names it.
SECTIONS: dict[str, type[Model]] = {
    "nodes": Node,
    "groups": Group,
    "users": User,
    "acls": ACL,
    "truststores": Truststore,
    "keystores": Keystore,
    "certificates": Certificate,
    "mapping_rules": MappingRule,
    "services": Service,
    "ports": Port,
    "registrations": Registration,
    "endpoints": Endpoint,
    "apis": API,
}
KIND_OF: dict[type[Model], str] = {model: kind for kind, model in SECTIONS.items()}

# What an entry is made of besides the row itself: (its foreign keys, its many-to-many relations and children).
_RELATED: dict[type[Model], tuple[tuple[str, ...], tuple[str, ...]]] = {
    User: ((), ("groups",)),
    ACL: ((), ("allowed", "denied")),
    Truststore: ((), ("certificates", "crls", "crl_sources__crl")),
    Certificate: (("user",), ()),
    MappingRule: (("user",), ()),
    Service: (("node", "execute_acl"), ()),
    Port: (
        ("node", "tls_keystore", "tls_truststore", "client_truststore", "registration_port"),
        ("connect__registration", "tls_keystores"),
    ),
    Registration: (("port", "node"), ("may_assert_truststores", "may_assert_groups")),
    Endpoint: (("keystore", "truststore"), ()),
    API: (("node", "endpoint", "execute_acl"), ()),
}


def stored(model: type[Model]) -> QuerySet[Any]:
    """All rows of a kind, with what their entries are made of."""
    keys, links = _RELATED.get(model, ((), ()))
    rows = model._default_manager.prefetch_related(*links)
    return rows.select_related(*keys) if keys else rows


def entry_of(row: Model) -> Entry:
    """The whole entry of a row."""
    return _MAKERS[type(row)](row)


def record_of(row: Model) -> Entry:
    """The entry, with what nodes decide by that no field of the file says: the audit log is to show that too."""
    entry = entry_of(row)
    if isinstance(row, MappingRule) and row.issuer_spki_sha256:
        entry["issuer_key"] = row.issuer_spki_sha256
    if isinstance(row, Truststore) and (fetched := _fetched(row)):
        entry["fetched"] = fetched
    return entry


def _name(row: Model | None) -> str | None:
    return row.name if row is not None else None  # type: ignore[attr-defined]


def _names(rows: Any) -> list[str]:
    return sorted(row.name for row in rows.all())


def _filled(**fields: Any) -> Entry:
    """Without what is empty or None; False and 0 stay."""
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}


def default_of(model: type[Model], field: str) -> Any:
    """What the model says where nobody does."""
    column: Any = model._meta.get_field(field)
    return column.get_default()


def _unusual(row: Model, field: str) -> Any:
    """None where it is what the model says anyway."""
    value = getattr(row, field)
    return None if value == default_of(type(row), field) else value


def seconds(value: float) -> str:
    """Every digit of it, so that it is read as the same value again."""
    text = format(Decimal(repr(value)), "f")
    return f"{text.removesuffix('.0')}s"


def moment(value: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if value else None


def kept(row: Model, column: str) -> Entry:
    """What stands for a sealed secret: tells whether it is the same, and nothing else of it.

    One whose master key is lost has an entry too, so that it can be replaced and deleted.
    """
    try:
        return {"kept": fingerprint(sealing.open_sealed(row, column), sealing.place(row, column))}
    except VaultError:
        return {"kept": "cannot be opened"}


def kept_password(user: User) -> Entry:
    """The stored hash is slow to try already; hashed once more, so that no export shows it."""
    return {"kept": hashlib.sha256(f"{user.pk}:{user.password_hash}".encode()).hexdigest()[:32]}


def _node(row: Node) -> Entry:
    return _filled(name=row.name, role=row.role, description=row.description)


def _group(row: Group) -> Entry:
    return _filled(name=row.name, description=row.description)


def _user(row: User) -> Entry:
    password = kept_password(row) if row.password_hash else None
    entry = _filled(
        name=row.name,
        groups=_names(row.groups),
        password=password,
        ports=sorted(row.ports),
        description=row.description,
    )
    return entry if row.enabled else entry | {"enabled": False}


def _acl(row: ACL) -> Entry:
    return _filled(name=row.name, allowed=_names(row.allowed), denied=_names(row.denied), description=row.description)


def _truststore(row: Truststore) -> Entry:
    anchors = sorted((stored.subject, stored.certificate.pem()) for stored in row.certificates.all())
    return _filled(
        name=row.name,
        certificates=[pem for _, pem in anchors],
        crls=[
            *(_crl_pem(bytes(crl.der)) for crl in row.crls.all() if crl.source_id is None),
            *(_filled(url=each.url, every=_every(each)) for each in row.crl_sources.all()),
        ],
        revocation=row.revocation,
        max_intermediates=_unusual(row, "max_intermediates"),
        description=row.description,
    )


def _every(source: RevocationSource) -> str | None:
    return None if source.every == default_of(RevocationSource, "every") else seconds(float(source.every))


def _fetched(row: Truststore) -> Entry:
    """Which list was fetched from where: enough to tell one from another, for a list may be long."""
    return {
        source.url: f"{source.crl.last_update:%Y-%m-%d %H:%M:%S}Z, {hashlib.sha256(source.crl.der).hexdigest()}"
        for source in row.crl_sources.all()
        if hasattr(source, "crl")
    }


def _crl_pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "X509 CRL")


def _keystore(row: Keystore) -> Entry:
    key = kept(row, "next_private_key") if row.next_private_key else None
    renewal = _filled(certificate=row.next_chain, private_key=key, **{"from": moment(row.next_from)})
    return _filled(
        name=row.name,
        certificate=row.chain,
        private_key=kept(row, "private_key"),
        next=renewal,
        description=row.description,
    )


def _certificate(row: Certificate) -> Entry:
    entry = _filled(
        name=row.name,
        certificate=ssl.DER_cert_to_PEM_cert(bytes(row.der)),  # as `Certificate.pem` writes it, without parsing
        user=_name(row.user),
        usage=row.usage,
        logs_in_until=moment(row.logs_in_until),
        ports=sorted(row.ports),
        description=row.description,
    )
    return entry | {"blocked": True} if row.blocked else entry


def _mapping_rule(row: MappingRule) -> Entry:
    entry = _filled(
        name=row.name,
        priority=row.priority,
        issuer=row.issuer,
        subject=row.subject,
        san=row.san,
        user=_name(row.user),
        user_from=row.user_from,
        ports=sorted(row.ports),
    )
    return entry if row.enabled else entry | {"enabled": False}


def _service(row: Service) -> Entry:
    return _filled(
        name=row.name,
        node=_name(row.node),
        path=row.path,
        methods=row.methods,
        backend=row.backend,
        builtin=row.builtin,
        execute_acl=_name(row.execute_acl),
        identity_headers=row.identity_headers,
        forward_authorization=row.forward_authorization or None,
        timeout=seconds(row.timeout),
        trailers=row.trailers,
        description=row.description,
    )


def _endpoint(row: Endpoint) -> Entry:
    return _filled(
        name=row.name,
        url=row.url,
        identity=row.identity,
        keystore=_name(row.keystore),
        truststore=_name(row.truststore),
        username=row.username,
        password=kept(row, "password") if row.password else None,
        forward_authorization=row.forward_authorization or None,
        timeout=seconds(row.timeout),
        description=row.description,
    )


def _api(row: API) -> Entry:
    return _filled(
        name=row.name,
        node=_name(row.node),
        path=row.path,
        methods=row.methods,
        endpoint=_name(row.endpoint),
        execute_acl=_name(row.execute_acl),
        description=row.description,
    )


def _port(row: Port) -> Entry:
    def matters(value: Any, where: PortType, default: Any) -> Any:
        """What speaks at one kind of port alone is left out of the others' entries, unless somebody set it."""
        return value if row.type == where or value != default else None

    connections = {"min": row.connections_min, "spare": row.connections_spare, "max": row.connections_max}
    usual = {part: default_of(Port, f"connections_{part}") for part in connections}
    access = _access(row.service_access)
    entry = _filled(
        name=row.name,
        node=_name(row.node),
        type=row.type,
        bind=row.bind,
        tls=_filled(
            keystore=_name(row.tls_keystore),
            keystores=_names(row.tls_keystores),
            truststore=_name(row.tls_truststore),
            server_name=row.tls_server_name,
            min_version=_unusual(row, "tls_min_version"),
            ciphers=_unusual(row, "tls_ciphers"),
        ),
        client_auth=row.client_auth,
        client_truststore=_name(row.client_truststore),
        registration_port=_name(row.registration_port),
        accept_basic=row.accept_basic,
        authenticate=row.authenticate or None,
        explain=row.explain or None,
        wait=matters(seconds(row.wait), PortType.EXTERNAL, seconds(default_of(Port, "wait"))),
        connect=sorted(
            ({"address": dial.address, "registration": dial.registration.name} for dial in row.connect.all()),
            key=lambda dial: (dial["address"], dial["registration"]),
        ),
        connections=matters(connections, PortType.INTERNAL, usual),
        service_access=access if row.type != PortType.REGISTRATION or access != {"default": "deny"} else None,
        ip_access=_access(row.ip_access),
        trusted_proxies=row.trusted_proxies,
        limits=row.limits,
        description=row.description,
    )
    return entry if row.enabled else entry | {"enabled": False}


def _access(access: Entry) -> Entry:
    return _filled(default=access["default"], allow=access["allow"], deny=access["deny"])


def _registration(row: Registration) -> Entry:
    limits = {"truststores": _names(row.may_assert_truststores), "groups": _names(row.may_assert_groups)}
    entry = _filled(
        name=row.name,
        port=_name(row.port),
        node=_name(row.node),
        certificate=certificates.pem_of([row.certificate]),
        next_certificate=certificates.pem_of([row.next_certificate]) if row.next_certificate else None,
        allow_test=row.allow_test or None,
        paths=row.paths,
    )
    if row.limits_assertions:
        entry["may_assert"] = _filled(**limits)
    return entry if row.enabled else entry | {"enabled": False}


_MAKERS: dict[type[Model], Callable[[Any], Entry]] = {
    Node: _node,
    Group: _group,
    User: _user,
    ACL: _acl,
    Truststore: _truststore,
    Keystore: _keystore,
    Certificate: _certificate,
    MappingRule: _mapping_rule,
    Service: _service,
    Port: _port,
    Registration: _registration,
    Endpoint: _endpoint,
    API: _api,
}
