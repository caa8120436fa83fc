"""Where a request can be sent: an entry port and a path; and what its decision hangs on besides who calls.

Two places of one `key` are decided alike for every caller, so that one of them is asked for all. A law in the tests
holds this against asking each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from django.utils.translation import gettext

from gateway.core import paths
from gateway.core.addresses import parse_address
from gateway.core.decision import Decision, Facts, Outcome
from gateway.core.reasons import Reason
from gateway.core.snapshot import (
    ADMINISTRATORS,
    API,
    EVERYBODY,
    EndpointIdentity,
    Port,
    PortType,
    Registration,
    Service,
    Snapshot,
)
from gateway.world import World, routes_of

_ANY_METHOD = "GET"
_CANDIDATES = ("192.0.2.1", "2001:db8::1", "127.0.0.1", "10.0.0.1")  # documentation's first: nobody's denied network


class Place(NamedTuple):
    port: str
    path: str
    method: str


@dataclass(frozen=True, slots=True)
class Course:
    """How requests to a place go, as far as that does not depend on who calls.

    Attributes:
        key: all that the decisions of all nodes compare a caller with, by value.
        routes: what is found along the way: the API, then the service behind it.
        memberships: sets of groups. Whether a user is in one of a set makes a difference, and nothing else about his
            groups does.
        parts: the ports and registrations along the way, to see whether one changed.
        open: whether it comes to the question who calls, and is not refused before.
        beyond: what comes of the call that an API makes as its endpoint's own identity, whoever called.
    """

    key: tuple[object, ...]
    routes: tuple[Service | API, ...]
    memberships: frozenset[frozenset[str]]
    parts: tuple[Port | Registration, ...]
    open: bool
    beyond: Reason | None

    @property
    def way(self) -> tuple[object, ...]:
        """What it hangs on whom a caller's credential means, where the course is open: through which ports the way
        leads, and whether the edge asks it too, as it does for an API.
        """
        return (*(part.name for part in self.parts), *(type(route) for route in self.routes))

    @property
    def label(self) -> str:
        """`service orders`, or `API orders`, which is what a caller means."""
        return label_of(self.routes[0]) if self.routes else gettext("nothing")


def label_of(route: Service | API) -> str:
    if isinstance(route, API):
        return gettext("API {name}").format(name=route.name)
    return gettext("service {name}").format(name=route.name)


def places(world: World) -> Iterator[Place]:
    """Every place that leads somewhere: what stands at the port, what is passed through it, what lies behind an API."""
    for snapshot, port in world.entries.values():
        own = snapshot.api_routes if port.type is PortType.EXTERNAL else snapshot.all_routes
        for route in routes_of(snapshot, port):
            yield Place(port.name, route.path, _method(route))
            if isinstance(route, API):
                yield from _behind(world, port, route)
        if port.type is not PortType.EXTERNAL:
            continue
        for service in _services_behind(world, port.registration_port):
            if own.find(service.path) is None:
                yield Place(port.name, service.path, _method(service))


def _behind(world: World, port: Port, api: API) -> Iterator[Place]:
    """The services that lie below where an API's endpoint points."""
    url = api.endpoint.url
    if url.scheme != "reverse":
        return
    base = url.base or api.path
    for service in _services_behind(world, url.host):
        if service.path == base or not paths.covers(base, service.path):
            continue
        rest = service.path if base == "/" else service.path[len(base.rstrip("/")) :]
        yield Place(port.name, api.path.rstrip("/") + rest, _method(api, service))


def _services_behind(world: World, registration_port: str) -> Iterable[Service]:
    nodes = {end.snapshot.node: end.snapshot for end in world.far_ends(registration_port)}
    return (service for snapshot in nodes.values() for service in snapshot.services.values())


def _method(*routes: Service | API) -> str:
    """One that all of them take; where there is none, one of the first's, which the decision then refuses."""
    taken = [route.methods for route in routes if route.methods]
    common = reduce(frozenset.__and__, taken) if taken else frozenset()
    if not taken or _ANY_METHOD in common:
        return _ANY_METHOD
    return min(common or taken[0])


def course_of(world: World, place: Place, now: float) -> Course:
    """`now`: seconds since 1970-01-01 UTC."""
    return _Tracing(world, place, now).trace()


