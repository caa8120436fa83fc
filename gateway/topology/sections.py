"""Entry → row, section by section: what each field of the file is called and means.

A reader reads every field of an entry, which collects what is wrong; `_set` and `fields.check` let nothing be
written before that. What is linked to the row once it is there (groups, anchors, dials) follows.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from gateway.models import (
    API,
    Builtin,
    CipherSet,
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
    TLSVersion,
)
from gateway.topology.entries import default_of, kept, kept_password
from gateway.topology.fields import Fields, Kept
from identity.core import certificates, files
from identity.core.chains import load_crl
from identity.core.files import Contents, FieldError
from identity.core.names import from_text
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
    sealing,
)
from identity.models.truststores import (
    LONGEST,
    SHORTEST,
    RevocationList,
    RevocationSource,
    TrustedCertificate,
    check_url,
    fetch_from,
)


def _set(row: Model, fields: Fields, *, changed: bool = False, **values: Any) -> None:
    """Set fields; save where one is not as it was, the row is new, or the caller has `changed` it."""
    fields.check()
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


def _ports(fields: Fields, names: list[str]) -> list[str]:
    """Names of ports, in one order; those that there are not are noted against the field."""
    for name in names:
        fields.find("ports", name, Port)
    if fields.given("ports") and not names and not fields.problems:
        fields.complain("ports", "an empty list would mean nowhere; name some, or leave it out")
    return sorted(names)


def node(row: Node, fields: Fields) -> None:
    _set(row, fields, role=fields.choice("role", Role.values), description=fields.text("description"))


def group(row: Group, fields: Fields) -> None:
    _set(row, fields, description=fields.text("description", row.description if row.predefined else ""))


def user(row: User, fields: Fields) -> None:
    secret = fields.secret("password")
    enabled = fields.boolean("enabled", True)
    description = fields.text("description", row.description if row.predefined else "")
    groups = fields.references("groups", Group)
    ports = _ports(fields, fields.texts("ports"))
    if isinstance(secret, Kept) and (not row.password_hash or kept_password(row)["kept"] != secret.fingerprint):
        fields.complain("password", "another password is stored, or none; give it in the clear")
    fields.check()  # before anything is hashed, which is slow on purpose
    other_password = False
    if secret is None:
        other_password, row.password_hash = bool(row.password_hash), ""
    elif isinstance(secret, str) and not (row.password_hash and row.has_password(secret)):
        row.set_password(secret)
        other_password = True
    _set(row, fields, changed=other_password, enabled=enabled, ports=ports, description=description)
    _link(row.groups, groups)


def acl(row: ACL, fields: Fields) -> None:
    description = fields.text("description", row.description if row.predefined else "")
    allowed, denied = fields.references("allowed", Group), fields.references("denied", Group)
    if both := sorted({g.name for g in allowed} & {g.name for g in denied}):
        fields.complain("denied", f"{', '.join(both)}: allowed and denied at once; keep one of the two")
    if row.predefined:
        _keep_groups(row, fields, allowed, denied)
    _set(row, fields, description=description)
    # What is taken away first, so that a group can move from one list to the other.
    row.denied.remove(*(group for group in row.denied.all() if group not in denied))
    _link(row.allowed, allowed)
    _link(row.denied, denied)


def _keep_groups(row: ACL, fields: Fields, allowed: list[Group], denied: list[Group]) -> None:
    """Its groups are what defines a predefined ACL."""
    for name, given, stored in (("allowed", allowed, row.allowed), ("denied", denied, row.denied)):
        wanted = sorted(group.name for group in stored.all())
        if sorted(group.name for group in given) != wanted:
            fields.complain(name, f"{row} is predefined and keeps its groups: [{', '.join(wanted)}]")


def truststore(row: Truststore, fields: Fields) -> None:
    anchors = fields.certificates("certificates")
    crls = _crls(fields, fields.files("crls", files.MAX_CRL), anchors)
    sources = _sources(fields.parts_among("crls"))
    _set(
        row,
        fields,
        revocation=fields.choice("revocation", Revocation.values, default_of(Truststore, "revocation")),
        max_intermediates=fields.number("max_intermediates", default_of(Truststore, "max_intermediates")),
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
    fetch_from(row, sources)
    stored_crls = {bytes(crl.der): crl for crl in row.crls.filter(source=None)}
    for der in stored_crls.keys() - crls:
        stored_crls[der].delete()
    for der in crls - stored_crls.keys():
        crl = RevocationList(truststore=row, der=der)
        crl.full_clean()
        crl.save()


def _crls(fields: Fields, sent: list[bytes], anchors: list[certificates.Certificate]) -> set[bytes]:
    """The revocation lists in DER; what names one of `anchors` is signed by it."""
    found: set[bytes] = set()
    for data in sent:
        try:
            der = files.crl_from(data)
            load_crl(der, anchors, of_others=True)
        except ValueError as error:
            fields.complain("crls", str(error))
        else:
            found.add(der)
    return found


def _sources(parts: list[Fields]) -> dict[str, int]:
    """URL → seconds between two fetches."""
    found: dict[str, int] = {}
    for part in parts:
        url = part.text("url", required=True)
        every = round(part.seconds("every", default_of(RevocationSource, "every")))
        if url:
            try:
                check_url(url)
            except ValueError as error:
                part.complain("url", str(error))
        if not SHORTEST <= every <= LONGEST:
            part.complain("every", f"must be {SHORTEST} s to {LONGEST // 86_400} days")
        if url in found:
            part.complain("url", "is given twice; keep one of the entries")
        found[url] = every
    return found


def keystore(row: Keystore, fields: Fields) -> None:
    description = fields.text("description")
    sent = _pair_sent(row, fields, "private_key")
    # Where it is missing, a renewal that is under way stays: a key made here exists nowhere else. `{}` drops it.
    renewal = fields.part("next") if fields.given("next") else None
    dropped = renewal is not None and not fields.mapping("next")
    at = renewal.moment("from") if renewal else None
    following = _pair_sent(row, renewal, "next_private_key") if renewal and not dropped else []
    if (
        renewal
        and not dropped
        and not renewal.given("certificate")
        and (renewal.given("from") or not _waits(following))
    ):
        renewal.complain("certificate", "is missing; give a file, or PEM")
    fields.check()
    pair = _pair(fields, sent)
    changed = not row.holds(*pair)
    if changed:
        row.set_pair(*pair)
    if dropped and row.renewal:
        row.drop_next()
        changed = True
    elif _waits(following) and row.next_chain:
        row.next_chain, row.next_from = "", None
        changed = True
    elif following and renewal and not _waits(following):
        next_pair = _pair(renewal, following)
        if not row.holds_next(*next_pair, at):
            row.set_next(*next_pair, at)
            changed = True
    _set(row, fields, changed=changed, description=description)


Sent = list[tuple[str, Contents]]


def _pair_sent(row: Keystore, fields: Fields, column: str) -> Sent:
    """What the files of a pair hold, by field; the key may be the one that `column` has."""
    password = fields.text("private_key_password") or None
    found: Sent = [("certificate", contents) for contents in fields.contents("certificate", password, keys=True)]
    if fields.given("private_key") or not any(contents.key for _, contents in found):
        key = fields.private_key("private_key")
        if isinstance(key, Kept) and not _is_stored(row, column, key):
            fields.complain("private_key", "another key is stored, or none; give its file or PEM")
        elif isinstance(key, Kept):
            found.append(("private_key", Contents("stored", (), files.own_key(sealing.open_sealed(row, column)))))
        elif key is not None:
            try:
                found.append(("private_key", files.read_part("private_key", key, password)))
            except FieldError as error:
                fields.complain(error.field, str(error))
    return found


def _waits(sent: Sent) -> bool:
    """Whether a renewal is no more than the stored key, which waits for its certificate."""
    return [contents.kind for _, contents in sent] == ["stored"]


def _pair(fields: Fields, sent: Sent) -> tuple[tuple[certificates.Certificate, ...], files.PrivateKey]:
    """Raises EntryError."""
    try:
        return files.pair_of(sent)
    except FieldError as error:
        raise fields.error(error.field, str(error)) from error


def _is_stored(row: Keystore | Endpoint, column: str, secret: Kept) -> bool:
    return bool(getattr(row, column)) and kept(row, column)["kept"] == secret.fingerprint


def certificate(row: Certificate, fields: Fields) -> None:
    _set(
        row,
        fields,
        der=fields.leaf("certificate"),
        user=fields.reference("user", User),
        usage=fields.choice("usage", Usage.values, default_of(Certificate, "usage")),
        blocked=fields.boolean("blocked"),
        logs_in_until=fields.moment("logs_in_until"),
        ports=_ports(fields, fields.texts("ports")),
        description=fields.text("description"),
    )


def mapping_rule(row: MappingRule, fields: Fields) -> None:
    subject = {
        kind: [values] if isinstance(values, str) else values for kind, values in fields.mapping("subject").items()
    }
    issuer = fields.text("issuer")
    _set(
        row,
        fields,
        changed=bool(issuer) and _is_orphaned(row),
        priority=fields.number("priority", default_of(MappingRule, "priority")),
        issuer=issuer,
        subject=subject,
        san=fields.text("san"),
        user=fields.reference("user", User),
        user_from=fields.choice("user_from", ["", *UserFrom.values], ""),
        ports=_ports(fields, fields.texts("ports")),
        enabled=fields.boolean("enabled", True),
    )


def _is_orphaned(row: MappingRule) -> bool:
    """Whether no truststore holds the rule's authority any more; one of its name may have come in its place."""
    key = row.issuer_spki_sha256
    if not key:
        return False
    anchors = TrustedCertificate.objects.filter(subject=from_text(row.issuer).text)
    return key not in {anchor.certificate.spki_sha256 for anchor in anchors}


