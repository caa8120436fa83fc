"""Groups and an ACL → verdict, and the entry that gave it."""

from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ACL:
    name: str
    allowed: frozenset[str]
    denied: frozenset[str]


def admits(acl: ACL, groups: Set[str], denied_by: Set[str]) -> bool:
    """Denied groups beat allowed ones; a group in neither is denied.

    Args:
        groups: that may allow.
        denied_by: that may deny: all groups of the user, where a channel lets only some of them allow.
    """
    return not denied_by & acl.denied and bool(groups & acl.allowed)