class _Tracing:
    """Follows a request through the nodes by the same finds and conditions as the decision."""

    def __init__(self, world: World, place: Place, now: float) -> None:
        self._world, self._place, self._now = world, place, now
        self._key: list[object] = []
        self._routes: list[Service | API] = []
        self._memberships: set[frozenset[str]] = set()
        self._parts: list[Port | Registration] = []
        self._open = True
        self._beyond: Reason | None = None

    def trace(self) -> Course:
        place = self._place
        if place.port in self._world.entries:
            snapshot, port = self._world.entries[place.port]
            onward: tuple[str, str] | None = self._at(snapshot, port, None, place.path)
            while onward is not None:
                registration_port, path = onward
                if not snapshot.carries(registration_port, path):
                    self._key.append("not on the channel")
                    self._open = False
                    break
                end = self._world.far_end(registration_port, path)
                if end is None:
                    self._key.append("no channel")
                    self._open = False
                    break
                snapshot = end.snapshot
                onward = self._at(snapshot, end.port, end.registration, path)
        else:
            self._key.append("no port")
        open_ = self._open and bool(self._routes)
        key, routes, parts = tuple(self._key), tuple(self._routes), tuple(self._parts)
        return Course(key, routes, frozenset(self._memberships), parts, open_, self._beyond)

    def _at(
        self, snapshot: Snapshot, port: Port, registration: Registration | None, path: str
    ) -> tuple[str, str] | None:
        """Note what one node compares with. Registration port and path where it goes on."""
        external = port.type is PortType.EXTERNAL
        route = (snapshot.api_routes if external else snapshot.all_routes).find(path)
        self._parts.append(port)
        carried = True
        if registration is not None:
            self._parts.append(registration)
            self._memberships.add((registration.groups or frozenset()) - {EVERYBODY})
            carried = registration.carries(path)
        taken = route is None or not route.methods or self._place.method in route.methods
        shown = port.service_access.admits(path, route.name if route else None)
        self._key.append((port.name, registration.name if registration else "", carried, shown, taken))
        self._open = self._open and carried and shown and taken
        if route is None:
            self._key.append("passed through" if external else "nothing there")
            return (port.registration_port, path) if external else None
        self._routes.append(route)
        self._key.append(route.acl)
        self._memberships |= {_counting(route.acl.allowed, registration), route.acl.denied}
        if not isinstance(route, API):
            return None
        url = route.endpoint.url
        self._key.append((url.scheme, url.host if url.scheme == "reverse" else "", route.endpoint.identity))
        if url.scheme != "reverse":
            return None
        onward = paths.rebase(path, route.path, url.base)
        if route.endpoint.identity is EndpointIdentity.CALLER:
            return url.host, onward
        # Beyond, the endpoint's own identity counts, whoever called: what comes of it is part of the place.
        self._beyond = self._called(route, port, path)
        self._key.append(self._beyond)
        if (end := self._world.far_end(url.host, onward)) is not None:
            found = end.snapshot.all_routes.find(onward)
            self._routes += [found] if found is not None else []
        return None

    def _called(self, api: API, port: Port, path: str) -> Reason | None:
        facts = Facts(port, address_for(self._world, self._place), self._place.method, path)
        admitted = Decision(Outcome.CALL, path=path, caller=facts.peer, route=api)
        edge = self._world.entries[self._place.port][0]
        return self._world.called(api, facts, admitted, edge, self._now, right, [])


def _counting(allowed: frozenset[str], registration: Registration | None) -> frozenset[str]:
    """Those of an ACL's groups that the channel, if it comes by one, lets count."""
    if registration is None:
        return allowed
    return allowed - {ADMINISTRATORS} if registration.groups is None else allowed & (registration.groups | {EVERYBODY})


def right(password: str, user: object) -> bool:
    """Answers about access take a password for right: the question is what follows from it."""
    return True


def address_for(world: World, place: Place) -> str:
    """An address that the entry port lets in, and the ports behind it too where there is one such."""
    known = world.memory.addresses
    if place.port not in known:
        known[place.port] = _address_at(world, place)
    return known[place.port]


def _address_at(world: World, place: Place) -> str:
    entry = world.entries[place.port][1]
    behind = {end.port.name: end.port for end in world.far_ends(entry.registration_port)}
    ports = [entry, *behind.values()]
    networks = [network for port in ports for network in port.ip_access.allow]
    candidates = [*_CANDIDATES, *(str(network[0]) for network in networks), *(str(network[-1]) for network in networks)]
    admitted = [each for each in candidates if entry.ip_access.admits(parse_address(each))]
    return next(
        (each for each in admitted if all(port.ip_access.admits(parse_address(each)) for port in ports)),
        admitted[0] if admitted else _CANDIDATES[0],
    )
