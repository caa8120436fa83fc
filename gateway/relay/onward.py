"""How a request goes on: its head, written anew for a tunnel or for a backend, with what tells there who is asking.

Knows nothing of what becomes of it. Each function also tells until when (seconds since 1970-01-01 UTC) what it wrote is
good, for it is used again for requests with the same head.
"""

from typing import TYPE_CHECKING

from gateway.core import headers, paths
from gateway.core.decision import CredentialKind, Decision, Identity, is_basic
from gateway.core.snapshot import API, Endpoint, EndpointIdentity, Service
from gateway.relay import builtin
from gateway.relay.heads import Head
from gateway.relay.runtime import Runtime
from gateway.relay.writing import SWITCH, request_line, write_fields
from identity.core.assertions import Proof
from identity.core.certificates import Certificate

if TYPE_CHECKING:
    from gateway.relay.connection import ServerConnection
    from gateway.relay.tunnel import Member

FOREVER = float("inf")


def path_there(decision: Decision, endpoint: Endpoint | None) -> str:
    """The path by which the request goes on."""
    route = decision.route
    if endpoint is not None:
        assert isinstance(route, API)
        return paths.rebase(decision.path, route.path, endpoint.url.base)
    if isinstance(route, Service) and route.backend is not None:
        return paths.rebase(decision.path, route.path, route.backend.base)
    return decision.path


def _target(decision: Decision, endpoint: Endpoint | None) -> str:
    path = path_there(decision, endpoint)
    return path if decision.query is None else f"{path}?{decision.query}"


def for_tunnel(
    connection: "ServerConnection", head: Head, decision: Decision, endpoint: Endpoint | None, member: "Member"
) -> tuple[bytes, float]:
    """The head for a tunnel but for its last line, and until when it is good. `endpoint`: of an API.

    Raises AssertionInvalid.
    """
    identity, authorization, until = _identity_on_tunnel(connection, head, decision, endpoint, member)
    lines = [
        request_line(head.method, _target(decision, endpoint)),
        b"Host: %b\r\n" % (head.host or b"localhost"),
        write_fields(head.fields),
        b"Postern-Peer: %b\r\n" % decision.caller.encode(),
        identity,
    ]
    if authorization:
        lines.append(b"Authorization: %b\r\n" % authorization)
    if connection.tracing:
        lines.append(b"Postern-Trace: 1\r\n")
    lines.append(_framing(head))
    return b"".join(lines), until


def _identity_on_tunnel(
    connection: "ServerConnection", head: Head, decision: Decision, endpoint: Endpoint | None, member: "Member"
) -> tuple[bytes, bytes | None, float]:
    """Header lines that say who, the Authorization value that goes along, and until when both are good.

    Raises AssertionInvalid.
    """
    kind = EndpointIdentity.CALLER if endpoint is None else endpoint.identity
    if kind is EndpointIdentity.CALLER:
        authorization = head.authorization
        if endpoint is None:
            # What is not Basic is no credential here, and the application's own business.
            if authorization and is_basic(authorization.decode("latin-1")) and not connection.port.accept_basic:
                authorization = None
        elif decision.credential is not CredentialKind.BASIC:
            authorization = None
        if decision.credential is not CredentialKind.CERTIFICATE or connection.certificate is None:
            return b"", authorization, FOREVER
        keystore = connection.node.snapshot.ports[member.registration.port].keystore
        assert keystore is not None
        key = connection.node.keys.of(keystore)
        proof = connection.proof or Proof.TLS
        # Verified issuers alone; the root itself the far side has, or it does not believe the chain anyway.
        above = tuple(link for link in decision.chain if not link.self_issued)
        lines, until = member.statement(connection.certificate, above, proof, key)
        return lines, authorization, until
    assert endpoint is not None
    if kind is EndpointIdentity.CERTIFICATE:
        assert endpoint.keystore is not None
        leaf, issuers = endpoint.keystore.chain[0], endpoint.keystore.chain[1:]
        lines, until = member.statement(leaf, issuers, Proof.KEY, connection.node.keys.of(endpoint.keystore))
        return lines, None, until
    if kind is EndpointIdentity.BASIC:
        return b"", builtin.basic(endpoint.username, endpoint.password), FOREVER
    return b"", None, FOREVER


def for_backend(
    connection: "ServerConnection", head: Head, decision: Decision, endpoint: Endpoint | None
) -> tuple[bytes, float]:
    """The head for a backend or an https endpoint, as `for_tunnel` has it."""
    until = FOREVER
    url = endpoint.url if endpoint else decision.route.backend  # type: ignore[union-attr]
    lines = [
        request_line(head.method, _target(decision, endpoint)),
        b"Host: %b\r\n" % url.authority.encode(),  # type: ignore[union-attr]
        write_fields(head.fields),
    ]
    forwarded = headers.forwarded(decision.caller, head.host.decode("latin-1"), connection.secure)
    if connection.believes_forwarding and head.forwarding:
        lines.append(write_fields(f for f in head.forwarding if f[0].lower() != b"forwarded"))
        before = [value for name, value in head.forwarding if name.lower() == b"forwarded"]
        forwarded = b", ".join([*before, forwarded])
    lines.append(b"Forwarded: %b\r\n" % forwarded)
    authorization = None
    if endpoint is not None:
        if endpoint.identity is EndpointIdentity.BASIC:
            authorization = builtin.basic(endpoint.username, endpoint.password)
        elif endpoint.forward_authorization:
            authorization = head.authorization
    else:
        service = decision.route
        assert isinstance(service, Service)
        if service.identity_headers and decision.identity is not None:
            fields, until = _identity_fields(connection.node, service, decision.identity)
            lines.append(fields)
        if service.forward_authorization:
            authorization = head.authorization
    if authorization:
        lines.append(b"Authorization: %b\r\n" % authorization)
    lines.append(_framing(head))
    return b"".join(lines), until


def _identity_fields(node: Runtime, service: Service, identity: Identity) -> tuple[bytes, float]:
    """Whom the request runs as, in the forms that the service asks for, and until when that is good.

    Nothing for `Default`.
    """
    until = FOREVER
    if identity.anonymous:
        return b"", until
    lines: list[bytes] = []
    certificate = identity.certificate
    for form in service.identity_headers:
        if form == "client-cert" and certificate is not None:
            lines.append(b"Client-Cert: %b\r\n" % headers.client_cert(certificate))
        elif form == "xfcc" and certificate is not None:
            lines.append(b"X-Forwarded-Client-Cert: %b\r\n" % _xfcc(certificate))
        elif form == "user":
            groups = ",".join(sorted(identity.groups))
            lines.append(f"X-Forwarded-User: {identity.user}\r\nX-Forwarded-Groups: {groups}\r\n".encode())
        elif form == "jwt" and node.snapshot.token is not None:
            token, until = node.keys.identity_token(node.snapshot.token, identity)
            lines.append(b"Postern-Identity: %b\r\n" % token)
    return b"".join(lines), until


def _framing(head: Head) -> bytes:
    if head.switches:
        return SWITCH
    length = head.length
    if length is None:
        return b"Transfer-Encoding: chunked\r\n"
    if length == 0 and head.method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return b""
    return b"Content-Length: %d\r\n" % length


_xfccs: dict[str, bytes] = {}


def _xfcc(certificate: Certificate) -> bytes:
    known = _xfccs.get(certificate.sha256)
    if known is None:
        if len(_xfccs) >= 4096:
            _xfccs.clear()
        known = _xfccs[certificate.sha256] = headers.xfcc(certificate)
    return known
