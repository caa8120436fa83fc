"""What is stripped from a message, and the identity headers that are added (RFC 9440, XFCC, RFC 7239, W3C).

Header fields are pairs of bytes, (name as it came, value). Nothing here is ever taken from a caller's word on
who he is: a name is judged with every character but letters and digits read as `-`, for there are servers
behind us that fold `_` and `-` into one.
"""

import base64
import re
from collections.abc import Iterable
from enum import IntEnum
from urllib.parse import quote

from identity.core.certificates import Certificate

Fields = list[tuple[bytes, bytes]]


class Action(IntEnum):
    """What is done with a request's field, told by its name alone."""

    KEEP = 0
    HOP = 1  # for this connection only (RFC 9110, section 7.6.1), or part of the framing that we write anew
    IDENTITY = 2  # says who somebody is: never from outside
    FORWARDING = 3  # says where a message came from: from trusted proxies alone
    SPECIAL = 4  # read by us: host, content-length, transfer-encoding, expect, authorization, connection, …
    MALFORMED = 5  # looks like a framing field to some other program


HOP_BY_HOP = frozenset(
    {"keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authenticate", "proxy-authorization"}
)
SPECIAL = frozenset(
    {
        "connection",
        "content-length",
        "transfer-encoding",
        "host",
        "expect",
        "authorization",
        "traceparent",
        "tracestate",
    }
)
FORWARDING = frozenset(
    {"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip"}
)
# RFC 9440, Envoy, Traefik, nginx, HAProxy, AWS, CloudFront, Cloudflare, Azure, webMethods, and what
# applications behind single sign-on proxies believe.
IDENTITY = frozenset(
    {
        "client-cert", "client-cert-chain", "x-client-cert", "x-client-certificate", "x-client-dn", "x-client-cn",
        "x-client-verify", "remote-user", "x-remote-user", "x-remote-group", "x-remote-groups", "remote-groups",
        "remote-name", "remote-email", "x-authenticated-user", "x-authenticated-userid", "x-authenticated-groups",
        "x-auth-user", "x-auth-request-user", "x-auth-request-email", "x-auth-request-groups",
        "x-auth-request-access-token", "x-auth-request-preferred-username", "x-webauth-user", "x-arr-clientcert",
        "cf-access-jwt-assertion", "cf-access-authenticated-user-email", "x-goog-iap-jwt-assertion",
        "x-goog-authenticated-user-email", "x-goog-authenticated-user-id", "wmis-saml2-assertion",
        "x-wm-is-default-user", "x-consumer-id", "x-consumer-username", "x-consumer-custom-id",
        "x-credential-identifier", "x-pomerium-jwt-assertion", "x-tls-client-cert",
    }
)  # fmt: skip
IDENTITY_PREFIXES = (
    "postern-", "x-ssl-", "ssl-client-", "x-forwarded-", "x-amzn-mtls-", "x-amzn-oidc-", "cloudfront-viewer-cert-",
    "x-ms-client-principal", "client-cert-", "x-client-cert-",
)  # fmt: skip

# A Connection header that names one of these wants them taken from the message on its way; nobody honest does.
NOT_FOR_CONNECTION = frozenset({"host", "content-length", "authorization", "transfer-encoding"}) | FORWARDING

_NOT_ALNUM = re.compile(r"[^a-z0-9]")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = {"contentlength": "content-length", "transferencoding": "transfer-encoding", "host": "host"}
_LIMIT = 8192
_actions: dict[bytes, Action] = {}


def action(name: bytes) -> Action:
    """What is done with a request's field of this name; remembered, for the names are few."""
    known = _actions.get(name)
    if known is None:
        known = _classify(name)
        if len(_actions) >= _LIMIT:
            _actions.clear()
        _actions[name] = known
    return known


