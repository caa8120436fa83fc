"""Limits of a port, with their defaults and their units."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


class LimitError(ValueError):
    """`field` names the limit, the message says what is accepted."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for what ends in `_timeout`, bytes for what ends in `_bytes`, else a count.

    0 means no limit where it is the default: `body_bytes`, and `total_timeout`, from a request's head to its
    answer's end.
    """

    header_bytes: int = 64 * 1024
    header_fields: int = 128
    target_bytes: int = 8 * 1024
    body_bytes: int = 0
    handshake_timeout: float = 10.0
    header_timeout: float = 10.0
    body_timeout: float = 60.0
    total_timeout: float = 0.0
    idle_timeout: float = 75.0
    connections: int = 10_000
    connections_per_address: int = 1_000
    requests: int = 1_000
    drain_timeout: float = 10.0

    @classmethod
    def of(cls, overrides: Mapping[str, object]) -> "Limits":
        """Defaults with `overrides` in place.

        Raises:
            LimitError: an unknown name, or a value out of its range.
        """
        known = {field.name: field.type for field in fields(cls)}
        values: dict[str, int | float] = {}
        for name, value in overrides.items():
            if name not in known:
                raise LimitError(name, f"is no limit; {', '.join(known)} are")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise LimitError(name, "must be a number")
            lowest = 0 if name in ("body_bytes", "total_timeout") else 0.1 if name.endswith("_timeout") else 1
            if not lowest <= value <= 2**40:
                raise LimitError(name, f"must be at least {lowest}")
            values[name] = float(value) if name.endswith("_timeout") else int(value)
        return cls(**values)  # type: ignore[arg-type]

    def overrides(self) -> dict[str, int | float]:
        """What differs from the defaults."""
        default = asdict(Limits())
        return {name: value for name, value in asdict(self).items() if value != default[name]}
