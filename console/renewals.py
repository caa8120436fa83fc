"""The end of a renewal: a registration admits the old certificate no longer, once its edge has no tunnel of it."""

import logging
from collections import Counter
from datetime import datetime
from typing import Any

from console.attention import ask_nodes
from gateway.models import Node, Registration
from gateway.renewals import complete

log = logging.getLogger(__name__)


def complete_renewals(now: datetime) -> list[str]:
    """Names of the registrations whose renewal is complete now. One whose edge does not answer waits."""
    rows = list(
        Registration.objects.renewing().select_related("port__node").prefetch_related("dials__port__tls_keystore")
    )
    if not rows:
        return []
    edges = ask_nodes(Node.objects.filter(pk__in=[row.port.node_id for row in rows]))
    told = {state.node.name: state.tunnels for state in edges if state.told is not None}
    return [
        row.name
        for row in rows
        if row.port.node.name in told and complete(row, _tunnels(row, told[row.port.node.name]), now)
    ]


def _tunnels(row: Registration, told: list[dict[str, Any]]) -> Counter[str] | None:
    """How many of them stand, by the certificate that they showed; None: a node of the version before does not tell."""
    found: Counter[str] = Counter()
    for each in told:
        if (each["registration"], each["port"]) == (row.name, row.port.name):
            if "certificates" not in each:
                return None
            found.update(each["certificates"])
    return found
