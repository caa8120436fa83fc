"""What would happen to a request: decided by the same function as on the nodes, and nothing sent."""

import hashlib
import time
from typing import Any

from django.utils.translation import gettext

from gateway.core.decision import Facts
from gateway.core.explain import lane
from gateway.core.reasons import REASONS
from gateway.drafts import documents
from gateway.relay.builtin import basic
from gateway.world import World
from identity.core.assertions import Proof
from identity.core.certificates import from_der
from identity.core.passwords import verify_password


def simulate(
    port: str,
    method: str,
    target: str,
    *,
    certificate: bytes | None = None,
    chain: list[bytes] | None = None,
    username: str | None = None,
    password: str | None = None,
    address: str = "127.0.0.1",
) -> dict[str, Any]:
    """Decide as the nodes would, one after the other: `status`, `reason` and `lanes`, as a test invoke answers.

    Args:
        certificate, chain: DER; as if a handshake had shown them.
    Raises:
        LookupError: there is no such port, or it is not one that clients call.
    """
    shown = {hashlib.sha256(certificate).hexdigest()} if certificate else set()
    world = World.of(documents(certificates=shown))
    if port not in world.entries:
        raise LookupError(gettext("There is no enabled external or regular port {port!r}.").format(port=port))
    snapshot, entry = world.entries[port]
    facts = Facts(
        entry,
        address,
        method,
        target,
        authorization=basic(username, password or "").decode() if username is not None else None,
        certificate=from_der(certificate) if certificate else None,
        intermediates=tuple(from_der(der) for der in chain or ()),
        proof=Proof.TEST if certificate else None,
    )
    way = world.walk(facts, snapshot, time.time(), lambda given, user: verify_password(given, user.password_hash))
    return {
        "status": REASONS[way.reason].status if way.reason else 200,
        "reason": way.reason.value if way.reason else None,
        "lanes": [lane(each.snapshot.node, each.port.name, each.decision) for each in way.lanes],
    }