def service(row: Service, fields: Fields) -> None:
    _set(
        row,
        fields,
        node=fields.reference("node", Node, required=True),
        path=fields.text("path", required=True),
        methods=fields.texts("methods"),
        backend=fields.text("backend"),
        builtin=fields.choice("builtin", ["", *Builtin.values], ""),
        execute_acl=fields.reference("execute_acl", ACL),
        identity_headers=fields.texts("identity_headers"),
        forward_authorization=fields.boolean("forward_authorization"),
        timeout=fields.seconds("timeout", default_of(Service, "timeout")),
        trailers=fields.texts("trailers"),
        description=fields.text("description"),
    )


def port(row: Port, fields: Fields) -> None:
    kind = fields.choice("type", PortType.values)
    tls, connections = fields.part("tls"), fields.part("connections")
    dials = _dials(fields.parts("connect"))
    further = tls.references("keystores", Keystore)
    shown = _access(fields.part("service_access"), default_of(Port, "service_access"))
    for each in (*shown["allow"], *shown["deny"]):
        if not each.startswith("/"):
            fields.find("service_access", each, Service, API)
    _set(
        row,
        fields,
        node=fields.reference("node", Node, required=True),
        type=kind,
        enabled=fields.boolean("enabled", True),
        description=fields.text("description"),
        bind=fields.text("bind"),
        tls_keystore=tls.reference("keystore", Keystore),
        tls_truststore=tls.reference("truststore", Truststore),
        tls_server_name=tls.text("server_name"),
        tls_min_version=tls.choice("min_version", TLSVersion.values, default_of(Port, "tls_min_version")),
        tls_ciphers=tls.choice("ciphers", CipherSet.values, default_of(Port, "tls_ciphers")),
        client_auth=fields.choice(
            "client_auth", ClientAuth.values, "require" if kind == PortType.REGISTRATION else "password"
        ),
        client_truststore=fields.reference("client_truststore", Truststore),
        accept_basic=fields.optional_boolean("accept_basic"),
        authenticate=fields.boolean("authenticate"),
        explain=fields.boolean("explain"),
        registration_port=fields.reference("registration_port", Port),
        wait=fields.seconds("wait", default_of(Port, "wait")),
        connections_min=connections.number("min", default_of(Port, "connections_min")),
        connections_spare=connections.number("spare", default_of(Port, "connections_spare")),
        connections_max=connections.number("max", default_of(Port, "connections_max")),
        service_access=shown,
        ip_access=_access(fields.part("ip_access"), default_of(Port, "ip_access")),
        trusted_proxies=fields.texts("trusted_proxies"),
        limits=fields.mapping("limits"),
    )
    try:
        row.check_keystores(further)
    except ValueError as error:
        raise fields.error("tls.keystores", str(error)) from error
    _link(row.tls_keystores, further)
    _connect(row, fields, dials)


