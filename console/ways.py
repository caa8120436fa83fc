"""The way that a request takes through the topology, or where it is stopped: asked of the decision, told in words.

Knows the drawing's keys and no rows but those of a certificate or user that was chosen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.translation import gettext

from console.topology import Lit, backend_key, backends_key, node_key, port_key, tunnel_key
from gateway.access import records
from gateway.access.answers import STRANGER, Asker, Shown
from gateway.access.places import Place, places
from gateway.core import paths
from gateway.core.decision import Outcome
from gateway.core.reasons import REASONS, GatewayReason, Reason
from gateway.core.snapshot import API, Service, SnapshotError
from gateway.world import FarEnd, Lane, Way, World
from identity.core.vault import VaultError
from identity.models import Certificate, User
from identity.models.users import DEFAULT

TOLD = 12  # ways that are told one by one
NO_PORTS: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose way, and where to. `path` "": all.

    `certificate`: what is shown, the user's where one is given; with a user alone his password, with neither nothing.
    """

    certificate: Certificate | None = None
    user: User | None = None
    port: str = ""
    path: str = ""

    @property
    def caller(self) -> str:
        if self.certificate is not None and self.user is not None:
            return gettext("{user} by certificate {certificate}").format(
                user=self.user.name, certificate=self.certificate.name
            )
        if self.certificate is not None:
            return self.certificate.subject or self.certificate.name
        if self.user is not None:
            return gettext("user {user}").format(user=self.user.name)
        return gettext("no credential")

    @property
    def shown(self) -> Shown:
        if self.certificate is not None:
            return Shown(self.certificate.certificate)
        return Shown(user=self.user.name) if self.user is not None and self.user.name != DEFAULT else STRANGER


@dataclass(frozen=True, slots=True)
class Told:
    """One way in words. `where`: node and port at which it is stopped; "" where it is carried out."""

    place: Place
    label: str
    user: str
    reason: str = ""
    words: str = ""
    where: str = ""
    invoke: str = ""


@dataclass(frozen=True, slots=True)
class Ways:
    """All that were asked for. `problem`: why there are none."""

    lit: Lit
    told: list[Told]
    count: int = 0
    reached: int = 0
    problem: str = ""

    @property
    def more(self) -> int:
        return self.count - len(self.told)


def ways(asked: Asked, now: float, down: Mapping[str, str] = NO_PORTS) -> Ways:
    """What comes of the caller at the path, at the port or at every one that is called.

    Args:
        now: seconds since 1970-01-01 UTC.
        down: registrations without a tunnel now, and the words for it: what would pass is stopped there.
    """
    try:
        known = records.in_force()
        world = records.knowing(known, {asked.certificate.sha256} if asked.certificate else set())
        return _Lighting(world, asked, now, down).all()
    except (VaultError, SnapshotError) as error:
        return Ways(Lit(), [], problem=str(error))


