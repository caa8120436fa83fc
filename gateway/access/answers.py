"""What can this caller reach, and who can reach this: each answer is asked of the decision itself."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.access import records
from gateway.access.crowd import PASSWORD, Credential, Crowd, Holdings
from gateway.access.places import Course, Place, address_for, course_of, places, right
from gateway.core.decision import Facts, Identity
from gateway.core.reasons import Reason
from gateway.core.snapshot import API, Service
from gateway.relay.builtin import basic
from gateway.world import Lane, Way, World
from identity.core.acl import admits
from identity.core.assertions import Proof
from identity.core.certificates import Certificate
from identity.core.nearness import Trial, near
from identity.core.trace import words

NAMED = 8  # users, places that are named; the others are counted


@dataclass(frozen=True, slots=True)
class Shown:
    """What a caller proves: a certificate with what it sends along, or a name whose password counts as right."""

    certificate: Certificate | None = None
    intermediates: tuple[Certificate, ...] = ()
    user: str = ""

    def facts(self, world: World, place: Place) -> Facts:
        return Facts(
            world.entries[place.port][1],
            address_for(world, place),
            place.method,
            place.path,
            authorization=basic(self.user, "").decode() if self.user else None,
            certificate=self.certificate,
            intermediates=self.intermediates,
            proof=Proof.TLS if self.certificate else None,
        )


STRANGER = Shown()  # comes without any credential
# What a node looks at before it asks who calls.
_OF_NOBODY = frozenset({"address", "host", "path", "port access"})


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who somebody is, along one way. `identities`: for each of the routes; none where he is nobody.

    `outcomes`: by which of the routes' ACLs let him in, and by what comes of the call that is made for him.
    """

    identities: tuple[Identity, ...]
    outcomes: dict[tuple[object, ...], Reason | None]

    @classmethod
    def of(cls, way: Way, course: Course) -> "_Caller | None":
        """What one walk tells of the caller; None where it does not come far enough, or ends in what is not his."""
        identities = tuple(lane.decision.identity for lane in way.lanes if lane.decision.identity is not None)
        if not identities and way.reason is not None:
            return cls((), {(): way.reason})
        last = identities[-len(course.routes) :]  # an edge that passes on may have asked who calls too
        somebody = len(last) == len(course.routes) and way.lanes[-1].decision.identity is not None
        if not somebody or any(identity.user != last[0].user for identity in last):
            return None
        found = cls(last, {})
        found.outcomes[found.likeness(course)] = way.reason
        return found

    def likeness(self, course: Course) -> tuple[object, ...]:
        """What tells places along one way apart, for him: nothing where he is nobody."""
        if not self.identities:
            return ()
        acls = (
            admits(route.acl, identity.groups, identity.denied_by)
            for route, identity in zip(course.routes, self.identities, strict=False)
        )
        return (course.beyond, *acls)