def _access(fields: Fields, usual: dict[str, Any]) -> dict[str, Any]:
    return {
        "default": fields.choice("default", ["allow", "deny"], usual["default"]),
        "allow": fields.texts("allow"),
        "deny": fields.texts("deny"),
    }


def _dials(parts: list[Fields]) -> set[tuple[str, Registration]]:
    """Where to dial, and as which registration."""
    found = set()
    for part in parts:
        address, registration = (
            part.text("address", required=True),
            part.reference("registration", Registration, required=True),
        )
        if registration is not None:
            found.add((address, registration))
    return found


def _connect(row: Port, fields: Fields, wanted: set[tuple[str, Registration]]) -> None:
    stored = {(dial.address, dial.registration): dial for dial in row.connect.all()}
    for key in stored.keys() - wanted:
        stored[key].delete()
    for address, registration in sorted(wanted - stored.keys(), key=lambda pair: (pair[0], pair[1].name)):
        try:
            Dial(port=row, address=address, registration=registration).save()
        except ValidationError as error:
            raise fields.error("connect", " ".join(error.messages)) from error


def registration(row: Registration, fields: Fields) -> None:
    asserts = fields.part("may_assert")
    truststores, groups = asserts.references("truststores", Truststore), asserts.references("groups", Group)
    for name, rows in (("truststores", truststores), ("groups", groups)):
        if asserts.given(name) and not rows and not fields.problems:
            asserts.complain(name, "an empty list would assert nobody; name some, or leave it out")
    _set(
        row,
        fields,
        port=fields.reference("port", Port, required=True),
        node=fields.reference("node", Node, required=True),
        der=fields.leaf("certificate"),
        next_der=fields.leaf("next_certificate", required=False),
        enabled=fields.boolean("enabled", True),
        allow_test=fields.boolean("allow_test"),
        paths=fields.texts("paths"),
        limits_assertions=fields.given("may_assert"),
    )
    _link(row.may_assert_truststores, truststores)
    _link(row.may_assert_groups, groups)