class _Lighting:
    def __init__(self, world: World, asked: Asked, now: float, down: Mapping[str, str]) -> None:
        self._world, self._asked, self._down = world, asked, down
        self._asker = Asker(world, now)
        self._reached: set[str] = set()
        self._failed: set[str] = set()
        self._stops: dict[str, str] = {}

    def all(self) -> Ways:
        found: list[tuple[Told, int]] = []
        for alike in self._places():
            found.append((self._way(alike[0], len(alike)), len(alike)))
        # What was reached is lit; only where nothing was, how far it came.
        carried = [each for each, _ in found if not each.reason]
        lit = Lit(
            frozenset(self._reached if carried else self._failed),
            {} if carried else self._stops,
            self._asked.caller,
        )
        told = sorted((each for each, _ in found), key=lambda each: (bool(each.reason), each.place))
        reached = sum(count for each, count in found if not each.reason)
        return Ways(lit, told[:TOLD], sum(count for _, count in found), reached)

    def _places(self) -> Iterable[list[Place]]:
        """Places that are decided alike, whoever calls; the first of them is asked for all."""
        asked = self._asked
        ports = [asked.port] if asked.port else sorted(self._world.entries)
        if asked.path:
            known = {(place.port, place.path): place for place in places(self._world)}
            return [[known.get((port, asked.path), Place(port, asked.path, "GET"))] for port in ports]
        return self._asker.grouped(place for place in places(self._world) if place.port in ports).values()

    def _way(self, place: Place, alike: int) -> Told:
        way = self._asker.walk(place, self._asked.shown)
        keys, stop, ends = self._trodden(way)
        course = self._asker.course(place)
        reason: Reason | None = way.reason
        words, where = "", ""
        if reason is not None:
            lane = way.lanes[-1]
            words = gettext(REASONS[reason].words)
            where = gettext("{node}, port {port}").format(node=lane.snapshot.node, port=lane.port.name)
        else:
            cut = next((end for end in ends if end in self._down), None)
            if cut is not None:
                reason, words = GatewayReason.NO_INTERNAL_CONNECTION, self._down[cut]
                where = gettext("tunnel {registration}").format(registration=cut)
                stop = tunnel_key(cut)
        if reason is None:
            self._reached |= keys
        else:
            self._failed |= keys
            self._stops.setdefault(stop, reason.value)
        user = next((lane.decision.identity.user for lane in reversed(way.lanes) if lane.decision.identity), "")
        label = course.label
        if alike > 1:
            label = gettext("{label} and {count} more alike").format(label=label, count=alike - 1)
        return Told(place, label, user, reason.value if reason else "", words, where, self._invoke(place))

    def _trodden(self, way: Way) -> tuple[set[str], str, list[str]]:
        """Keys of all boxes that the way touches, that of the last one, and the registrations that carry it."""
        keys: set[str] = set()
        carrying: list[str] = []
        stop = ""
        for number, lane in enumerate(way.lanes):
            keys.add(node_key(lane.snapshot.node))
            stop = node_key(lane.snapshot.node)
            if number == 0 or lane.port.registration_port:
                keys.add(port_key(lane.port.name))
                stop = port_key(lane.port.name)
            onward = _onward(lane)
            if onward is None:
                continue
            keys.add(port_key(onward[0]))
            end = self._far_end(way, number, onward)
            if end is not None:
                carrying.append(end.registration.name)
                keys.add(tunnel_key(end.registration.name))
            stop = tunnel_key(end.registration.name) if end is not None else port_key(onward[0])
        backend = _backend(way.lanes[-1]) if way.lanes else ""
        if backend and way.reason is None:
            keys.add(backend_key(backend))
            # Where a node has many, one box stands for all of them.
            keys.add(backends_key(way.lanes[-1].snapshot.node))
        return keys, stop, carrying

    def _far_end(self, way: Way, number: int, onward: tuple[str, str]) -> FarEnd | None:
        """None where the request does not go on to the node behind."""
        if number + 1 >= len(way.lanes):
            return None
        port, path = onward
        carrying = [end for end in self._world.far_ends(port) if end.registration.carries(path)]
        # One that stands, where several carry it.
        return min(carrying, key=lambda end: end.registration.name in self._down, default=None)

    def _invoke(self, place: Place) -> str:
        asked: dict[str, str] = {"port": place.port, "path": place.path, "method": place.method, "credential": "none"}
        if self._asked.certificate is not None:
            asked |= {"credential": "certificate", "certificate": str(self._asked.certificate.pk)}
        elif self._asked.user is not None and self._asked.user.name != DEFAULT:
            asked |= {"credential": "password", "username": self._asked.user.name}
        return f"{reverse('invoke')}?{urlencode(asked)}"


def _onward(lane: Lane) -> tuple[str, str] | None:
    """The registration port and the path by which the request leaves this node for the one behind."""
    decision = lane.decision
    if decision.outcome is Outcome.PASS:
        return lane.port.registration_port, decision.path
    if decision.outcome is Outcome.CALL and isinstance(decision.route, API):
        url = decision.route.endpoint.url
        if url.scheme == "reverse":
            return url.host, paths.rebase(decision.path, decision.route.path, url.base)
    return None


def _backend(lane: Lane) -> str:
    route = lane.decision.route
    url = route.backend if isinstance(route, Service) else route.endpoint.url if isinstance(route, API) else None
    return url.authority if url is not None and url.scheme != "reverse" else ""
