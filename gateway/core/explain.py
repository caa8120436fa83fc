"""A decision in words: what the console, the trace header and the log of refusals show."""

from typing import Any

from gateway.core.decision import Decision, Outcome
from gateway.core.snapshot import API
from identity.core.trace import words


def lane(node: str, port: str, decision: Decision) -> dict[str, Any]:
    """One node's part of a trace, as plain JSON."""
    route = decision.route
    if route is None:
        stands = "passed through" if decision.outcome is Outcome.PASS else ""
    else:
        stands = f"{'API' if isinstance(route, API) else 'service'} {route.name}"
    return {
        "node": node,
        "port": port,
        "outcome": decision.outcome.value,
        "reason": decision.reason.value if decision.reason else None,
        "user": decision.identity.user if decision.identity else None,
        "credential": decision.credential.value,
        "route": stands,
        "steps": [
            {"check": step.check, "passed": step.passed, "found": words(step.found), "against": words(step.against)}
            for step in decision.steps
        ],
    }
