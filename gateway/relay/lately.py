"""How often each reason refused in the last hour, and in the hour before.

Sampled from the counts since the start, so that a request pays nothing for it. Knows no clock: time comes in.
"""

from collections import Counter, deque
from collections.abc import Mapping

HOUR = 3600.0  # seconds
EVERY = 300.0  # seconds between two samples, and so how exact an hour is
_KEPT = int(2 * HOUR / EVERY) + 2


class Lately:
    """`now` is any clock's seconds, the same one for all calls; `counts` only ever grow."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Counter[str]]] = deque(maxlen=_KEPT)

    def is_due(self, now: float) -> bool:
        return not self._samples or now - self._samples[-1][0] >= EVERY

    def sample(self, now: float, counts: Counter[str]) -> None:
        self._samples.append((now, counts.copy()))

    def told(self, now: float, counts: Counter[str]) -> dict[str, list[int]]:
        """Reason → [in the last hour, in the hour before], of those that refused in either."""
        hour, two = self._at(now - HOUR), self._at(now - 2 * HOUR)
        found = {reason: [count - hour[reason], hour[reason] - two[reason]] for reason, count in counts.items()}
        return {reason: both for reason, both in found.items() if any(both)}

    def _at(self, moment: float) -> Mapping[str, int]:
        """The counts as they were then; before the first sample there were none."""
        return next((counts for at, counts in reversed(self._samples) if at <= moment), Counter())