def _classify(name: bytes) -> Action:
    if not _TOKEN.fullmatch(name):
        return Action.MALFORMED
    lowered = name.decode("ascii").lower()
    canonical = _NOT_ALNUM.sub("-", lowered)
    framing = _FRAMING.get(canonical.replace("-", ""))
    if framing is not None and lowered != framing:
        return Action.MALFORMED
    if canonical in FORWARDING:
        # Under another spelling nobody reads it as forwarding but the servers that fold; from nobody, then.
        return Action.FORWARDING if lowered == canonical else Action.IDENTITY
    if canonical in IDENTITY or canonical.startswith(IDENTITY_PREFIXES):
        return Action.IDENTITY
    if lowered in SPECIAL:
        return Action.SPECIAL
    if canonical in HOP_BY_HOP:
        return Action.HOP
    return Action.KEEP


_response_drops = HOP_BY_HOP | {"connection", "content-length", "transfer-encoding"}
_response_actions: dict[bytes, bool] = {}


def response_keeps(name: bytes) -> bool:
    """Whether an answer's field of this name goes on to the caller."""
    known = _response_actions.get(name)
    if known is None:
        lowered = name.decode("latin-1").lower()
        known = (
            lowered not in _response_drops and not lowered.startswith("postern-") and _TOKEN.fullmatch(name) is not None
        )
        if len(_response_actions) >= _LIMIT:
            _response_actions.clear()
        _response_actions[name] = known
    return known


# --- what is added ---------------------------------------------------------------------------------------


def client_cert(certificate: Certificate) -> bytes:
    """`Client-Cert`: a byte sequence of structured fields holding the DER (RFC 9440, section 2.2)."""
    return b":" + base64.b64encode(certificate.der) + b":"


def client_cert_chain(chain: Iterable[Certificate]) -> bytes:
    """`Client-Cert-Chain`: a list of byte sequences, nearest issuer first, without the leaf (section 2.3)."""
    return b", ".join(client_cert(above) for above in chain)


def parse_client_cert(value: bytes) -> bytes:
    """The DER in a `Client-Cert`. Raises ValueError unless it is in the one form that we write."""
    if len(value) < 3 or value[:1] != b":" or value[-1:] != b":":
        raise ValueError("not a byte sequence (RFC 9651, section 3.3.5)")
    der = base64.b64decode(value[1:-1], validate=True)
    if base64.b64encode(der) != value[1:-1]:
        raise ValueError("not in its one base64 spelling")
    return der


def parse_client_cert_chain(value: bytes) -> tuple[bytes, ...]:
    return tuple(parse_client_cert(item) for item in value.split(b", ")) if value else ()


def xfcc(certificate: Certificate) -> bytes:
    """Envoy's `X-Forwarded-Client-Cert`: one element; values with `,;="` are quoted, `"` is escaped."""
    parts = [f"Hash={certificate.sha256}", f"Subject={_quoted(certificate.subject.text.replace(', ', ','))}"]
    for name in certificate.alternative_names:
        kind, _, value = name.partition(":")
        if kind in ("uri", "dns"):
            parts.append(f"{kind.upper()}={_quoted_if_needed(value)}")
    return ";".join(parts).encode("ascii", "backslashreplace")


def _quoted(value: str) -> str:
    printable = "".join(c if " " <= c <= "~" else quote(c) for c in value)
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted_if_needed(value: str) -> str:
    return _quoted(value) if re.search(r'[,;="\\]|[^!-~]', value) else value


def forwarded(address: str, host: str, secure: bool) -> bytes:
    """`Forwarded` (RFC 7239, section 4): one element."""
    node = f'"[{address}]"' if ":" in address else address
    parts = [f"for={node}", f"proto={'https' if secure else 'http'}"]
    if host:
        parts.append(f"host={host if re.fullmatch(r'[A-Za-z0-9.-]+', host) else _quoted(host)}")
    return ";".join(parts).encode("ascii", "replace")


_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parse_traceparent(value: bytes) -> tuple[str, str] | None:
    """(trace id, parent id) of a `traceparent` (W3C Trace Context, section 3.2); None when it is none."""
    match = _TRACEPARENT.fullmatch(value)
    if not match or match[1] == b"ff" or (match[1] == b"00" and match[5]):
        return None
    if match[2] == b"0" * 32 or match[3] == b"0" * 16:
        return None
    return match[2].decode(), match[3].decode()
