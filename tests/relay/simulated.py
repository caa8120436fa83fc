"""Time that a test moves: an event loop's, which jumps to its next timer, and that of a node's processes."""

import asyncio
import selectors
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.relay.installation import ROOT


class Loop(asyncio.SelectorEventLoop):
    """Nothing is awaited in it but timers: where nothing else is to do, it is at once as late as the next one."""

    def __init__(self) -> None:
        self.late = 0.0
        super().__init__(_Jumps(self))

    def time(self) -> float:
        return self.late


class _Jumps(selectors.DefaultSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing would ever happen again"
        # A timer is due a little before its time (`asyncio` adds the clock's resolution), and never after it.
        self._loop.late += max(0.0, timeout)
        return super().select(0)


def run(work: Coroutine[Any, Any, None]) -> None:
    loop = Loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


class Clock:
    """The wall's, as all processes that are started with its `env` read it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.env = {"PYTHONPATH": f"{ROOT / 'tests' / 'relay' / 'clock'}:{ROOT}", "CLOCK": str(self._file)}

    def advance(self, seconds: float) -> None:
        """Once; for whoever asks from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)
