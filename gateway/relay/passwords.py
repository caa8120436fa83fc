"""Passwords checked off the event loop, in a bounded pool; right ones remembered for a while, wrong ones counted."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gateway.core.decision import PasswordVerdict
from gateway.core.snapshot import User
from identity.core.passwords import verify_password

REMEMBER = 300.0  # seconds that a right password is remembered
FAILURES, WITHIN, REFUSE = 10, 300.0, 60.0  # so many wrong ones within so long refuse the pair for so long
MAX_WAITING = 64  # checks in the pool and before it; each takes a tenth of a second
_ENTRIES = 10_000


class PasswordChecker:
    """Keyed by user *and* address where it refuses, so that nobody can lock a user out from elsewhere."""

    def __init__(self, workers: int = 2) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="password")
        self._key = os.urandom(32)
        self._right: dict[bytes, float] = {}
        self._wrong: dict[tuple[str, str], tuple[int, float]] = {}
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, user: User, password: str, address: str) -> PasswordVerdict:
        """What can be told without hashing."""
        now = time.monotonic()
        count, since = self._wrong.get((user.name, address), (0, 0.0))
        if count >= FAILURES and now < since + REFUSE:
            return PasswordVerdict.THROTTLED
        if self._right.get(self._index(user, password), 0.0) > now:
            return PasswordVerdict.RIGHT
        return PasswordVerdict.UNKNOWN

    def check(self, user: User, password: str, address: str, done: Callable[[PasswordVerdict], None]) -> bool:
        """Hash, and call `done` with the verdict. False, and no call, when too many checks wait."""
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        task = asyncio.get_running_loop().create_task(self._check(user, password, address, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _check(self, user: User, password: str, address: str, done: Callable[[PasswordVerdict], None]) -> None:
        try:
            right = await asyncio.get_running_loop().run_in_executor(
                self._pool, verify_password, password, user.password_hash
            )
        finally:
            self._waiting -= 1
        now = time.monotonic()
        if right:
            if len(self._right) >= _ENTRIES:
                self._right = {k: until for k, until in self._right.items() if until > now}
            self._right[self._index(user, password)] = now + REMEMBER
            self._wrong.pop((user.name, address), None)
        else:
            self._count(user.name, address, now)
        done(PasswordVerdict.RIGHT if right else PasswordVerdict.WRONG)

    def _count(self, user: str, address: str, now: float) -> None:
        if len(self._wrong) >= _ENTRIES:
            self._wrong = {k: (n, t) for k, (n, t) in self._wrong.items() if now < t + WITHIN}
        count, since = self._wrong.get((user, address), (0, now))
        self._wrong[user, address] = (1, now) if now > since + WITHIN else (count + 1, now)

    def _index(self, user: User, password: str) -> bytes:
        """A stored hash that changes forgets what was remembered."""
        text = "\0".join((user.name, user.password_hash, password)).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
