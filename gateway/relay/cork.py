"""Writes of one turn of the event loop, gathered: one call to the socket for each connection and turn."""

from typing import Any


class Cork:
    """While anybody feeds, connections that want to write are noted, and flushed when the feeding is over."""

    __slots__ = ("_depth", "_waiting")

    def __init__(self) -> None:
        self._depth = 0
        self._waiting: list[Corked] = []

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.flush()

    def want(self, connection: "Corked") -> None:
        """Once for each connection and turn; flushed at once where nobody feeds."""
        self._waiting.append(connection)
        if not self._depth:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()


class Corked:
    """What writes to a transport, and what it writes in one turn as one. `over`: nothing is written any more."""

    __slots__ = ("_cork", "_out", "over", "transport")

    def __init__(self, transport: Any, cork: Cork) -> None:
        self.transport, self._cork = transport, cork
        self._out: list[bytes] = []
        self.over = False

    def write(self, data: bytes) -> None:
        """What more of its kind may follow in this turn."""
        out = self._out
        out.append(data)
        if len(out) == 1:
            self._cork.want(self)

    def write_whole(self, data: bytes) -> None:
        """What needs not wait for more."""
        if self._out:
            self._out.append(data)
        elif not self.over:
            self.transport.write(data)

    def flush(self) -> None:
        out = self._out
        if out and not self.over:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self.transport.write(data)
        else:
            out.clear()
