"""The table that measurements end in: what was found beside what is asked for."""

from dataclasses import dataclass

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Row:
    """`holds`: None where it could not be measured here; `found` says why then."""

    what: str
    asked: str
    found: str
    holds: bool | None


def at_least(what: str, bound: float, found: float, unit: str = TIMES, more: str = "") -> Row:
    return Row(what, f"≥ {bound:g} {unit}", f"{found:.2f} {unit}{more}", found >= bound)


def at_most(what: str, bound: float, found: float, unit: str, more: str = "") -> Row:
    return Row(what, f"≤ {bound:g} {unit}", f"{found:.3g} {unit}{more}", found <= bound)


def unmeasured(what: str, asked: str, why: str) -> Row:
    return Row(what, asked, why, None)


def rendered(rows: list[Row]) -> str:
    """In Markdown."""
    words = {True: "yes", False: "no", None: ""}
    lines = ["| | asked for | found | reached |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.asked} | {row.found} | {words[row.holds]} |" for row in rows]
    return "\n".join(lines) + "\n"
