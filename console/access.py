"""Answers about access as pages show them: what a row of the database reaches, or who reaches it.

Knows rows and words; the answers are `gateway.access`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce, wraps
from typing import Any

from django.db.models import Count, Model, Value
from django.utils.translation import gettext

from console.templatetags.console import reason_words
from gateway.access import records
from gateway.access.answers import STRANGER, AtPort, Identified, Shown, Who, examples, identify, parsed, reach, who
from gateway.access.changes import Outlook
from gateway.access.crowd import PASSWORD, Credential, Crowd
from gateway.core.snapshot import SnapshotError
from gateway.models import API, Service
from gateway.topology.entries import KIND_OF
from identity.core.vault import VaultError
from identity.models import Certificate, User
from identity.models.users import DEFAULT

# Kinds whose change may let somebody in or keep somebody out.
TOUCHING = frozenset({"users", "groups", "acls", "truststores", "certificates", "mapping_rules", "services", "ports",
                      "registrations", "endpoints", "apis"})  # fmt: skip
SHOWN = 10  # places at one port that are named
# Where there is no more than this, an answer is part of its page; where there is more, it is asked for with a click.
FEW_PLACES, FEW_USERS = 100, 500


@dataclass(frozen=True, slots=True)
class WouldChange:
    """What would change, for the page. `again`: fields to be filled in once more before it is saved."""

    outlook: Outlook
    again: list[str]


@dataclass(frozen=True, slots=True)
class Port:
    """One port's part of an answer: the first places that are reached, and the refusals in words."""

    name: str
    count: int
    places: list[Any]
    refused: list[tuple[str, int]]

    @property
    def more(self) -> int:
        return self.count - len(self.places)


@dataclass(frozen=True, slots=True)
class Reach:
    """What is reached by some credentials, in words; by others it may be something else."""

    by: str
    ports: list[Port]


@dataclass(frozen=True, slots=True)
class Answer:
    """`problem`: why there is none."""

    reaches: list[Reach] | None = None
    meanings: list[Identified] | None = None
    who: list[Who] | None = None
    problem: str = ""


def _answering(function: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
    """A page is shown, whatever is wrong with what is stored elsewhere."""

    @wraps(function)
    def answered(row: Any) -> Answer:
        try:
            return function(row)
        except (VaultError, SnapshotError) as error:
            return Answer(problem=str(error))

    return answered


@_answering
def of_certificate(row: Certificate) -> Answer:
    """What whoever proves it reaches, and whom it means where."""
    world, now = records.knowing(records.in_force(), {row.sha256}), time.time()
    shown = Shown(row.certificate)
    return Answer(reaches=[Reach("", _ports(reach(world, shown, now)))], meanings=identify(world, shown, now))


@_answering
def of_user(row: User) -> Answer:
    """What the user reaches, by each credential that he has; credentials that reach the same stand together."""
    now = time.time()
    world, held = records.in_force_with_holdings(datetime.fromtimestamp(now, UTC))
    if row.name == DEFAULT:
        return Answer(reaches=[Reach("", _ports(reach(world, STRANGER, now)))])
    users = {name: user for name, user in world.users.items() if name == row.name}
    crowd = Crowd([users], [{row.name: held.get(row.name, {})}])
    wanted = examples(crowd, 0, [crowd.everybody]) if users else set()
    knowing = records.knowing(world, wanted)
    certificates = parsed(wanted, crowd, knowing)
    found: list[tuple[list[Credential], list[AtPort]]] = []
    for credential in crowd.credentials(0, row.name):
        example = "" if credential == PASSWORD else crowd.held(0, row.name)[credential].example
        shown = Shown(certificates[example]) if example else Shown(user=row.name)
        answer = reach(knowing, shown, now)
        same = next((each for each in found if each[1] == answer), None)
        if same is None:
            found.append(([credential], answer))
        else:
            same[0].append(credential)
    return Answer(reaches=[Reach(_by(credentials), _ports(answer)) for credentials, answer in found])


@_answering
def of_route(row: Service | API) -> Answer:
    """Who reaches a service or an API, wherever a request can come from."""
    now = time.time()
    world, held = records.in_force_with_holdings(datetime.fromtimestamp(now, UTC))
    kind = KIND_OF[type(row)]
    snapshot = world.snapshots.get(row.node.name)
    route = getattr(snapshot, kind, {}).get(row.name) if snapshot else None
    return Answer(who=who(world, held, route, now) if route is not None else [])


def _ports(found: Iterable[AtPort]) -> list[Port]:
    return [
        Port(
            each.port,
            len(each.reached),
            each.reached[:SHOWN],
            [(reason_words(reason), count) for reason, count in each.refused.most_common()],
        )
        for each in found
    ]


def _by(credentials: list[Credential]) -> str:
    return reduce(
        lambda told, each: gettext("{credential} and by {other}").format(credential=told, other=each),
        map(str, credentials),
    )


def is_quick() -> bool:
    """Whether an answer takes no longer than the page that it stands on."""
    counted = Service.objects.order_by().annotate(one=Value(1)).values("one").annotate(number=Count("pk"))
    counts = counted.union(
        API.objects.order_by().annotate(one=Value(1)).values("one").annotate(number=Count("pk")),
        User.objects.order_by().annotate(one=Value(2)).values("one").annotate(number=Count("pk")),
        all=True,
    )
    found = {FEW_PLACES: 0, FEW_USERS: 0}
    for each in counts:
        found[FEW_PLACES if each["one"] == 1 else FEW_USERS] += each["number"]
    return all(number <= few for few, number in found.items())


def answers_about(row: Model) -> bool:
    """Whether there is an answer that belongs on the page of a row."""
    return isinstance(row, Certificate | User | Service | API)


def access_of(row: Model) -> Answer | None:
    """The answer that belongs on the page of a row; None where there is none of its kind."""
    match row:
        case Certificate():
            return of_certificate(row)
        case User():
            return of_user(row)
        case Service() | API():
            return of_route(row)
    return None
