"""What stands for a password, for who may not set it.

An entry has a slow hash in its place, which tells whether it is the same one. A password may be guessed, and whoever
has its hash tries guesses at home, where nobody counts them: so it is told to who may change the object. Others are
told that there is one, and whether it was another before. Keys cannot be guessed, and of users' passwords the hash that
is hashed once more has a salt that nobody is shown.
"""

from collections.abc import Callable
from typing import Any

from console.nouns import permission_of

Entry = dict[str, Any]
GUESSABLE = {"endpoints": "password"}  # kind → the field of its entries
STORED, ANOTHER = {"kept": "stored"}, {"kept": "another than before"}


def veiled(kind: str, entry: Entry, may: Callable[[str], bool]) -> Entry:
    """`may`: what somebody is allowed, by its permission."""
    field = GUESSABLE.get(kind, "")
    return entry if field not in entry or may(permission_of(kind)) else entry | {field: STORED}


def veiled_change(
    kind: str, before: Entry | None, after: Entry | None, may: Callable[[str], bool]
) -> tuple[Entry | None, Entry | None]:
    old = veiled(kind, before, may) if before is not None else None
    new = veiled(kind, after, may) if after is not None else None
    field = GUESSABLE.get(kind, "")
    if before and after and old and new and new is not after and before.get(field) not in (None, after[field]):
        new = new | {field: ANOTHER}
    return old, new
