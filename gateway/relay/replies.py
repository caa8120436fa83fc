"""What the far side of a tunnel says of its own decision, and what of it is this node's to answer for."""

import logging
from typing import Any

from gateway.core.headers import Fields
from gateway.core.reasons import BY_CODE, Reason
from gateway.core.snapshot import Endpoint, EndpointIdentity
from gateway.relay import builtin
from identity.core.reasons import IdentityReason

log = logging.getLogger(__name__)

MAX_TRACE = 16 * 1024  # bytes of a trace that comes back through a tunnel

# Refusals that are about who asked; behind an endpoint with an identity of its own the gateway is to blame.
IDENTITY_REFUSALS = frozenset(IdentityReason)


def reason(fields: Fields) -> Reason | None:
    """Why the far side of a tunnel refused; None where it did not."""
    for name, value in fields:
        if name.lower() == b"postern-reason":
            return BY_CODE.get(value.decode("latin-1"))
    return None


def lanes(fields: Fields, trace_id: str) -> list[dict[str, Any]]:
    """The trace of its decision, where it came along. `trace_id`: of the request."""
    for name, value in fields:
        if name.lower() == b"postern-trace" and len(value) <= MAX_TRACE:
            try:
                return builtin.decode_lanes(value)
            except ValueError:
                log.warning("trace %s: the far side's trace cannot be read", trace_id)
    return []


def is_endpoints_fault(endpoint: Endpoint | None, status: int, inner: Reason | None) -> bool:
    """Whether the far side refused an identity that the endpoint gave, and not the caller's. `inner`: why."""
    if endpoint is None or endpoint.identity is EndpointIdentity.CALLER or status not in (401, 403):
        return False
    return inner in IDENTITY_REFUSALS or endpoint.url.scheme != "reverse"


def is_about_caller(endpoint: Endpoint | None, inner: Reason | None) -> bool:
    """Whether the caller's own user was found disabled there; this node may not know whom he means."""
    if inner is not IdentityReason.USER_DISABLED:
        return False
    return endpoint is None or endpoint.identity is EndpointIdentity.CALLER
