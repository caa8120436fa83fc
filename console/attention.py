"""What the overview tells: the state of every node, and what an operator has to see to first.

State is asked of the running nodes and shown, never decided by. A node that does not answer costs its timeout once,
for all are asked at the same time, and the page is made all the same.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from console.nodes import ask
from console.nouns import url_of
from console.words import Said
from gateway import rotation
from gateway.expiry import Ending, Endings, Kind, Wanted, recent_few
from gateway.models import Node, Port, PortType, Registration, Unconfirmed
from gateway.models.unconfirmed import State
from gateway.relay.control import ControlError
from identity.core.commands import command
from identity.models import Certificate, Usage
from identity.models.truststores import Revocation, RevocationSource

ASK_SECONDS = 1.5  # for a node to tell its state
ASKED_AT_ONCE = 16
SOON = timedelta(days=30)
LATE = timedelta(minutes=10)  # by which a revocation list may be fetched later than it should be
EXPIRIES_SHOWN = 8
COUNTED = 1000  # of what ends besides those that are shown
# What is renewed without anybody, and so concerns somebody only when that was not done.
_NEAR = {
    Kind.CRL: timedelta(days=1),  # they live for days, and their authorities are late as a rule
    Kind.MACHINE: timedelta(days=20),  # from 30 days on, by the node itself while it is linked
}


@dataclass(frozen=True, slots=True)
class Concern:
    """`kind`: bad (something is refused or down now) or warn (it will be, or may be)."""

    kind: str
    text: str
    url: str | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node told of itself; `problem` in words where it told nothing."""

    node: Node
    told: dict[str, Any] | None
    problem: str = ""

    @property
    def tunnels(self) -> list[dict[str, Any]]:
        return list(self.told.get("tunnels", [])) if self.told else []

    @property
    def left(self) -> list[dict[str, Any]]:
        """Registrations that were there and are not; a node of an older version does not tell."""
        return list(self.told.get("left", [])) if self.told else []

    @property
    def ports(self) -> dict[str, dict[str, Any]]:
        return {port["name"]: port for port in self.told.get("ports", [])} if self.told else {}


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A registration and its connections, as its edge sees them; `problem` as the internal node does.

    `status`: healthy, degraded, down, never connected (since its edge started), unknown or disabled.
    """

    registration: Registration
    kind: str
    status: str
    idle: int = 0
    busy: int = 0
    last_seen: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PortState:
    port: Port
    kind: str
    status: str
    connections: int | None = None


def ask_nodes(rows: QuerySet[Node]) -> list[NodeState]:
    """The state of each, asked all at once; never fails."""
    nodes = list(rows.select_related("enrolment"))
    if not nodes:
        return []
    elsewhere = {node.name for node in nodes if (known := getattr(node, "enrolment", None)) and known.serial}
    with ThreadPoolExecutor(min(len(nodes), ASKED_AT_ONCE)) as pool:
        states = list(pool.map(lambda node: _ask(node, elsewhere), nodes))
    if any(state.told is None and state.node.name in elsewhere for state in states):
        lost = rotation.lost()
        words = gettext("It cannot come back: what it would show is believed no longer. Enrol it anew.")
        states = [
            replace(state, problem=words) if state.told is None and state.node.name in lost else state
            for state in states
        ]
    return states


def _ask(node: Node, elsewhere: set[str]) -> NodeState:
    try:
        return NodeState(node, ask(node.name, {"op": "state"}, timeout=ASK_SECONDS, elsewhere=elsewhere))
    except ControlError as error:
        return NodeState(node, None, Said(error))


def tunnels_of(states: list[NodeState]) -> list[Tunnel]:
    """One for each registration, whether it is there or not."""
    by_node = {state.node.name: state for state in states}
    rows = Registration.objects.select_related("port__node", "node").order_by("port__name", "name")
    return [_tunnel(row, by_node.get(row.port.node.name), by_node.get(row.node.name)) for row in rows]


def _tunnel(row: Registration, edge: NodeState | None, internal: NodeState | None) -> Tunnel:
    if not row.enabled:
        return Tunnel(row, "soft", "disabled")
    if edge is None or edge.told is None:
        return Tunnel(
            row,
            "warn",
            "unknown",
            problem=gettext("{node} does not answer.").format(node=row.port.node),
        )
    seen = [each for each in edge.tunnels if (each["registration"], each["port"]) == (row.name, row.port.name)]
    idle, busy = (sum(each[name] for each in seen) for name in ("idle", "busy"))
    last_seen = _moment(max((each["last_seen"] for each in seen if each["last_seen"]), default=None))
    dialled = [each for each in internal.tunnels if each["registration"] == row.name] if internal else []
    problem: str = next((Said(each["problem"]) for each in dialled if each.get("problem")), "")
    if idle + busy == 0:
        if not problem and (internal is None or internal.told is None):
            problem = gettext("{node} does not answer.").format(node=row.node)
        if not problem and not dialled:
            problem = gettext("No internal port of {node} dials as {row}.").format(node=row.node, row=row)
        left = [each for each in edge.left if (each["registration"], each["port"]) == (row.name, row.port.name)]
        last_seen = _moment(max((each["last_seen"] for each in left), default=None))
        return Tunnel(row, "bad", "down" if left else "never connected", last_seen=last_seen, problem=problem)
    kind, status = ("warn", "degraded") if idle == 0 or problem else ("ok", "healthy")
    return Tunnel(row, kind, status, idle, busy, last_seen, problem)


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, timezone.get_current_timezone()) if seconds else None


def ports_of(states: list[NodeState]) -> list[PortState]:
    by_node = {state.node.name: state for state in states}
    rows = Port.objects.select_related("node", "registration_port").order_by("node__name", "name")
    return [_port(row, by_node.get(row.node.name)) for row in rows]


def _port(row: Port, state: NodeState | None) -> PortState:
    if not row.enabled:
        return PortState(row, "soft", "disabled")
    if state is None or state.told is None:
        return PortState(row, "warn", "unknown")
    if row.type == PortType.INTERNAL:
        dialled = [each for each in state.tunnels if each["port"] == row.name]
        standing = sum(each["idle"] + each["busy"] for each in dialled)
        return PortState(row, "ok", "connected", standing) if standing else PortState(row, "bad", "not connected", 0)
    told = state.ports.get(row.name)
    if told is None or not told["listening"]:
        return PortState(row, "bad", "not listening")
    return PortState(row, "ok", "listening", told["connections"])


def concerns(
    states: list[NodeState],
    tunnels: list[Tunnel],
    ports: list[PortState],
    mark: tuple[int, datetime] | None,
    now: datetime,
) -> list[Concern]:
    """What needs somebody, worst first. `mark`: what is in force, as `gateway.audit.in_force` tells."""
    revision = mark[0] if mark else 0
    found = [
        *_nodes(states, revision),
        *_tunnels(tunnels),
        *_ports(ports),
        *expiries(now, recent_few(mark, now)),
        *_lists(now),
        *_unmapped(now),
        *_unconfirmed(now),
    ]
    return sorted(found, key=lambda concern: concern.kind != "bad")


def _unconfirmed(now: datetime) -> Iterable[Concern]:
    """What should have gone back by itself, and could not."""
    for row in Unconfirmed.objects.filter(state=State.FAILED, due__gt=now - timedelta(days=1)):
        yield Concern(
            "bad",
            gettext("Change {number} was not confirmed in time, and could not go back.").format(number=row.pk),
            reverse("changes-detail", args=[row.pk]),
            Said(row.reason),
        )


def _nodes(states: list[NodeState], revision: int) -> Iterable[Concern]:
    for state in states:
        url = url_of(state.node)
        if state.told is None:
            yield Concern("bad", gettext("Node {node} does not answer").format(node=state.node), url, state.problem)
            continue
        refused = state.told.get("configuration", {}).get("refused")
        if refused:
            hint = gettext("What was in force before still is, and this is tried again. It says: {words}").format(
                words=refused["words"]
            )
            yield Concern("bad", gettext("Node {node} refuses its configuration").format(node=state.node), url, hint)
        elif state.told["revision"] != revision:
            hint = gettext(
                "It works by revision {revision}. A change is taken over within seconds; "
                "if this stays, the node's log tells why."
            ).format(revision=state.told["revision"])
            yield Concern(
                "warn",
                gettext("Revision {revision} is not in force on node {node}").format(
                    revision=revision, node=state.node
                ),
                url,
                hint,
            )


def _tunnels(tunnels: list[Tunnel]) -> Iterable[Concern]:
    for tunnel in tunnels:
        row = tunnel.registration
        if tunnel.kind == "bad":
            yield Concern(
                "bad",
                gettext("No tunnel from {node} to port {port} ({row})").format(node=row.node, port=row.port, row=row),
                url_of(row),
                tunnel.problem,
            )
        elif tunnel.status == "degraded" and tunnel.idle:
            yield Concern(
                "warn",
                gettext("The tunnel from {node} to port {port} is degraded").format(node=row.node, port=row.port),
                url_of(row),
                tunnel.problem,
            )
        elif tunnel.status == "degraded":
            hint = gettext(
                "{busy} busy, none idle: requests wait. Raise max of its internal port's connections."
            ).format(busy=tunnel.busy)
            yield Concern(
                "warn",
                gettext("Every tunnel from {node} to port {port} is busy").format(node=row.node, port=row.port),
                url_of(row),
                hint,
            )


def _ports(ports: list[PortState]) -> Iterable[Concern]:
    for state in ports:
        if state.status == "not listening":
            hint = gettext("{bind} on node {node}: its log tells why.").format(
                bind=state.port.bind, node=state.port.node
            )
            yield Concern(
                "bad", gettext("Port {port} does not listen").format(port=state.port), url_of(state.port), hint
            )


def expiries(now: datetime, known: Iterable[Ending] | None = None) -> Iterable[Concern]:
    """Whatever has an end, and it is over or near; the nearest first. `known`: see `gateway.expiry.Endings`."""
    # Of clients, who may be 100,000, the first are looked at, and the others counted.
    clients = Endings(Wanted(frozenset({Kind.CLIENT}), until=now + SOON, refusing=True), ())
    others = Endings(Wanted(frozenset(Kind) - {Kind.CLIENT}, until=now + SOON, refusing=True), known)
    near = [each for each in others if _concerns(each, now)]
    first = clients[: EXPIRIES_SHOWN + 1]
    count = len(first) if len(first) <= EXPIRIES_SHOWN else clients.counted(COUNTED + EXPIRIES_SHOWN + 1)
    found = sorted([*first, *near], key=lambda each: (each.ends, each.name))[:EXPIRIES_SHOWN]
    more = count + len(near) - len(found)
    for each in found:
        kind = "bad" if each.ends < now else "warn"
        url = reverse(f"{each.section}-edit", args=[each.pk])
        words = gettext("{what}: {ends}").format(what=_what(each), ends=ends(each.ends, now))
        yield Concern(kind, words, url, _what_to_do(each, each.ends < now))
    if more > COUNTED:
        words = gettext("More than {count} others end within {days} days")
        yield Concern("warn", words.format(count=f"{COUNTED:,}", days=SOON.days), reverse("expiry"))
    elif more:
        words = ngettext("{count} more ends within {days} days", "{count} more end within {days} days", more)
        yield Concern("warn", words.format(count=more, days=SOON.days), reverse("expiry"))


def _concerns(ending: Ending, now: datetime) -> bool:
    """Whether it is near enough. A revocation list that is fetched is told of where the fetching is (`_lists`)."""
    near = _NEAR.get(ending.kind, SOON)
    if ending.lasts is not None:
        near = min(near, ending.lasts / 4)
    return not ending.fetched and ending.ends < now + near


def _what(ending: Ending) -> str:
    match ending.kind:
        case Kind.CLIENT:
            return gettext("Certificate {name}, mapped to {user}").format(name=ending.name, user=ending.owner)
        case Kind.SERVER:
            return gettext("Keystore {name}").format(name=ending.name)
        case Kind.REGISTRATION:
            return gettext("The certificate of registration {name}").format(name=ending.name)
        case Kind.CRL:
            words = gettext("The revocation list of {issuer} in truststore {truststore}")
            return words.format(issuer=ending.subject, truststore=ending.name)
        case Kind.MACHINE:
            return gettext("The certificate of node {name}'s machine").format(name=ending.name)
    return gettext("{subject} in truststore {truststore}").format(subject=ending.subject, truststore=ending.name)


def ends(end: datetime, now: datetime) -> str:
    """`ends in 6 days`, `ended 3 days ago`."""
    days = abs(end - now).days
    if not days:
        return gettext("ended today") if end < now else gettext("ends today")
    if end < now:
        return ngettext("ended {count} day ago", "ended {count} days ago", days).format(count=days)
    return ngettext("ends in {count} day", "ends in {count} days", days).format(count=days)


def _what_to_do(ending: Ending, over: bool) -> str:
    match ending.kind:
        case Kind.CLIENT:
            return (
                gettext("Its callers are refused.")
                if over
                else gettext("Ask its holder for the renewal, and upload that beside it.")
            )
        case Kind.AUTHORITY | Kind.CRL:
            return gettext("What hangs on it is refused.") if over else gettext("Add its successor to the truststore.")
        case Kind.MACHINE:
            return gettext("It renews by itself while the node is linked; after its end, enrol the machine again.")
    return (
        gettext("Whoever checks it refuses {ending}.").format(ending=ending.name)
        if over
        else gettext("Get it renewed, and replace it there.")
    )


def _lists(now: datetime) -> Iterable[Concern]:
    """Revocation lists that are fetched, and were not, or not in time."""
    for source in RevocationSource.objects.select_related("truststore", "fetch", "crl"):
        crl, last, url = getattr(source, "crl", None), source.last, url_of(source.truststore)
        hard = source.truststore.revocation == Revocation.HARD
        values = {"url": source.url, "truststore": source.truststore}
        late = last.tried_at is None or now - last.tried_at > timedelta(seconds=source.every) + LATE
        if crl is not None and crl.overdue:
            what = gettext("Whoever it speaks of is refused.") if hard else gettext("It is passed over (soft).")
            words = gettext("The revocation list at {url} for truststore {truststore}: {ends}")
            words = words.format(**values, ends=ends(crl.next_update, now))
            yield Concern("bad", words, url, f"{what} {last.error}".strip())
            continue
        what = ""
        if hard and not crl:
            what = gettext("Until it comes, certificates of authorities without a list are refused.")
        if last.error:
            words = gettext("The revocation list at {url} for truststore {truststore} cannot be fetched")
            hint = f"{what} {last.error}" if what else Said(last.error)
            yield Concern("bad" if crl is None else "warn", words.format(**values), url, hint)
        elif late:
            words = gettext("The revocation list at {url} for truststore {truststore} is not fetched")
            hint = gettext("Does {worker} run? {serve} runs it too.")
            hint = f"{what} {hint.format(worker=command('worker'), serve=command('serve'))}".strip()
            yield Concern("bad" if what else "warn", words.format(**values), url, hint)


def _unmapped(now: datetime) -> Iterable[Concern]:
    rows = Certificate.objects.filter(
        user=None, blocked=False, usage=Usage.SSL_AUTHENTICATION, not_after__gte=now
    ).values_list("name", flat=True)
    names = list(rows[:4])
    if not names:
        return
    count = len(names) if len(names) < 4 else rows.count()
    listed = ", ".join(names[:3]) + (", …" if count > 3 else "")
    words = ngettext(
        "{count} certificate is mapped to nobody: {names}", "{count} certificates are mapped to nobody: {names}", count
    ).format(count=count, names=listed)
    url = f"{reverse('certificates-list')}?show=unmapped"
    yield Concern(
        "warn",
        words,
        url,
        gettext("Callers with it are refused unless a mapping rule means them."),
    )
