"""Writes of one turn of the event loop, gathered: one call to the socket for each connection and turn."""

from typing import Protocol


class Corked(Protocol):
    def flush(self) -> None: ...


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

    def want(self, connection: Corked) -> None:
        """Once for each connection and turn; flushed at once where nobody feeds."""
        self._waiting.append(connection)
        if not self._depth:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()
