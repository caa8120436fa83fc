"""What a client takes for granted (RFC 9110, section 13): entity tags, and changes of nothing but what was read."""

import hashlib
import json
from typing import Any

from django.http import HttpRequest

from console.api.problems import Refused

BOTH = ("If-Match", "If-None-Match")


def tag_of(entry: dict[str, Any], *hidden: str) -> str:
    """Of what an entry says: the same entry has the same tag, whoever wrote it.

    `hidden`: what makes a difference to who changes it, and is not shown.
    """
    text = json.dumps([entry, *hidden] if hidden else entry, sort_keys=True, ensure_ascii=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def is_known(request: HttpRequest, tag: str) -> bool:
    """Whether the client has it as it is already: it is told that, and nothing more."""
    return _names(request.headers.get("If-None-Match", ""), tag, weakly=True)


def check(request: HttpRequest, tag: str) -> None:
    """`tag`: of what is there; "" where nothing is. Raises Refused."""
    wanted = request.headers.get("If-Match")
    if wanted is not None and not (tag and _names(wanted, tag)):
        was = "It has been changed since" if tag else "There is none"
        raise Refused(
            412, "changed_meanwhile", f"{was}; get it again, and repeat.", headers={"ETag": tag} if tag else {}
        )
    unwanted = request.headers.get("If-None-Match")
    if unwanted is not None and tag and _names(unwanted, tag, weakly=True):
        raise Refused(412, "is_there", "There is one already.", headers={"ETag": tag})


def _names(header: str, tag: str, *, weakly: bool = False) -> bool:
    """Whether a list of entity tags, or `*`, names this one. `weakly`: W/ makes no difference."""
    listed = [each.strip() for each in header.split(",")]
    if weakly:
        listed = [each.removeprefix("W/") for each in listed]
    return "*" in listed or tag in listed
