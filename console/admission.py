"""Who an ACL lets in, in words and by name: the question that a list of groups leaves to the reader."""

from dataclasses import dataclass

from django.db import models
from django.db.models import Count, Q
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


def admission(acl: ACL, shown: int = SHOWN) -> Admission:
    """Judged user by user, with the function that the nodes judge by: those in a group that is mentioned, and all
    others at once, of whom there may be 10,000. `shown`: how many are named at most.
    """
    value = core.ACL(acl.name, _names(acl.allowed), _names(acl.denied))
    enabled = User.objects.filter(enabled=True)
    counted = enabled.aggregate(all=Count("pk"), default=Count("pk", filter=Q(name=DEFAULT)))
    strangers = bool(counted["default"]) and _admits(value, {EVERYBODY, ANONYMOUS})
    among = counted["all"] - counted["default"]
    members = _members(value.allowed | value.denied)
    inside = {name for name, groups in members.items() if _admits(value, groups)}
    if _admits(value, {EVERYBODY}):
        outside = members.keys() - inside
        total = among - len(outside)
        first = [name for name in enabled.exclude(name=DEFAULT).values_list("name", flat=True) if name not in outside]
    else:
        total, first = len(inside), sorted(inside)
    everybody = 0 < total == among
    named = list(User.objects.filter(name__in=first[:shown]))
    return Admission(_words(total, everybody, strangers), named, total, everybody, strangers)


def _admits(acl: core.ACL, groups: set[str]) -> bool:
    return core.admits(acl, groups, groups)


def _members(groups: frozenset[str]) -> dict[str, set[str]]:
    """Users who are in some of the groups and enabled, each with which of them, and the one that everybody is in."""
    rows = User.groups.through.objects.filter(user__enabled=True, group__name__in=groups).exclude(user__name=DEFAULT)
    found: dict[str, set[str]] = {}
    for user, group in rows.values_list("user__name", "group__name"):
        found.setdefault(user, {EVERYBODY}).add(group)
    return found


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
