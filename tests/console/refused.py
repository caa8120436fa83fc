"""Refusals as a node would have told of them; and a saved test."""

from itertools import count
from typing import Any

from django.utils import timezone

from console.models import Refusal, SavedTest

_numbers = count(1)


def refused_request(**fields: Any) -> Refusal:
    """At the edge `edge`, port `ext`, of a user whom an ACL does not let in, a moment ago; `fields` differ."""
    reason = fields.pop("reason", "acl_denied")
    told = {
        "node": "edge", "source": "tests", "number": next(_numbers), "kind": "request", "at": timezone.now(),
        "trace_id": f"{next(_numbers):032x}", "port": "ext", "peer": "192.0.2.1", "method": "GET", "path": "/orders",
        "status": 403, "reason": reason, "cause": reason, "user": "alice",
    }  # fmt: skip
    return Refusal.objects.create(**told | fields)


def lane(node: str = "edge", port: str = "ext", **fields: Any) -> dict[str, Any]:
    """One node's part of a trace, which ends at the ACL."""
    return {
        "node": node, "port": port, "outcome": "refuse", "reason": "acl_denied", "user": "alice",
        "credential": "certificate", "route": "service orders",
        "steps": [{"check": "ACL", "passed": False, "found": "user alice in Partners",
                   "against": "ACL Orders allows none; denies none"}],
    } | fields  # fmt: skip


def saved_test(name: str = "orders", **fields: Any) -> SavedTest:
    """Nobody asks for /orders at port ext, and is refused."""
    told = {"port": "ext", "method": "GET", "path": "/orders", "credential": "none", "expected_status": 401}
    test, _ = SavedTest.objects.get_or_create(name=name, defaults=told | fields)
    return test