class Asker:
    """Sends callers to the places of one world, and remembers what is the same for many.

    Args:
        now: seconds since 1970-01-01 UTC.
    """

    def __init__(self, world: World, now: float) -> None:
        self.world, self.now = world, now
        self._courses: dict[Place, Course] = world.memory.at_time(now)
        self._callers: dict[tuple[object, ...], _Caller] = {}  # by the way, and by what is shown
        self._shut: dict[Place, Reason] = {}  # where the entry port refuses whoever comes

    def course(self, place: Place) -> Course:
        if place not in self._courses:
            self._courses[place] = course_of(self.world, place, self.now)
        return self._courses[place]

    def walk(self, place: Place, shown: Shown) -> Way:
        """Raises KeyError: there is no such port."""
        return self.world.walk(shown.facts(self.world, place), self.world.entries[place.port][0], self.now, right)

    def reason(self, place: Place, shown: Shown) -> Reason | None:
        """Why the caller is refused there; None where he is not. Raises KeyError: there is no such port.

        Along one way a caller is the same everywhere, or nobody everywhere. Where he is somebody, places at its end are
        told apart by whether their ACLs let him in, and one of each kind is asked. Where the entry port refuses before
        it asks who calls, one caller is asked for all.
        """
        if place in self._shut:
            return self._shut[place]
        course = self.course(place)
        if not course.open:
            return self._closed(place, shown)
        if shown.intermediates:
            return self.walk(place, shown).reason
        key = (*course.way, shown.certificate.sha256 if shown.certificate else "", shown.user)
        known = self._callers.get(key)
        if known is None:
            way = self.walk(place, shown)
            if (learned := _Caller.of(way, course)) is not None:
                self._callers[key] = learned
            return way.reason
        likeness = known.likeness(course)
        if likeness not in known.outcomes:
            known.outcomes[likeness] = self.walk(place, shown).reason
        return known.outcomes[likeness]

    def _closed(self, place: Place, shown: Shown) -> Reason | None:
        way = self.walk(place, shown)
        entered = way.lanes[0].decision
        if way.reason is not None and entered.reason is way.reason and entered.steps[-1].check in _OF_NOBODY:
            self._shut[place] = way.reason
        return way.reason

    def grouped(self, among: Iterable[Place]) -> dict[tuple[str, tuple[object, ...]], list[Place]]:
        """Places that are decided alike, whoever calls."""
        found: dict[tuple[str, tuple[object, ...]], list[Place]] = {}
        for place in dict.fromkeys(among):
            found.setdefault((place.port, self.course(place).key), []).append(place)
        return found


# --- what can this caller reach ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reached:
    """A place where the caller is admitted. `user`: whom the request runs as on the last node that decides."""

    place: Place
    label: str
    user: str


@dataclass(slots=True)
class AtPort:
    """What comes of a caller at one port. `refused`: reason → places; the commonest reason first."""

    port: str
    reached: list[Reached] = field(default_factory=list)
    refused: Counter[Reason] = field(default_factory=Counter)


def reach(world: World, shown: Shown, now: float) -> list[AtPort]:
    """Of each port that clients call: which places the caller reaches there, and why not the others."""
    asker = Asker(world, now)
    found = {port: AtPort(port) for port in sorted(world.entries)}
    for (port, _), alike in asker.grouped(places(world)).items():
        way = asker.walk(alike[0], shown)
        if way.reason is not None:
            found[port].refused[way.reason] += len(alike)
            continue
        user = _runs_as(way.lanes)
        found[port].reached += [Reached(place, asker.course(place).label, user) for place in alike]
    for each in found.values():
        each.reached.sort(key=lambda one: one.place)
    return list(found.values())


def _runs_as(lanes: list[Lane]) -> str:
    return next((lane.decision.identity.user for lane in reversed(lanes) if lane.decision.identity), "")


@dataclass(frozen=True, slots=True)
class Identified:
    """What a certificate means where it is mapped: `user`, or `reason` why nobody; the rules that are near it."""

    node: str
    port: str
    user: str
    reason: Reason | None
    words: str
    rules: tuple[Trial, ...]


def identify(world: World, shown: Shown, now: float) -> list[Identified]:
    """Whom a certificate runs as, at each port that maps it; rules with every condition, for what they miss by."""
    assert shown.certificate is not None
    asker, asked = Asker(world, now), set()
    found: dict[tuple[object, ...], Identified] = {}
    for place in places(world):
        course = asker.course(place)
        if not course.open or course.way in asked:
            continue
        asked.add(course.way)
        lane = asker.walk(place, shown).lanes[-1]
        decision = lane.decision
        user = decision.identity.user if decision.identity else ""
        mapped = [step for step in decision.steps if step.check in ("mapping", "certificate", "user")]
        if not mapped:
            continue
        reason = None if user else decision.reason
        step = mapped[-1]
        rules = tuple(near(lane.snapshot.mappings, shown.certificate, decision.chain, lane.port.name))
        answer = Identified(lane.snapshot.node, lane.port.name, user, reason, words(step.against or step.found), rules)
        found.setdefault((lane.port.name, user, reason), answer)
    return list(found.values())


