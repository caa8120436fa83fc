"""Refusals of the last hour by reason, with their trend, as the nodes count them. Knows no rows.

A node counts since it started, so that after a restart the hour before looks quieter than it was.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from console.attention import NodeState
from gateway.core.reasons import BY_CODE, REASONS


@dataclass(frozen=True, slots=True)
class RefusedLately:
    """`hour`: in the last hour; `before`: in the hour before that. `words`: what the reason means."""

    reason: str
    words: str
    hour: int
    before: int

    @property
    def trend(self) -> str:
        if self.hour == self.before:
            return "as many as in the hour before"
        if self.before == 0:
            return "new in this hour"
        return f"{'up' if self.hour > self.before else 'down'} from {self.before} in the hour before"


def refused_lately(states: Iterable[NodeState]) -> list[RefusedLately]:
    """The commonest reason first. A request that two nodes refused one after the other is told by both."""
    counts: dict[str, tuple[int, int]] = {}
    for state in states:
        for reason, (hour, before) in (state.told or {}).get("refused", {}).items():
            known = counts.get(reason, (0, 0))
            counts[reason] = known[0] + hour, known[1] + before
    found = [RefusedLately(code, _words(code), *each) for code, each in counts.items()]
    return sorted(found, key=lambda each: (-each.hour, -each.before, each.reason))


def _words(code: str) -> str:
    reason = BY_CODE.get(code)
    return REASONS[reason].words if reason is not None else ""
