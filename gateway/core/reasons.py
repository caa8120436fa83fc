"""Every reason code with its status and its words: one table for answers, log, metrics, documents and console.

A code is interface: added, never renamed.
"""

from dataclasses import dataclass
from enum import StrEnum

from identity.core.reasons import IdentityReason


class GatewayReason(StrEnum):
    REQUEST_MALFORMED = "request_malformed"
    IP_DENIED = "ip_denied"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    SERVICE_NOT_ON_PORT = "service_not_on_port"
    NOT_ON_CHANNEL = "not_on_channel"
    MISDIRECTED_REQUEST = "misdirected_request"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "body_too_large"
    URI_TOO_LONG = "uri_too_long"
    EXPECTATION_FAILED = "expectation_failed"
    HEADERS_TOO_LARGE = "headers_too_large"
    NOT_IMPLEMENTED = "not_implemented"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    BACKEND_UNREACHABLE = "backend_unreachable"
    BACKEND_PROTOCOL_ERROR = "backend_protocol_error"
    TUNNEL_LOST = "tunnel_lost"
    ENDPOINT_REFUSED = "endpoint_refused"
    NO_INTERNAL_CONNECTION = "no_internal_connection"
    OVERLOADED = "overloaded"
    BACKEND_TIMEOUT = "backend_timeout"
    CLIENT_GONE = "client_gone"


Reason = IdentityReason | GatewayReason


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """`title`: what a caller reads. `words`: what happened, for operators. `remedy`: what they can do."""

    status: int
    title: str
    words: str
    remedy: str


_I, _G = IdentityReason, GatewayReason

