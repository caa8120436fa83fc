"""Whom an ACL lets in: told of all users at once, as the nodes judge each of them."""

from itertools import chain, combinations

import pytest

from console.admission import admission
from identity.core import acl as core
from identity.models import ACL, Group, User
from tests import factories

GROUPS = ("Everybody", "Anonymous", "Partners", "Gateways")


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)))


def judged_one_by_one(acl: ACL) -> set[str]:
    value = core.ACL(
        acl.name,
        frozenset(acl.allowed.values_list("name", flat=True)),
        frozenset(acl.denied.values_list("name", flat=True)),
    )
    inside = set()
    for user in User.objects.filter(enabled=True):
        fixed = {"Everybody", "Anonymous"} if user.name == "Default" else {"Everybody"}
        groups = fixed | set(user.groups.values_list("name", flat=True))
        if core.admits(value, groups, groups):
            inside.add(user.name)
    return inside


@pytest.mark.django_db
def test_all_at_once_are_judged_like_each() -> None:
    partners, gateways = factories.GroupFactory(name="Partners"), factories.GroupFactory(name="Gateways")
    factories.UserFactory(name="alice", groups=[partners])
    factories.UserFactory(name="both", groups=[partners, gateways])
    factories.UserFactory(name="gate", groups=[gateways])
    factories.UserFactory(name="none")
    factories.UserFactory(name="gone", groups=[partners], enabled=False)
    users = set(User.objects.filter(enabled=True).values_list("name", flat=True)) - {"Default"}
    for number, allowed in enumerate(subsets(GROUPS)):
        denied = subsets(tuple(name for name in GROUPS if name not in allowed))
        for other, names in enumerate(denied):
            acl = factories.ACLFactory(
                name=f"A{number}-{other}",
                allowed=Group.objects.filter(name__in=allowed),
                denied=Group.objects.filter(name__in=names),
            )
            found, inside = admission(acl), judged_one_by_one(acl)
            assert {user.name for user in found.users} == inside - {"Default"}, (allowed, names)
            assert (found.total, found.strangers) == (len(inside - {"Default"}), "Default" in inside)
            assert found.everybody is (inside >= users), (allowed, names)
