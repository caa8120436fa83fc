"""What is cut when somebody is blocked: neither a connection that stands nor a request that runs outlives it.

Compares the snapshot that comes into force with the one before it. Every other change waits for the next request on a
connection, which is decided anew.
"""

import logging
from dataclasses import dataclass

from gateway.core.snapshot import Snapshot
from gateway.relay.connection import ServerConnection
from gateway.relay.dialled import TunnelConnection
from gateway.relay.runtime import Runtime
from identity.core.reasons import IdentityReason

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Who is refused from now on, and was not before.

    Attributes:
        certificates: by SHA-256.
        users: disabled, or gone.
        of_users: certificates on file of users who were disabled, by SHA-256.
    """

    certificates: frozenset[str]
    users: frozenset[str]
    of_users: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.certificates or self.users or self.of_users)


def blocked_between(before: Snapshot, after: Snapshot) -> Blocked:
    users = after.users
    # A node that decides for nobody any more has no users: that blocks none of them.
    known = before.users if users and users is not before.users else {}
    # An unchanged user is the very same object: with a hundred thousand of them this takes some milliseconds.
    gone = [
        name
        for name, user in known.items()
        if user.enabled and users.get(name) is not user and not (name in users and users[name].enabled)
    ]
    return Blocked(after.blocked - before.blocked, frozenset(gone), after.of_disabled - before.of_disabled)


def cut(node: Runtime, blocked: Blocked) -> None:
    """End what runs as somebody who is blocked, and close the connections that are his."""
    closed = ended = 0
    with node.cork:
        for connection in list(node.connections):
            if isinstance(connection, TunnelConnection):  # it is many callers', one after the other
                reason = _of_exchange(connection, blocked)
                if reason is not None and connection.exchange is not None:
                    connection.exchange.refuse(reason, _WORDS)
                    ended += 1
            elif (reason := _of_connection(connection, blocked)) is not None:
                connection.shut(reason, _WORDS)
                closed += 1
    log.info(
        "blocked: %d certificates, %d users: %d connections closed, %d requests in tunnels ended",
        len(blocked.certificates), len(blocked.users), closed, ended,
    )  # fmt: skip


_WORDS = "blocked while the request was on its way"


def _of_connection(connection: ServerConnection, blocked: Blocked) -> IdentityReason | None:
    """Why a client's connection is closed: by what it showed, or by whom its last request ran as."""
    shown = connection.certificate.sha256 if connection.certificate is not None else ""
    if shown in blocked.certificates:
        return IdentityReason.CERTIFICATE_UNMAPPED
    if shown in blocked.of_users or connection.user in blocked.users:
        return IdentityReason.USER_DISABLED
    return None


def _of_exchange(connection: TunnelConnection, blocked: Blocked) -> IdentityReason | None:
    """Why a request in a tunnel is ended, by whom it runs as."""
    decision = connection.exchange.decision if connection.exchange is not None else None
    if decision is None or decision.identity is None:
        return None
    certificate = decision.identity.certificate
    if certificate is not None and certificate.sha256 in blocked.certificates:
        return IdentityReason.CERTIFICATE_UNMAPPED
    return IdentityReason.USER_DISABLED if decision.identity.user in blocked.users else None