def endpoint(row: Endpoint, fields: Fields) -> None:
    secret = fields.secret("password")
    url = fields.text("url", required=True)
    if url.startswith("reverse://") and (name := url.removeprefix("reverse://").partition("/")[0]):
        fields.find("url", name, Port)
    values: dict[str, Any] = {
        "url": url,
        "identity": fields.choice("identity", ["", *EndpointIdentity.values], ""),
        "keystore": fields.reference("keystore", Keystore),
        "truststore": fields.reference("truststore", Truststore),
        "username": fields.text("username"),
        "forward_authorization": fields.boolean("forward_authorization"),
        "timeout": fields.seconds("timeout", default_of(Endpoint, "timeout")),
        "description": fields.text("description"),
    }
    if isinstance(secret, Kept) and not _is_stored(row, "password", secret):
        fields.complain("password", "another password is stored, or none; give it in the clear")
    fields.check()
    other_password = False
    if secret is None:
        other_password, row.password = bool(row.password), b""
    elif isinstance(secret, str) and (not row.password or row.open_password() != secret):
        row.set_password(secret)
        other_password = True
    _set(row, fields, changed=other_password, **values)


def api(row: API, fields: Fields) -> None:
    _set(
        row,
        fields,
        node=fields.reference("node", Node, required=True),
        path=fields.text("path", required=True),
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
    "tls_keystores": "tls.keystores",
    "tls_server_name": "tls.server_name",
    "tls_min_version": "tls.min_version",
    "tls_ciphers": "tls.ciphers",
    "connections_min": "connections.min",
    "connections_spare": "connections.spare",
    "connections_max": "connections.max",
    "password_hash": "password",
    "sha256": "certificate",
    "der": "certificate",
    "next_der": "next_certificate",
    "next_sha256": "next_certificate",
    "chain": "certificate",
    "next_from": "next.from",
    "__all__": "",
}