REASONS: dict[Reason, ReasonInfo] = {
    _G.REQUEST_MALFORMED: ReasonInfo(
        400,
        "The request is malformed",
        "The request could be read in two ways, or not at all.",
        "The client has to mend its request; the trace says what was wrong in it.",
    ),
    _I.AUTHENTICATION_REQUIRED: ReasonInfo(
        401,
        "Authentication is required",
        "The request came without a credential, and the ACL does not admit Default.",
        "Let the client send its certificate or password. On an API or a service meant for everybody, use the ACL Anonymous.",
    ),
    _I.INVALID_CREDENTIALS: ReasonInfo(
        401,
        "The credentials are not valid",
        "User or password is wrong, or there were too many wrong ones from that address.",
        "Check the user's name, whether it is enabled, for this port, and has a password; set a new one if need be.",
    ),
    _G.IP_DENIED: ReasonInfo(
        403,
        "This address may not call",
        "The caller's address is denied by the port's IP access.",
        "Add the address to the port's allowed networks, or take it off the denied ones.",
    ),
    _G.SERVICE_NOT_ON_PORT: ReasonInfo(
        403,
        "Not available here",
        "The path is not on the port's service access list.",
        "Add the path, or the service's name, to the port's service access.",
    ),
    _I.CERTIFICATE_REQUIRED: ReasonInfo(
        403,
        "A client certificate is required",
        "The port requires a certificate and none was shown.",
        "Let the client send its certificate, or set the port to request instead of require.",
    ),
    _I.CERTIFICATE_UNTRUSTED: ReasonInfo(
        403,
        "The client certificate is not trusted",
        "The certificate does not lead to an authority that the port trusts, or is not for clients.",
        "Add its authority to the port's truststore, or let the client use a certificate for client authentication.",
    ),
    _I.CERTIFICATE_EXPIRED: ReasonInfo(
        403,
        "The client certificate is not valid at this time",
        "The certificate, or one above it, has expired or is not yet valid.",
        "Let the client renew its certificate; upload the new one and map it.",
    ),
    _I.CERTIFICATE_REVOKED: ReasonInfo(
        403,
        "The client certificate is revoked",
        "Its authority has revoked the certificate.",
        "Let the client get a new certificate.",
    ),
    _I.REVOCATION_UNKNOWN: ReasonInfo(
        403,
        "The client certificate's revocation is unknown",
        "The authority's revocation list has run out, or one that is to be fetched has never come.",
        "See on the truststore's page why none comes; upload a current revocation list, or set the truststore to soft.",
    ),
    _I.CERTIFICATE_UNMAPPED: ReasonInfo(
        403,
        "The client certificate belongs to no user here",
        "The certificate is trusted, and mapped to nobody.",
        "Map the certificate to a user, uploaded first where it is not on file; "
        "where it is mapped, see whether it is blocked, or for other ports.",
    ),
    _I.MAPPING_AMBIGUOUS: ReasonInfo(
        403,
        "The client certificate could mean several users",
        "Rules of one priority name different users.",
        "Give the rules different priorities, or map the certificate itself.",
    ),
    _I.USER_DISABLED: ReasonInfo(
        403, "The user is disabled", "The credential is right, and its user is disabled.", "Enable the user."
    ),
    _I.ACL_DENIED: ReasonInfo(
        403,
        "Not permitted",
        "The ACL denies one of the user's groups, or allows none of them.",
        "Add one of the user's groups to the ACL, or the user to a group that it allows.",
    ),
    _G.NOT_ON_CHANNEL: ReasonInfo(
        403,
        "Not available through this channel",
        "The registration may not carry this path.",
        "Add the path to the registration's paths.",
    ),
    _I.ASSERTION_INVALID: ReasonInfo(
        403,
        "The gateway's statement is not valid",
        "The token that came through the tunnel is not valid here and now.",
        "Compare the clocks of both nodes; check that both have the same configuration. If neither helps, ask who holds the edge.",
    ),
    _I.ASSERTION_NOT_PERMITTED: ReasonInfo(
        403,
        "The gateway may not speak for this caller",
        "The registration may not assert this certificate, this user, or a test.",
        "Widen the registration's may_assert, or set allow_test for test invokes.",
    ),
    _G.NOT_FOUND: ReasonInfo(
        404,
        "There is nothing here",
        "No service or API has this path.",
        "Check the path; add a service, or an API.",
    ),
    _G.METHOD_NOT_ALLOWED: ReasonInfo(
        405,
        "This method is not allowed here",
        "The service does not take this method.",
        "Add the method to the service, or let the client use another.",
    ),
    _G.REQUEST_TIMEOUT: ReasonInfo(
        408,
        "The request took too long to arrive",
        "The request's headers or body did not arrive in time.",
        "Check the client's network; raise the port's timeouts if clients are slow by nature.",
    ),
    _G.BODY_TOO_LARGE: ReasonInfo(
        413,
        "The request's body is too large",
        "The body exceeds the port's limit.",
        "Raise body_bytes in the port's limits, or let the client send less.",
    ),
    _G.URI_TOO_LONG: ReasonInfo(
        414,
        "The request's target is too long",
        "The request target exceeds the port's limit.",
        "Raise target_bytes in the port's limits, or let the client send less.",
    ),
    _G.EXPECTATION_FAILED: ReasonInfo(
        417,
        "The expectation cannot be met",
        "The request expects something other than 100-continue.",
        "The client has to leave the Expect header out.",
    ),
    _G.MISDIRECTED_REQUEST: ReasonInfo(
        421,
        "This connection does not serve that host",
        "The Host header is not covered by the connection's server name.",
        "Let the client connect with the right server name.",
    ),
    _G.HEADERS_TOO_LARGE: ReasonInfo(
        431,
        "The request's header section is too large",
        "Size or number of header fields exceeds the port's limit.",
        "Raise header_bytes or header_fields in the port's limits, or let the client send less.",
    ),
    _G.NOT_IMPLEMENTED: ReasonInfo(
        501,
        "Not implemented",
        "The method, target form or transfer coding is not served here.",
        "The client has to use another.",
    ),
    _G.VERSION_NOT_SUPPORTED: ReasonInfo(
        505,
        "This version of HTTP is not supported",
        "Only HTTP/1.1 and HTTP/1.0 are.",
        "The client has to use HTTP/1.1.",
    ),
    _G.BACKEND_UNREACHABLE: ReasonInfo(
        502,
        "The service cannot be reached",
        "No connection to the backend or endpoint could be made.",
        "Check that it runs, its address, and what its TLS certificate says.",
    ),
    _G.BACKEND_PROTOCOL_ERROR: ReasonInfo(
        502,
        "The service's answer cannot be read",
        "The backend or endpoint broke the protocol or closed early.",
        "Look at its log for the same time.",
    ),
    _G.TUNNEL_LOST: ReasonInfo(
        502,
        "The connection inwards was lost",
        "The tunnel broke after the request had been sent; it is not sent again.",
        "Look at the internal node and the network between. The client decides whether to repeat.",
    ),
    _G.ENDPOINT_REFUSED: ReasonInfo(
        502,
        "The service refused the gateway",
        "The far side refused the identity that the endpoint gave; that is no fault of the caller's.",
        "See the inner reason in the trace; mend the endpoint's identity, its mapping, or the service's ACL.",
    ),
    _G.NO_INTERNAL_CONNECTION: ReasonInfo(
        503,
        "The service is not connected",
        "No tunnel was free within the port's wait.",
        "Check that the internal node runs and is registered; raise its connections if all were busy.",
    ),
    _G.OVERLOADED: ReasonInfo(
        503,
        "Too busy",
        "A limit on connections or requests in flight was reached.",
        "Raise the port's limits, or find out who sends so much.",
    ),
    _G.BACKEND_TIMEOUT: ReasonInfo(
        504,
        "The service took too long",
        "The backend sent no answer in time.",
        "Look at the backend; raise the service's timeout if it is slow by nature.",
    ),
    _G.CLIENT_GONE: ReasonInfo(
        499,  # stands in log and metrics alone: nobody is there to be told
        "The caller is gone",
        "The caller broke off, or did not read, before its answer was whole.",
        "Look at the client and the network between; its own timeout may be shorter than the service's.",
    ),
}

BY_CODE: dict[str, Reason] = {reason.value: reason for reason in REASONS}