# --- who can reach this -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Callers:
    """Users who are admitted alike: how many, the first of them, and what they log in with."""

    count: int
    names: tuple[str, ...]
    credentials: tuple[Credential, ...]

    @property
    def more(self) -> int:
        return self.count - len(self.names)


@dataclass(frozen=True, slots=True)
class Who:
    """Who is admitted at a place. `strangers`: callers without a credential too. `refused`: reason → users.

    `without`: users who have nothing to log in with.
    """

    place: Place
    label: str
    callers: tuple[Callers, ...]
    strangers: bool
    refused: tuple[tuple[Reason, int], ...]
    without: int

    @property
    def count(self) -> int:
        return sum(callers.count for callers in self.callers)


def who(world: World, held: Holdings, route: Service | API, now: float) -> list[Who]:
    """Who can reach a service or an API, at each place that leads there. `held`: as stored now."""
    asker = Asker(world, now)
    crowd = Crowd([world.users], [held])
    leading = [place for place in places(world) if route in asker.course(place).routes]
    groups = asker.grouped(leading)
    blocks = {key: crowd.blocks(asker.course(alike[0]).memberships, crowd.everybody) for key, alike in groups.items()}
    wanted = examples(crowd, 0, {block for found in blocks.values() for block in found})
    knowing = records.knowing(world, wanted)
    certificates = parsed(wanted, crowd, knowing)
    asker = Asker(knowing, now)
    found = []
    for key, alike in groups.items():
        answer = _at(asker, crowd, alike[0], blocks[key], certificates)
        found += [Who(place, asker.course(place).label, *answer) for place in alike]
    return sorted(found, key=lambda each: each.place)


def _at(
    asker: Asker, crowd: Crowd, place: Place, blocks: list[int], certificates: Mapping[str, Certificate]
) -> tuple[tuple[Callers, ...], bool, tuple[tuple[Reason, int], ...], int]:
    admitted: dict[tuple[Credential, ...], int] = {}
    refused: Counter[Reason] = Counter()
    without = 0
    for block in blocks:
        outcomes = outcomes_of(asker, crowd, 0, crowd.first(block), place, certificates)
        ways = tuple(sorted(credential for credential, reason in outcomes.items() if reason is None))
        if ways:
            admitted[ways] = admitted.get(ways, 0) | block
        elif outcomes:
            refused[next(reason for reason in outcomes.values() if reason is not None)] += block.bit_count()
        else:
            without += block.bit_count()
    callers = [
        Callers(block.bit_count(), tuple(crowd.some(block, NAMED)), ways) for ways, block in sorted(admitted.items())
    ]
    strangers = asker.reason(place, STRANGER) is None
    return tuple(callers), strangers, tuple(refused.most_common()), without


def outcomes_of(
    asker: Asker, crowd: Crowd, state: int, name: str, place: Place, certificates: Mapping[str, Certificate]
) -> dict[Credential, Reason | None]:
    """What comes of a user at a place, by each credential that he has."""
    found: dict[Credential, Reason | None] = {}
    for credential in crowd.credentials(state, name):
        if credential == PASSWORD:
            shown = Shown(user=crowd.name(state, name))
        else:
            example = crowd.held(state, name)[credential].example
            if example not in certificates:  # renewed or removed between two questions
                continue
            shown = Shown(certificates[example])
        found[credential] = asker.reason(place, shown)
    return found


def parsed(wanted: Iterable[str], crowd: Crowd, *worlds: World) -> dict[str, Certificate]:
    """The certificates that stand for others, as the worlds are asked with them."""
    wanted = list(wanted)
    found = {sha256: each.value for sha256, each in records.by_fingerprint(wanted).items()}
    return found | records.stand_ins(wanted, crowd.issuers_of_rules(), *worlds)


def examples(crowd: Crowd, state: int, blocks: Iterable[int]) -> set[str]:
    """Fingerprints of the certificates by which the first of each block logs in."""
    return {held.example for block in blocks for held in crowd.held(state, crowd.first(block)).values()}
