"""Entry → row, section by section: what each field of the file is called and means.

A reader sets a row's fields and saves it where something changed; what is linked to the row after it exists
(groups, anchors, dials) follows in the same function.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from gateway.models import (
    API,
    Builtin,
    ClientAuth,
    Dial,
    Endpoint,
    EndpointIdentity,
    Node,
    Port,
    PortType,
    Registration,
    Role,
    Service,
)
from gateway.topology.entries import kept, kept_password
from gateway.topology.fields import FieldError, Fields, Kept
from identity.core import certificates
from identity.core.certificates import CertificateError
from identity.core.chains import load_crl
from identity.models import (
    ACL,
    Certificate,
    Group,
    Keystore,
    MappingRule,
    Revocation,
    Truststore,
    Usage,
    User,
    UserFrom,
)
from identity.models.truststores import RevocationList, TrustedCertificate


def _set(row: Model, *, changed: bool = False, **values: Any) -> None:
    """Set fields; save where one is not as it was, the row is new, or the caller has `changed` it."""
    changed = changed or row._state.adding
    for name, value in values.items():
        before = None if row._state.adding else getattr(row, name)
        if row._state.adding or (bytes(before) if isinstance(before, memoryview) else before) != value:
            setattr(row, name, value)
            changed = True
    if changed:
        row.save()


def _link(manager: Any, rows: Iterable[Model]) -> None:
    """Make a many-to-many relation exactly `rows`."""
    wanted = {row.pk for row in rows}
    if {row.pk for row in manager.all()} != wanted:
        manager.set(wanted)


def node(row: Node, fields: Fields) -> None:
    _set(row, role=fields.choice("role", Role.values), description=fields.text("description"))


def group(row: Group, fields: Fields) -> None:
    description = fields.text("description", row.description if row.predefined else "")
    _set(row, description=description)


def user(row: User, fields: Fields) -> None:
    secret = fields.secret("password")
    enabled = fields.boolean("enabled", True)
    description = fields.text("description", row.description if row.predefined else "")
    groups = fields.references("groups", Group)
    other_password = False
    if isinstance(secret, Kept):
        if not row.password_hash or kept_password(row)["kept"] != secret.fingerprint:
            raise FieldError("password", "another password is stored, or none; give it in the clear")
    elif secret is None:
        other_password, row.password_hash = bool(row.password_hash), ""
    elif not row.has_password(secret):
        row.set_password(secret)
        other_password = True
    _set(row, changed=other_password, enabled=enabled, description=description)
    _link(row.groups, groups)


def acl(row: ACL, fields: Fields) -> None:
    _set(row, description=fields.text("description", row.description if row.predefined else ""))
    allowed, denied = fields.references("allowed", Group), fields.references("denied", Group)
    if both := sorted({g.name for g in allowed} & {g.name for g in denied}):
        raise FieldError("denied", f"{', '.join(both)}: allowed and denied at once; keep one of the two")
    # What is taken away first, so that a group can move from one list to the other.
    row.denied.remove(*row.denied.exclude(pk__in=[g.pk for g in denied]))
    _link(row.allowed, allowed)
    _link(row.denied, denied)


def truststore(row: Truststore, fields: Fields) -> None:
    anchors = fields.certificates("certificates")
    _set(
        row,
        revocation=fields.choice("revocation", Revocation.values, "hard"),
        description=fields.text("description"),
    )
    wanted = {anchor.sha256: anchor for anchor in anchors}
    stored = {anchor.sha256: anchor for anchor in row.certificates.all()}
    for sha256 in stored.keys() - wanted.keys():
        stored[sha256].delete()
    for sha256 in wanted.keys() - stored.keys():
        trusted = TrustedCertificate(truststore=row)
        trusted.set_certificate(wanted[sha256])
        trusted.full_clean()
        trusted.save()
    _crls(row, fields.files("crls"), anchors)


def _crls(row: Truststore, files: list[bytes], anchors: list[certificates.Certificate]) -> None:
    wanted: set[bytes] = set()
    for data in files:
        try:
            der = certificates.crl_from_file(data)
            load_crl(der, anchors)
        except ValueError as error:
            raise FieldError("crls", str(error)) from error
        wanted.add(der)
    stored = {bytes(crl.der): crl for crl in row.crls.all()}
    for der in stored.keys() - wanted:
        stored[der].delete()
    for der in wanted - stored.keys():
        crl = RevocationList(truststore=row, der=der)
        crl.full_clean()
        crl.save()


def keystore(row: Keystore, fields: Fields) -> None:
    chain = fields.certificates("certificate")
    description = fields.text("description")
    password = fields.text("private_key_password") or None
    if isinstance(fields._entry.get("private_key"), dict):
        secret = fields.secret("private_key")
        if row._state.adding or not isinstance(secret, Kept) or kept(row, "private_key")["kept"] != secret.fingerprint:
            raise FieldError("private_key", "another key is stored, or none; give its file or PEM")
        if certificates.pem_of(chain) != row.chain:
            try:
                key = certificates.key_from_file(row.open_private_key())
            except CertificateError as error:
                raise FieldError("private_key", str(error)) from error
            row.set_pair(tuple(chain), key)
            row.description = description
            row.save()
        else:
            _set(row, description=description)
        return
    data = fields.pem("private_key")
    if data is None:
        raise FieldError("private_key", "is missing; give a file, or PEM")
    try:
        key = certificates.key_from_file(data, password)
    except CertificateError as error:
        raise FieldError("private_key", str(error)) from error
    unchanged = (
        not row._state.adding
        and certificates.pem_of(chain) == row.chain
        and row.open_private_key() == certificates.key_pem(key)
    )
    if not unchanged:
        row.set_pair(tuple(chain), key)
        row.description = description
        row.save()
    else:
        _set(row, description=description)


def certificate(row: Certificate, fields: Fields) -> None:
    _set(
        row,
        der=fields.certificates("certificate")[0].der,
        user=fields.reference("user", User),
        usage=fields.choice("usage", Usage.values, "ssl_authentication"),
        blocked=fields.boolean("blocked"),
        description=fields.text("description"),
    )


def mapping_rule(row: MappingRule, fields: Fields) -> None:
    subject = {
        kind: [values] if isinstance(values, str) else values for kind, values in fields.mapping("subject").items()
    }
    _set(
        row,
        priority=fields.number("priority", 100),
        issuer=fields.text("issuer"),
        subject=subject,
        san=fields.text("san"),
        user=fields.reference("user", User),
        user_from=fields.choice("user_from", ["", *UserFrom.values], ""),
        enabled=fields.boolean("enabled", True),
    )


def service(row: Service, fields: Fields) -> None:
    _set(
        row,
        node=fields.reference("node", Node, required=True),
        path=fields.text("path"),
        methods=fields.texts("methods"),
        backend=fields.text("backend"),
        builtin=fields.choice("builtin", ["", *Builtin.values], ""),
        execute_acl=fields.reference("execute_acl", ACL),
        identity_headers=fields.texts("identity_headers"),
        forward_authorization=fields.boolean("forward_authorization"),
        timeout=fields.seconds("timeout", 60.0),
        trailers=fields.texts("trailers"),
        description=fields.text("description"),
    )


def port(row: Port, fields: Fields) -> None:
    kind = fields.choice("type", PortType.values)
    tls, connections = fields.part("tls"), fields.part("connections")
    dials = fields.parts("connect")
    default_auth = "require" if kind == PortType.REGISTRATION else "password"
    _set(
        row,
        node=fields.reference("node", Node, required=True),
        type=kind,
        enabled=fields.boolean("enabled", True),
        description=fields.text("description"),
        bind=fields.text("bind"),
        tls_keystore=tls.reference("keystore", Keystore),
        tls_truststore=tls.reference("truststore", Truststore),
        tls_server_name=tls.text("server_name"),
        client_auth=fields.choice("client_auth", ClientAuth.values, default_auth),
        client_truststore=fields.reference("client_truststore", Truststore),
        accept_basic=fields.optional_boolean("accept_basic"),
        authenticate=fields.boolean("authenticate"),
        explain=fields.boolean("explain"),
        registration_port=fields.reference("registration_port", Port),
        wait=fields.seconds("wait", 5.0),
        connections_min=connections.number("min", 2),
        connections_spare=connections.number("spare", 2),
        connections_max=connections.number("max", 64),
        service_access=_access(fields.part("service_access"), "deny"),
        ip_access=_access(fields.part("ip_access"), "allow"),
        trusted_proxies=fields.texts("trusted_proxies"),
        limits=fields.mapping("limits"),
    )
    _dials(row, dials)
    _no_more(tls, connections)


def _access(fields: Fields, default: str) -> dict[str, Any]:
    access = {
        "default": fields.choice("default", ["allow", "deny"], default),
        "allow": fields.texts("allow"),
        "deny": fields.texts("deny"),
    }
    _no_more(fields)
    return access


def _no_more(*parts: Fields) -> None:
    for part in parts:
        for error in part.finish():
            raise error


def _dials(row: Port, parts: list[Fields]) -> None:
    wanted = {(part.text("address"), part.reference("registration", Registration, required=True)) for part in parts}
    _no_more(*parts)
    stored = {(dial.address, dial.registration): dial for dial in row.connect.select_related("registration")}
    for key in stored.keys() - wanted:
        stored[key].delete()
    for address, registration in sorted(wanted - stored.keys(), key=lambda pair: pair[0]):
        try:
            Dial(port=row, address=address, registration=registration).save()  # type: ignore[misc]
        except ValidationError as error:
            raise FieldError("connect", "; ".join(error.messages)) from error


def registration(row: Registration, fields: Fields) -> None:
    asserts = fields.part("may_assert")
    truststores, groups = asserts.references("truststores", Truststore), asserts.references("groups", Group)
    for name, rows in (("truststores", truststores), ("groups", groups)):
        if asserts.given(name) and not rows:
            raise FieldError(f"may_assert.{name}", "an empty list would assert nobody; name some, or leave it out")
    _no_more(asserts)
    _set(
        row,
        port=fields.reference("port", Port, required=True),
        node=fields.reference("node", Node, required=True),
        der=fields.certificates("certificate")[0].der,
        enabled=fields.boolean("enabled", True),
        allow_test=fields.boolean("allow_test"),
        paths=fields.texts("paths"),
        limits_assertions=fields.given("may_assert"),
    )
    _link(row.may_assert_truststores, truststores)
    _link(row.may_assert_groups, groups)


def endpoint(row: Endpoint, fields: Fields) -> None:
    secret = fields.secret("password")
    values: dict[str, Any] = {
        "url": fields.text("url"),
        "identity": fields.choice("identity", ["", *EndpointIdentity.values], ""),
        "keystore": fields.reference("keystore", Keystore),
        "truststore": fields.reference("truststore", Truststore),
        "username": fields.text("username"),
        "forward_authorization": fields.boolean("forward_authorization"),
        "timeout": fields.seconds("timeout", 60.0),
        "description": fields.text("description"),
    }
    other_password = False
    if isinstance(secret, Kept):
        if not row.password or kept(row, "password")["kept"] != secret.fingerprint:
            raise FieldError("password", "another password is stored, or none; give it in the clear")
    elif secret is None:
        other_password, row.password = bool(row.password), b""
    elif row._state.adding or row.open_password() != secret:
        row.set_password(secret)
        other_password = True
    _set(row, changed=other_password, **values)


def api(row: API, fields: Fields) -> None:
    _set(
        row,
        node=fields.reference("node", Node, required=True),
        path=fields.text("path"),
        methods=fields.texts("methods"),
        endpoint=fields.reference("endpoint", Endpoint, required=True),
        execute_acl=fields.reference("execute_acl", ACL),
        description=fields.text("description"),
    )


READERS: dict[str, Callable[[Any, Fields], None]] = {
    "nodes": node,
    "groups": group,
    "users": user,
    "acls": acl,
    "truststores": truststore,
    "keystores": keystore,
    "certificates": certificate,
    "mapping_rules": mapping_rule,
    "services": service,
    "ports": port,
    "registrations": registration,
    "endpoints": endpoint,
    "apis": api,
}

# How the file calls what the models call otherwise.
FILE_NAMES = {
    "tls_keystore": "tls.keystore",
    "tls_truststore": "tls.truststore",
    "tls_server_name": "tls.server_name",
    "connections_min": "connections.min",
    "connections_spare": "connections.spare",
    "connections_max": "connections.max",
    "password_hash": "password",
    "der": "certificate",
    "chain": "certificate",
    "__all__": "",
}
