"""Users by the thousand, told apart by nothing but what decisions about them hang on.

A set of users is the bits of one integer. `blocks` splits all users by membership in a few sets of groups and by what
is different about them otherwise; whoever is in one block is decided alike wherever nothing else about groups counts,
so one is asked for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from django.utils.translation import gettext

from gateway.core.snapshot import DEFAULT_USER, User


class Credential(NamedTuple):
    """How a user can prove who he is.

    `kind`: certificate (on file), rule (a certificate that a mapping rule matches) or password. `issuer`: of the
    certificates; of a rule that names its issuer, that authority's key.
    """

    kind: str
    issuer: str = ""

    def __str__(self) -> str:
        if self.kind == "certificate":
            return gettext("certificate of {issuer}").format(issuer=self.issuer)
        return gettext("certificate that a mapping rule means") if self.kind == "rule" else gettext("password")


PASSWORD = Credential("password")
# Every field that a user has or will have, but for those that are looked at one by one.
_REST = attrgetter(*(each.name for each in fields(User) if each.name not in ("name", "groups", "password_hash")))


@dataclass(frozen=True, slots=True)
class Held:
    """The certificates of one user by one issuer that log in now: how many, and one that stands for them (SHA-256).

    Of a rule there is none; `example` is then `stand_in(user)`.
    """

    count: int
    example: str


def stand_in(user: str) -> str:
    """In the place of the fingerprint of a certificate that nobody has seen; no fingerprint looks like it."""
    return f"rule:{user}"


# User → what he can log in with.
Holdings = Mapping[str, Mapping[Credential, Held]]


class Crowd:
    """The users of one or several states of the configuration, under the names that they have in the last.

    Args:
        users: for each state, name → user.
        holdings: for each state, the certificates of each.
        renamed: name in the last state → name in the earlier ones, where it differs.
    """

    def __init__(
        self,
        users: Sequence[Mapping[str, User]],
        holdings: Sequence[Holdings],
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self._users, self._holdings, self._renamed = users, holdings, dict(renamed or {})
        former = set(self._renamed.values())
        last = len(users) - 1
        known = {name for state, found in enumerate(users) for name in found if state == last or name not in former}
        self.names = sorted(known - {DEFAULT_USER})
        self.everybody = (1 << len(self.names)) - 1
        self._alike: dict[object, int] = {}
        self._members: dict[tuple[int, str], int] = {}
        self._changed = 0
        for number, name in enumerate(self.names):
            self._sort_in(number, name)

    def _sort_in(self, number: int, name: str) -> None:
        bit = 1 << number
        states = [self.user(state, name) for state in range(len(self._users))]
        ways = [frozenset(self.credentials(state, name)) for state in range(len(states))]
        for state, user in enumerate(states):
            for group in user.groups if user else ():
                self._members[state, group] = self._members.get((state, group), 0) | bit
        rest = [_REST(user) if user else None for user in states]
        key = (*rest, *ways)
        self._alike[key] = self._alike.get(key, 0) | bit
        if all(user is states[0] for user in states):  # as most are, and there may be 10,000
            return
        counts = [(user.groups, each) if user else None for user, each in zip(states, rest, strict=True)]
        if any(each != counts[0] for each in counts) or any((PASSWORD in way) != (PASSWORD in ways[0]) for way in ways):
            self._changed |= bit

    @property
    def changed(self) -> int:
        """Those who are not in every state the same; what certificates they hold is left out of this."""
        return self._changed

    def name(self, state: int, name: str) -> str:
        """What the user is called in that state."""
        return name if state == len(self._users) - 1 else self._renamed.get(name, name)

    def user(self, state: int, name: str) -> User | None:
        return self._users[state].get(self.name(state, name))

    def held(self, state: int, name: str) -> Mapping[Credential, Held]:
        return self._holdings[state].get(self.name(state, name), {})

    def credentials(self, state: int, name: str) -> list[Credential]:
        """What the user can log in with."""
        user = self.user(state, name)
        if user is None:
            return []
        return [*([PASSWORD] if user.password_hash else []), *self.held(state, name)]

    def blocks(self, memberships: Iterable[frozenset[str]], within: int) -> list[int]:
        """`within`, split so that of whoever is together all or none are in some group of each of these sets.

        They differ in nothing else but groups.
        """
        found = [block for alike in self._alike.values() if (block := alike & within)]
        masks = {
            mask
            for groups in memberships
            for state in range(len(self._users))
            if (mask := self._members_of(state, groups) & within)
        }
        for mask in masks:
            found = [part for block in found for part in (block & mask, block & ~mask) if part]
        return found

    def _members_of(self, state: int, groups: frozenset[str]) -> int:
        return reduce(int.__or__, (self._members.get((state, group), 0) for group in groups), 0)

    def first(self, block: int) -> str:
        """The one who is asked for all."""
        return self.names[(block & -block).bit_length() - 1]

    def some(self, block: int, count: int) -> list[str]:
        return list(islice(self._bits(block), count))

    def _bits(self, block: int) -> Iterable[str]:
        while block:
            lowest = block & -block
            yield self.names[lowest.bit_length() - 1]
            block ^= lowest

    def issuers_of_rules(self) -> dict[str, str]:
        """What stands in for the certificates that a rule matches → the issuer that the rule names."""
        return {
            held.example: credential.issuer
            for holdings in self._holdings
            for found in holdings.values()
            for credential, held in found.items()
            if credential.kind == "rule"
        }
