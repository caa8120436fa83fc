"""What was worked out once and holds as long as its inputs do."""

from typing import Any


class Memo:
    """A bounded dictionary: what was looked at lately stays, what was not goes, in two generations.

    Cheaper on a hit than a list of uses, and a flood of things that never come again cannot push out for
    long what comes again and again.
    """

    __slots__ = ("_limit", "_old", "_young")

    def __init__(self, limit: int) -> None:
        """`limit`: entries of one generation; at most twice as many are kept."""
        self._limit = limit
        self._young: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        """None where nothing is remembered."""
        value = self._young.get(key)
        if value is None and self._old:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: Any, value: Any) -> None:
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
