"""What changes for whom if an edit is saved: it is made, looked at, and taken back, or sketched and never made.

Both states are asked with the decision itself. Callers who are decided alike are asked once: users in blocks
(`crowd`), places in groups (`places`); certificates that the edit touches, or that only a rule gives a user, each.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from typing import Any, NamedTuple

from django.db.models import Model

from gateway.access import records
from gateway.access.answers import NAMED, STRANGER, Asker, Shown, outcomes_of
from gateway.access.crowd import PASSWORD, Credential
from gateway.access.places import Place
from gateway.access.records import OnFile
from gateway.access.states import Made, Sketched, States
from gateway.audit import change_set
from gateway.core.reasons import Reason
from gateway.sketch import sketch
from identity.core.certificates import Certificate as Parsed

FOLDED = 6  # effects of one kind at one port; more are told as one
CLOSED = 24  # kinds of places that open or close for everybody; of more, nobody is named


@dataclass(frozen=True, slots=True)
class Callers:
    """Who is meant: `kind` is user, certificate, stranger or anybody; how many, and the first of them by name."""

    kind: str
    count: int
    names: tuple[str, ...]

    @property
    def more(self) -> int:
        return self.count - len(self.names)


@dataclass(frozen=True, slots=True)
class Effect:
    """Some callers gain or lose some places at one port.

    Attributes:
        credentials: by which of them; none for certificates and strangers, who have one way only.
        reason: why they are refused where they are.
        labels: the first services and APIs; `places`: how many there are.
        partly: each of the callers some of these, and not all alike.
    """

    gained: bool
    port: str
    callers: Callers
    credentials: tuple[Credential, ...]
    reason: Reason | str | None
    labels: tuple[str, ...]
    places: int
    partly: bool = False

    @property
    def more(self) -> int:
        return self.places - len(self.labels)


@dataclass(frozen=True, slots=True)
class RunsAs:
    """Certificates that mean another user than before, on one way in: a user's name, or the reason why nobody."""

    callers: Callers
    port: str
    before: Reason | str | None
    after: Reason | str | None


@dataclass(slots=True)
class Outlook:
    """What would change. `unexamined`: certificates that a rule may mean and that were too many to ask."""

    effects: list[Effect] = field(default_factory=list)
    identities: list[RunsAs] = field(default_factory=list)
    unexamined: int = 0

    @property
    def nothing(self) -> bool:
        return not self.effects and not self.identities and not self.unexamined


def outlook(change: Callable[[], object], actor: str) -> Outlook:
    """What would change for whom if `change` were made; it is taken back.

    Raises:
        Whatever `change` raises, and Inconsistent: then it cannot be made at all.
    """
    now = time.time()
    before, held = records.in_force_with_holdings(datetime.fromtimestamp(now, UTC))
    with change_set(actor, "looked at, and taken back", dry_run=True) as recorder:
        change()
        states = Made(before, held, recorder, now)
    states.recall()
    return _Comparison(states, now).outlook()


def outlook_of(model: type[Model], pk: Any, act: Callable[[Any], object]) -> Outlook:
    """What would change for whom if `act` were done to one row, in what can be sketched of it; nothing is written.

    Raises:
        ValidationError: it would be refused.
        DoesNotExist: there is no such row.
    """
    while True:
        now = time.time()
        before, held = records.in_force_with_holdings(datetime.fromtimestamp(now, UTC))
        drawn = sketch(model, pk, act)
        after = records.sketched(before, drawn)
        states = Sketched(before, after, held, drawn, now) if after is not None else None
        if states is not None and records.is_in_force(before):  # else rows of two revisions may be in it
            return _Comparison(states, now).outlook()


class _Turn(NamedTuple):
    """What comes of a place for some callers: in or out, by which credentials, and why out."""

    gained: bool
    port: str
    kind: str
    credentials: tuple[Credential, ...]
    reason: Reason | str | None


class _Meant(NamedTuple):
    """Whom a certificate means on one way: the user on each node, and why it ends where it does."""

    users: tuple[str | None, ...]
    reason: Reason | str | None

    @property
    def first(self) -> Reason | str | None:
        """A user's name, or the reason why the certificate means nobody."""
        return next((user for user in self.users if user is not None), self.reason)


