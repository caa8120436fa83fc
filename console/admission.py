"""Who an ACL lets in, in words and by name: the question that a list of groups leaves to the reader."""

from dataclasses import dataclass

from django.db import models
from django.utils.translation import gettext, ngettext

from identity.core import acl as core
from identity.models import ACL, Group, User
from identity.models.groups import ANONYMOUS, EVERYBODY
from identity.models.users import DEFAULT

SHOWN = 24  # users that are named


@dataclass(frozen=True, slots=True)
class Admission:
    """`users`: the first of those who are let in, enabled ones; `total`: how many they are.

    `everybody`: whoever has proved to be some user; `strangers`: callers without a credential too.
    """

    words: str
    users: list[User]
    total: int
    everybody: bool
    strangers: bool

    @property
    def more(self) -> int:
        return self.total - len(self.users)


def admission(acl: ACL) -> Admission:
    """Judged user by user, with the function that the nodes judge by."""
    allowed, denied = _names(acl.allowed), _names(acl.denied)
    value = core.ACL(acl.name, allowed, denied)
    users = _groups_of_users()
    inside = [name for name, groups in users.items() if core.admits(value, groups, groups)]
    strangers = DEFAULT in inside
    known = sorted(name for name in inside if name != DEFAULT)
    everybody = bool(known) and len(known) == len(users.keys() - {DEFAULT})
    shown = list(User.objects.filter(name__in=known[:SHOWN]))
    return Admission(_words(len(known), everybody, strangers), shown, len(known), everybody, strangers)


def _groups_of_users() -> dict[str, frozenset[str]]:
    """Of each that is enabled, by name: no rows are made, for there may be 10,000."""
    enabled = User.objects.filter(enabled=True)
    groups: dict[str, set[str]] = {name: {EVERYBODY} for name in enabled.values_list("name", flat=True)}
    for user, group in User.groups.through.objects.filter(user__enabled=True).values_list("user__name", "group__name"):
        groups[user].add(group)
    if DEFAULT in groups:
        groups[DEFAULT].add(ANONYMOUS)
    return {name: frozenset(found) for name, found in groups.items()}


def _names(groups: "models.Manager[Group]") -> frozenset[str]:
    return frozenset(groups.values_list("name", flat=True))


def _words(known: int, everybody: bool, strangers: bool) -> str:
    if not known:
        if strangers:
            return gettext("It lets in callers without any credential, and no user.")
        return gettext("It lets nobody in.")
    if everybody and strangers:
        return gettext("It lets in every user, and callers without any credential.")
    if everybody:
        return gettext("It lets in every user, and nobody without a credential.")
    if strangers:
        return ngettext(
            "It lets in {count} user, and callers without any credential.",
            "It lets in {count} users, and callers without any credential.",
            known,
        ).format(count=known)
    return ngettext(
        "It lets in {count} user, and nobody without a credential.",
        "It lets in {count} users, and nobody without a credential.",
        known,
    ).format(count=known)
