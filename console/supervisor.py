"""Keeps programs running: starts them, starts again what died, passes their output on, stops them all.

One process, one loop, no threads. Knows nothing of what the programs do.
"""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

GRACE = 15.0  # seconds from SIGTERM to SIGKILL
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0  # seconds before a program that died is started again
STEADY = 60.0  # seconds after which a program counts as well again
POLL = 0.1  # seconds between two questions whether all is ready
AGAIN = 1.0  # seconds after which being told to stop counts as being told again: of one stop several may tell us
MAX_LINE = 64 * 1024  # bytes; what is longer is passed on in parts
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Program:
    """`name` stands before each line of its output; `command` is what is run."""

    name: str
    command: tuple[str, ...]


class Supervisor:
    """Runs programs until it is told to stop by SIGTERM, SIGINT or SIGHUP; told again, it waits for nobody."""

    def __init__(
        self, programs: Sequence[Program], output: BinaryIO, *, name: str = "serve", grace: float = GRACE
    ) -> None:
        width = max(len(word) for word in (name, *(program.name for program in programs)))
        self._prefix = f"{name:<{width}} | ".encode()
        self._output, self._grace = output, grace
        self._children = [_Child(program, f"{program.name:<{width}} | ".encode()) for program in programs]
        self._selector = selectors.DefaultSelector()
        self._told_at: float | None = None  # when we were told to stop, on the monotonic clock
        self._told_again = False

    def run(self, ready: Callable[[], bool] | None = None) -> int:
        """Until told to stop; then 0.

        Args:
            ready: asked every `POLL` seconds until it says yes. It may use `say`, and must not block for long.
        """
        ask_at = 0.0
        with self._signals():
            while self._told_at is None:
                now = time.monotonic()
                for child in self._children:
                    if child.is_due(now):
                        self._start(child, now)
                if ready is not None and now >= ask_at:
                    ready = None if ready() else ready
                    ask_at = time.monotonic() + POLL
                due = [child.due for child in self._children if child.process is None]
                self._wait(min(due if ready is None else [*due, ask_at], default=None))
                self._reap()
            self._stop()
        return 0

    def say(self, text: str) -> None:
        """Lines of our own, between those of the programs."""
        for line in text.splitlines():
            self._write(self._prefix, line.encode())

    # --- one program ---

    def _start(self, child: "_Child", now: float) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - commands of our own
                child.program.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches us alone, and a program's own children end with it.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            self.say(f"{child.name} cannot be started: {error}; trying again in {child.failed(now):g} s")
            return
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, child)
        child.started(process, now)

    def _reap(self) -> None:
        """Note who died, and when to start it again."""
        now = time.monotonic()
        for child in self._children:
            if child.process is None or not _has_ended(child.process):
                continue
            # What it started itself would hold on to its addresses. Now, for until `wait` nobody else has its id.
            _signal_group(child.process, signal.SIGKILL)
            status = child.process.wait()
            self._drain(child)
            child.process = None
            if self._told_at is None:
                self.say(f"{child.name} died: {_words(status)}; starting it again in {child.failed(now):g} s")

    def _drain(self, child: "_Child") -> None:
        """Pass on what a program that ended has left in its pipe, and close that."""
        assert child.process is not None and child.process.stdout is not None
        while self._read(child):
            pass
        if child.partial:
            self._write(child.prefix, child.take_partial())
        self._forget(child)

    def _forget(self, child: "_Child") -> None:
        assert child.process is not None and child.process.stdout is not None
        if not child.process.stdout.closed:
            self._selector.unregister(child.process.stdout)
            child.process.stdout.close()

    # --- output ---

    def _read(self, child: "_Child") -> bool:
        """Pass on whole lines of what is there. False when there is nothing, now or for ever."""
        assert child.process is not None and child.process.stdout is not None
        if child.process.stdout.closed:
            return False
        try:
            data = os.read(child.process.stdout.fileno(), MAX_LINE)
        except BlockingIOError:
            return False
        if not data:  # it closed its output; it may run on all the same
            self._forget(child)
            return False
        *lines, child.partial = (child.partial + data).split(b"\n")
        for line in lines:
            self._write(child.prefix, line)
        if len(child.partial) >= MAX_LINE:
            self._write(child.prefix, child.take_partial())
        return True

    def _write(self, prefix: bytes, line: bytes) -> None:
        try:
            self._output.write(prefix + line.rstrip(b"\r") + b"\n")
            self._output.flush()
        except BrokenPipeError:
            # Nobody reads us any more: as if the terminal had been closed. What is still buffered goes nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._output.fileno())
            os.close(nowhere)
            self._told_at = self._told_at or time.monotonic()

    # --- waiting and stopping ---

    def _wait(self, until: float | None) -> None:
        """Until a program writes or ends, we are told to stop, or the monotonic clock shows `until`."""
        timeout = None if until is None else max(0.0, until - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, _Child):
                self._read(key.data)
            else:  # a signal has come; its handler has run already
                key.fileobj.recv(4096)  # type: ignore[union-attr]

    def _stop(self) -> None:
        """1. Ask all to stop. 2. Wait for them. 3. Kill those that are past the grace, or all when told again."""
        self.say("stopping")
        for child in self._children:
            if child.process is not None:
                child.process.terminate()
        deadline: float | None = time.monotonic() + self._grace
        while running := [child for child in self._children if child.process is not None]:
            if deadline is not None and (time.monotonic() >= deadline or self._told_again):
                deadline = None
                for child in running:
                    self.say(f"{child.name} did not stop in time: killed")
                    _signal_group(child.process, signal.SIGKILL)
            self._wait(deadline)
            self._reap()
        self.say("stopped")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals wake the loop up; what was there before is put back afterwards."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, None)
        before = {number: signal.signal(number, self._told) for number in _STOPPING}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            ours.close()
            theirs.close()

    def _told(self, *_: Any) -> None:
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
        elif now - self._told_at >= AGAIN:
            self._told_again = True


class _Child:
    """One program's place: its process while it runs, and when to start it next while it does not."""

    def __init__(self, program: Program, prefix: bytes) -> None:
        self.program, self.prefix = program, prefix
        self.name = program.name
        self.process: subprocess.Popen[bytes] | None = None
        self.partial = b""  # the beginning of a line
        self.due = 0.0  # on the monotonic clock
        self._since: float | None = None  # when it was started; None while it does not run
        self._delay = FIRST_DELAY

    def is_due(self, now: float) -> bool:
        return self.process is None and now >= self.due

    def started(self, process: subprocess.Popen[bytes], now: float) -> None:
        self.process, self._since = process, now

    def failed(self, now: float) -> float:
        """Seconds until it is to be started again; they double while it keeps dying."""
        if self._since is not None and now - self._since >= STEADY:
            self._delay = FIRST_DELAY
        self._since = None
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        self.due = now + delay
        return delay

    def take_partial(self) -> bytes:
        line, self.partial = self.partial, b""
        return line


_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """In the new process: SIGTERM comes when the supervisor is gone, however it went."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without taking note of it: its id stays its own until somebody waits for it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    """To the process, which nobody has waited for yet, and to all that it started."""
    assert process is not None
    os.killpg(process.pid, number)


def _words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