class _Comparison:
    def __init__(self, states: States, now: float) -> None:
        self._states, self._crowd = states, states.crowd
        self._before, self._after = Asker(states.before, now), Asker(states.after, now)
        # Places → who: a block of users, or the names of certificates.
        self._users: dict[_Turn, dict[Place, int]] = {}
        self._others: dict[_Turn, dict[Place, set[str]]] = {}

    def outlook(self) -> Outlook:
        identities = list(self._identities())
        turned = [alike[0] for alike, _, _ in self._states.plan.groups if self._turned(alike[0])]
        for alike, blocks, changed in self._states.plan.groups:
            if len(turned) > CLOSED and self._turned(alike[0]):
                self._note_for_anybody(alike)
                continue
            for block in blocks:
                self._compare_users(alike, block)
            if changed:
                self._compare(alike, "stranger", {""}, STRANGER)
        effects = sorted([*self._effects_on_users(), *self._effects_on_others()], key=_weight)
        return Outlook(effects, identities, self._states.unexamined)

    def _turned(self, place: Place) -> bool:
        """Whether it came to the question who calls in one state, and in the other does not."""
        return self._before.course(place).open != self._after.course(place).open

    def _note_for_anybody(self, alike: list[Place]) -> None:
        gained = self._after.course(alike[0]).open
        reason = self._reason(self._before if gained else self._after, alike[0], STRANGER)
        found = self._others.setdefault(_Turn(gained, alike[0].port, "anybody", (), reason), {})
        for each in alike:
            found[each] = {""}

    # --- users ---

    def _compare_users(self, alike: list[Place], block: int) -> None:
        name, place, known = self._crowd.first(block), alike[0], self._states.examples
        old = self._outcomes(self._before, 0, name, place, known)
        new = self._outcomes(self._after, 1, name, place, known)
        # A certificate that is there in one state only is touched itself, and asked by itself.
        both = {each for each in old.keys() | new.keys() if each == PASSWORD or (each in old and each in new)}
        for gained, was, now in ((True, old, new), (False, new, old)):
            won = tuple(sorted(each for each in both if now.get(each, "") is None and was.get(each, "") is not None))
            if won:
                reason = next((each for each in map(was.get, won) if each), None)
                found = self._users.setdefault(_Turn(gained, place.port, "user", won, reason), {})
                for each in alike:
                    found[each] = found.get(each, 0) | block

    def _outcomes(
        self, asker: Asker, state: int, name: str, place: Place, known: Mapping[str, Parsed]
    ) -> dict[Credential, Reason | None]:
        if place.port not in asker.world.entries:
            return {}
        return outcomes_of(asker, self._crowd, state, name, place, known)

    def _effects_on_users(self) -> Iterable[Effect]:
        for turn, found in self._users.items():
            by_block: dict[int, list[Place]] = {}
            for place, block in found.items():
                by_block.setdefault(block, []).append(place)
            partly = len(by_block) > FOLDED
            if partly:
                by_block = {reduce(int.__or__, by_block): list(found)}
            for block, where in by_block.items():
                names = tuple(self._crowd.some(block, NAMED))
                callers = Callers("user", block.bit_count(), names)
                yield self._effect(turn, callers, where, partly)

    # --- certificates, and callers without one ---

    def _compare(self, alike: list[Place], kind: str, names: set[str], shown: Shown) -> None:
        old, new = self._reason(self._before, alike[0], shown), self._reason(self._after, alike[0], shown)
        if (old is None) != (new is None):
            turn = _Turn(new is None, alike[0].port, kind, (), old if new is None else new)
            found = self._others.setdefault(turn, {})
            for each in alike:
                found.setdefault(each, set()).update(names)

    def _reason(self, asker: Asker, place: Place, shown: Shown) -> Reason | str | None:
        if place.port not in asker.world.entries:
            return "no port"
        return asker.reason(place, shown)

    def _effects_on_others(self) -> Iterable[Effect]:
        for turn, found in self._others.items():
            by_names: dict[tuple[str, ...], list[Place]] = {}
            for place, names in found.items():
                by_names.setdefault(tuple(sorted(names)), []).append(place)
            for everyone, where in by_names.items():
                first = everyone[:NAMED] if turn.kind == "certificate" else ()
                yield self._effect(turn, Callers(turn.kind, len(everyone), first), where)

    def _effect(self, turn: _Turn, callers: Callers, where: list[Place], partly: bool = False) -> Effect:
        asker = self._after if turn.gained else self._before
        labels = list(dict.fromkeys(asker.course(place).label for place in sorted(where)))
        shown = tuple(labels[:NAMED])
        return Effect(turn.gained, turn.port, callers, turn.credentials, turn.reason, shown, len(labels), partly)

    # --- whom certificates mean ---

    def _identities(self) -> Iterable[RunsAs]:
        """What touched certificates mean; and then what they reach, where that may differ.

        Those that mean the same on every way through ports, before and after, are decided alike: one is asked for all.
        """
        probes = self._probes()
        changes: dict[tuple[str, Reason | str | None, Reason | str | None], list[str]] = {}
        alike_in_all: dict[tuple[tuple[_Meant, _Meant], ...], list[OnFile]] = {}
        for single in self._states.singles.values():
            shown = Shown(single.value)
            meant = tuple(
                (self._meant(self._before, place, shown), self._meant(self._after, place, shown)) for place in probes
            )
            differs = False
            for place, (old, new) in zip(probes, meant, strict=True):
                differs |= old.users != new.users
                if old.first != new.first:
                    changes.setdefault((place.port, old.first, new.first), []).append(single.name)
            if differs:
                alike_in_all.setdefault(meant, []).append(single)
        for singles in alike_in_all.values():
            names = {single.name for single in singles}
            for alike, _, _ in self._states.plan.groups:
                self._compare(alike, "certificate", names, Shown(singles[0].value))
        for (port, old, new), names in changes.items():
            callers = Callers("certificate", len(set(names)), tuple(sorted(set(names))[:NAMED]))
            yield RunsAs(callers, port, old, new)

    def _probes(self) -> list[Place]:
        """One place for each way: whom a certificate means does not hang on the rest of a path."""
        found: dict[tuple[object, ...], Place] = {}
        for alike, _, _ in self._states.plan.groups:
            course = self._after.course(alike[0])
            if course.open:
                found.setdefault(course.way, alike[0])
        return list(found.values())

    def _meant(self, asker: Asker, place: Place, shown: Shown) -> "_Meant":
        if place.port not in asker.world.entries:
            return _Meant((), "no port")
        way = asker.walk(place, shown)
        users = tuple(lane.decision.identity.user if lane.decision.identity else None for lane in way.lanes)
        return _Meant(users, way.reason)


def _weight(effect: Effect) -> tuple[object, ...]:
    """Losses first, then what is about most."""
    return effect.gained, -effect.callers.count, -effect.places, effect.port, effect.labels
