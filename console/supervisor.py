"""Runs a few child processes: starts them, restarts one that died, stops them all. Knows nothing of what they do."""

import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

FIRST_DELAY, LAST_DELAY = 0.5, 10.0  # seconds before a dead child is started again; doubles
STEADY = 10.0  # seconds of life after which a child counts as well
GRACE = 15.0  # seconds between asking and killing


@dataclass(slots=True)
class Child:
    """`name`: what its lines begin with. `command`: what is run."""

    name: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None
    began: float = 0.0
    delay: float = FIRST_DELAY
    start_at: float = 0.0
    rest: bytes = field(default=b"", repr=False)


class Supervisor:
    """`run` returns once a signal has stopped everything."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        while not self._stopping:
            self._reap()
            now = time.monotonic()
            for child in self.children:
                if child.process is None and child.start_at <= now:
                    self._start(child)
            due = min((c.start_at - now for c in self.children if c.process is None), default=None)
            self._forward(max(0.0, due) if due is not None else None)
        self._stop()

    def _asked_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self, child: Child) -> None:
        # A session of its own: Ctrl-C reaches us alone, and we stop the children in order.
        child.process = subprocess.Popen(  # noqa: S603
            child.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        child.began = time.monotonic()
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _forward(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                os.read(self._wake_read, 4096)
            else:
                self._lines(key.data)

    def _lines(self, child: Child) -> bool:
        """Print what a child has written, a line at a time; False at its end."""
        assert child.process is not None and child.process.stdout is not None
        try:
            data = os.read(child.process.stdout.fileno(), 65536)
        except BlockingIOError:
            return True
        *lines, child.rest = (child.rest + data).split(b"\n")
        if not data and child.rest:
            lines, child.rest = [*lines, child.rest], b""
        for line in lines:
            print(f"{child.name:>8} | {line.decode(errors='replace')}", flush=True)
        if not data:
            self._selector.unregister(child.process.stdout)
            child.process.stdout.close()
        return bool(data)

    def _reap(self) -> None:
        for child in self.children:
            process = child.process
            if process is None or process.poll() is None:
                continue
            while process.stdout is not None and not process.stdout.closed and self._lines(child):
                pass
            child.process = None
            lived = time.monotonic() - child.began
            child.delay = FIRST_DELAY if lived > STEADY else min(child.delay * 2, LAST_DELAY)
            child.start_at = time.monotonic() + child.delay
            say(f"{child.name} ended with status {process.returncode}; it is started again in {child.delay:g} s")

    def _stop(self) -> None:
        """1. Ask all; 2. wait within the grace; 3. kill what is left."""
        running = [child for child in self.children if child.process is not None and child.process.poll() is None]
        for child in running:
            assert child.process is not None
            child.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + GRACE
        while any(c.process and c.process.poll() is None for c in running) and time.monotonic() < end:
            self._forward(0.1)
        for child in running:
            assert child.process is not None
            if child.process.poll() is None:
                say(f"{child.name} did not stop within {GRACE:g} s and is killed")
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()


def say(text: str) -> None:
    print(f"{'postern':>8} | {text}", flush=True)


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
