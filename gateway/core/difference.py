"""What changed between two documents of one node, and the document that comes of it.

A difference names the revision that it stands on and what came, changed or went in each section, so that a
change costs what it changes, on the way and on the node, however much there is besides. It knows nothing of
what the entries mean.
"""

from typing import Any

FORMAT = 1
SECTIONS = (
    "ports", "services", "apis", "endpoints", "registrations", "users", "acls", "certificates", "mapping_rules",
    "truststores", "keystores",
)  # fmt: skip
_OWN = ("format", "stands_on", "revision", "put", "removed", "values")

Document = dict[str, Any]
Difference = dict[str, Any]


class DifferenceError(ValueError):
    """The difference is none, or stands on another document; the message says which."""


def difference(before: Document, after: Document) -> Difference:
    """What makes `after` of `before`. Both have every section."""
    put: dict[str, dict[str, Any]] = {}
    removed: dict[str, list[str]] = {}
    for section in SECTIONS:
        old, new = before[section], after[section]
        if old is new:
            continue
        known = old.get
        # Most entries are the very ones from before: what is not is compared.
        suspects = [name for name, entry in new.items() if known(name) is not entry]
        came = {name: new[name] for name in suspects if name not in old or old[name] != new[name]}
        if came:
            put[section] = came
        if len(old) + sum(name not in old for name in came) != len(new):
            removed[section] = [name for name in old if name not in new]
    values = {
        name: value
        for name, value in after.items()
        if name not in SECTIONS and name != "revision" and (name not in before or before[name] != value)
    }
    return {
        "format": FORMAT,
        "stands_on": before["revision"],
        "revision": after["revision"],
        "put": put,
        "removed": removed,
        "values": values,
    }


def patched(before: Document, change: Difference) -> Document:
    """`before` with the difference; what is unchanged is shared with it, and `before` stays as it was.

    Raises:
        DifferenceError
    """
    check(before, change)
    after: Document = before | change["values"]
    after["revision"] = change["revision"]
    for section in change["put"].keys() | change["removed"].keys():
        entries = dict(before[section])
        for name in change["removed"].get(section, ()):
            if entries.pop(name, None) is None:
                raise DifferenceError(f"{section}[{name}] is to go, and is not there")
        entries.update(change["put"].get(section, {}))
        after[section] = entries
    return after


def check(before: Document, change: Difference) -> None:
    """Raises DifferenceError where the difference is not one of this document."""
    if change.get("format") != FORMAT:
        raise DifferenceError(f"a difference of format {change.get('format')!r}; format {FORMAT} is read")
    if missing := [name for name in _OWN if name not in change]:
        raise DifferenceError(f"the difference lacks {', '.join(missing)}")
    if change["stands_on"] != before["revision"]:
        raise DifferenceError(
            f"the difference stands on revision {change['stands_on']}, and {before['revision']} is in force"
        )
    if unknown := (change["put"].keys() | change["removed"].keys()) - set(SECTIONS):
        raise DifferenceError(f"there is no section {', '.join(sorted(unknown))}")
    if fixed := change["values"].keys() & {*SECTIONS, "revision"}:
        raise DifferenceError(f"{', '.join(sorted(fixed))} is no single value")
