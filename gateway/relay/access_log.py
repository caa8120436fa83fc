"""One line of JSON for each request, to a file or to standard output."""

import contextlib
import json
import os
import sys
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.relay.exchange import Exchange

STANDARD_OUTPUT = "-"


class AccessLog:
    """Lines are gathered, and written by `flush`, which the node calls several times a second."""

    def __init__(self, path: str) -> None:
        """`path`: a file that is appended to, or `-`. Raises OSError."""
        self._path = path
        self._lines: list[str] = []
        self._file = self._open()

    def _open(self) -> IO[str]:
        if self._path == STANDARD_OUTPUT:
            return sys.stdout
        with contextlib.suppress(FileExistsError):
            # It tells who called, and when: for this account, and for the group's collector of logs. Said after it is
            # made, for the account's umask keeps the group out of all else.
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(handle, 0o640)
            os.close(handle)
        return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), "a", encoding="utf-8")

    def note(self, node: str, exchange: "Exchange") -> None:
        self._lines.append(json.dumps(entry(node, exchange), ensure_ascii=True))

    def flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self._file.write("\n".join(lines) + "\n")
            self._file.flush()

    def reopen(self) -> None:
        """After a rotation: the name is another file now. Raises OSError."""
        self.flush()
        if self._file is not sys.stdout:
            before, self._file = self._file, self._open()
            before.close()

    def close(self) -> None:
        self.flush()
        if self._file is not sys.stdout:
            self._file.close()


def entry(node: str, exchange: "Exchange") -> dict[str, Any]:
    """Seconds and bytes; the query is left out, for it may hold what is nobody's business."""
    decision, connection, head = exchange.decision, exchange.connection, exchange.head
    certificate = connection.certificate
    found: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() % 1 * 1000):03d}Z",
        "node": node,
        "port": connection.port.name,
        "trace_id": exchange.trace_id,
        "peer": decision.caller if decision is not None else connection.peer,
        "method": head.method,
        "path": (decision.path if decision is not None and decision.path else head.target.partition("?")[0])[:2048],
        "status": exchange.status,
        "reason": exchange.reason.value if exchange.reason is not None else None,
        "seconds": round(time.perf_counter() - exchange.started, 6),
        "received": exchange.received,
        "sent": exchange.sent,
        "user": None,
        "certificate": None,
    }
    if decision is not None:
        found["route"] = decision.route.name if decision.route is not None else None
        if decision.identity is not None:
            found["user"] = decision.identity.user
            certificate = decision.identity.certificate or certificate
    if certificate is not None:
        found["certificate"] = certificate.sha256
    if exchange.link:
        found["link"] = exchange.link
    return found
