"""Rows of a sheet → users, groups, certificates: first what each would do, then all of it in one change set.

What a row means is set on the model, and the model has the last word, as everywhere. Only what would cost a query for
each row (is the name taken, is there such a user) is asked of all at once.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model

from gateway.audit import Recorder, change_set
from gateway.bulk.sheets import Row, SheetError
from gateway.models import Port
from identity.core import certificates, files
from identity.core.certificates import CertificateError
from identity.models import Certificate, Group, Usage, User
from identity.models.users import check_membership

AT_ONCE = 500  # rows that are written in one query
SHOWN = 50  # outcomes of each kind that are kept for a page
_KEY_WORDS = (
    "holds a private key. Certificates are imported without their keys: take the keys out. "
    "Consider each of them exposed if it was sent to you."
)
_YES, _NO = {"true", "yes", "1", "x"}, {"false", "no", "0"}
_LIST = re.compile(r"[;|\s]+")

Progress = Callable[[int], None]


class Action(StrEnum):
    ADD = "add"
    CHANGE = "change"
    SAME = "same"
    REFUSE = "refuse"


class RowError(ValueError):
    """This row cannot be imported; the message says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row would do. `words`: what is changed, or why it is refused."""

    number: int
    action: Action
    name: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """A row that is on file and differs: its fields with their new values; `members`: its groups, where they change."""

    pk: Any
    values: dict[str, Any]
    members: list[Any] | None = None


@dataclass(slots=True)
class Plan:
    """What a sheet would do.

    Attributes:
        added, changed: what is to be written: new rows as the importer keeps them, and what changes of others.
        refused: the rows that cannot be imported, with the reason as the cell `error`.
        shown: the first outcomes of each kind.
    """

    counts: Counter[Action] = field(default_factory=Counter)
    added: list[Any] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    shown: list[Outcome] = field(default_factory=list)

    def note(self, outcome: Outcome) -> None:
        if self.counts[outcome.action] < SHOWN:
            self.shown.append(outcome)
        self.counts[outcome.action] += 1

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Importer:
    """One kind of sheet. `columns`: all that it may have; `needed`: what a CSV must have."""

    kind: str
    model: type[Any]
    columns: tuple[str, ...]
    needed: tuple[str, ...]

    def plan(self, rows: Generator[Row, None, None], progress: Progress = lambda done: None) -> Plan:
        """What the rows would do; nothing is written. Raises SheetError while they are read."""
        self.prepare()
        plan = Plan()
        with closing(rows):
            for done, row in enumerate(rows, 1):
                self._take(row, plan)
                if done % 500 == 0:
                    progress(done)
        progress(plan.total)
        return plan

    def _take(self, row: Row, plan: Plan) -> None:
        name = row.cells.get("name", "") or row.source
        try:
            if row.problem:
                raise RowError(row.problem)
            model, action, words = self.read(row.cells)
        except RowError as error:
            refused = str(error)
        except ValidationError as error:
            refused = " ".join(_messages(error))
        else:
            plan.note(Outcome(row.number, action, model.name, words))
            if action is Action.ADD:
                plan.added.append(self.kept(model))
            elif action is Action.CHANGE:
                plan.changed.append(self.changed(model))
            return
        plan.note(Outcome(row.number, Action.REFUSE, name, refused))
        plan.refused.append(row.cells | ({"name": row.source} if row.source else {}) | {"error": refused})

    def carry_out(self, plan: Plan, recorder: Recorder, progress: Progress = lambda done: None) -> None:
        """Write what is planned, inside the change set of `recorder`. Raises ValidationError, IntegrityError."""
        for start in range(0, len(plan.added), AT_ONCE):
            self.add([self.revived(each) for each in plan.added[start : start + AT_ONCE]], recorder)
            progress(start)
        for start in range(0, len(plan.changed), AT_ONCE):
            some: list[Changed] = plan.changed[start : start + AT_ONCE]
            members = {each.pk: each.members for each in some if each.members is not None}
            recorder.change_many(self.model, {each.pk: each.values for each in some}, members)
            progress(len(plan.added) + start)

    def add(self, rows: list[Any], recorder: Recorder) -> None:
        recorder.add_many(rows)

    def changed(self, row: Any) -> Changed:
        """What is to be written of a row that `read` found changed."""
        names = [name for name in row.different if name != "groups"]
        members = row.wanted_groups if "groups" in row.different else None
        return Changed(row.pk, {name: getattr(row, name) for name in names}, members)

    def kept(self, row: Any) -> Any:
        """A new row as it is kept until it is written: there may be 100,000."""
        return row

    def revived(self, kept: Any) -> Any:
        return kept

    def prepare(self) -> None:
        """Read what is stored, for all rows at once."""
        raise NotImplementedError

    def read(self, cells: dict[str, str]) -> tuple[Any, Action, str]:
        """The row that the cells mean, what becomes of it, and what differs. Raises RowError, ValidationError."""
        raise NotImplementedError


def _messages(error: ValidationError) -> Iterator[str]:
    if not hasattr(error, "error_dict"):
        yield from error.messages
        return
    for name, messages in error.message_dict.items():
        for message in messages:
            yield message if name == "__all__" else f"{name}: {message}"


def check(row: Model) -> None:
    """The model's word on a row, but for what is asked of all rows at once. Raises ValidationError."""
    references = {column.name for column in row._meta.concrete_fields if column.is_relation}
    row.full_clean(exclude=references, validate_unique=False, validate_constraints=False)


def boolean(cells: dict[str, str], name: str, default: bool) -> bool:
    value = cells.get(name, "").lower()
    if value in _YES or value in _NO:
        return value in _YES
    if value:
        raise RowError(f"{name}: {value!r} is neither yes nor no.")
    return default


def moment(cells: dict[str, str], name: str) -> datetime | None:
    """A point in time; a date alone is its beginning, and what names no zone is UTC, as in the configuration file."""
    if not cells[name]:
        return None
    try:
        found = datetime.fromisoformat(cells[name])
    except ValueError as error:
        raise RowError(
            f"{name}: {cells[name]!r} is no date and no time, like 2027-03-31 or 2027-03-31T22:00:00Z."
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


def known_ports() -> frozenset[str]:
    return frozenset(Port.objects.values_list("name", flat=True))


def ports(cells: dict[str, str], known: frozenset[str], stored: list[str]) -> list[str]:
    """Names of ports; those that are stored, where they are the same in another order."""
    names = [name for name in _LIST.split(cells["ports"]) if name]
    if unknown := [name for name in names if name not in known]:
        raise RowError(f"ports: there is no port {unknown[0]}; add it first, or name another.")
    return stored if set(names) == set(stored) else sorted(names)


def set_fields(row: Any, values: dict[str, Any]) -> list[str]:
    """Set them; the names of those that were different."""
    different = [name for name, value in values.items() if getattr(row, name) != value]
    for name in different:
        setattr(row, name, values[name])
    return different


class Named(Importer):
    """Kinds whose rows are known by their name alone: a name that is stored is changed, another is added."""

    def prepare(self) -> None:
        self._stored = {row.name: row for row in self.rows()}
        self._seen: dict[str, bool] = {}

    def rows(self) -> Iterable[Any]:
        return self.model.objects.all()  # type: ignore[no-any-return]

    def find(self, cells: dict[str, str]) -> tuple[Any, bool]:
        """The row of that name, and whether it is new. Raises RowError."""
        name = cells.get("name", "")
        if name in self._seen:
            raise RowError(f"name: {name} stands in the file twice; keep one of the rows.")
        self._seen[name] = True
        stored = self._stored.get(name)
        return (self.model(name=name), True) if stored is None else (stored, False)


def _action(new: bool, different: list[str]) -> tuple[Action, str]:
    if new:
        return Action.ADD, ""
    return (Action.CHANGE, ", ".join(different)) if different else (Action.SAME, "")


class Groups(Named):
    kind, columns, needed, model = "groups", ("name", "description"), ("name",), Group

    def read(self, cells: dict[str, str]) -> tuple[Any, Action, str]:
        row, new = self.find(cells)
        values = {"description": cells["description"]} if "description" in cells else {}
        row.different = set_fields(row, values)
        check(row)
        return row, *_action(new, row.different)


class Users(Named):
    kind, columns, needed = "users", ("name", "enabled", "groups", "ports", "description"), ("name",)
    model = User

    def prepare(self) -> None:
        super().prepare()
        self._groups = {group.name: group for group in Group.objects.all()}
        self._ports = known_ports()

    def rows(self) -> Iterable[Any]:
        return User.objects.prefetch_related("groups")

    def read(self, cells: dict[str, str]) -> tuple[Any, Action, str]:
        row, new = self.find(cells)
        values: dict[str, Any] = {"description": cells["description"]} if "description" in cells else {}
        if "enabled" in cells:
            values["enabled"] = boolean(cells, "enabled", row.enabled)
        if "ports" in cells:
            values["ports"] = ports(cells, self._ports, row.ports)
        different = set_fields(row, values)
        check(row)
        if "groups" in cells:
            wanted = self._find_groups(cells["groups"])
            check_membership(row, wanted)
            stored = set() if new else {group.pk for group in row.groups.all()}
            row.wanted_groups = wanted
            if {group.pk for group in wanted} != stored:
                different.append("groups")
        row.different = different
        return row, *_action(new, different)

    def _find_groups(self, text: str) -> list[Group]:
        names = list(dict.fromkeys(name for name in _LIST.split(text) if name and name != "Everybody"))
        if missing := [name for name in names if name not in self._groups]:
            raise RowError(f"groups: there is no group {missing[0]}; add it first.")
        return [self._groups[name] for name in names]

    def add(self, rows: list[Any], recorder: Recorder) -> None:
        through = User.groups.through
        links = [through(user=row, group=group) for row in rows for group in getattr(row, "wanted_groups", ())]
        recorder.add_many(rows, through, links)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A certificate on file, as far as a row may differ from it."""

    pk: Any
    name: str
    user: str | None
    usage: str
    blocked: bool
    ports: list[str]
    logs_in_until: datetime | None
    description: str


_KEPT = ("name", "user", "usage", "blocked", "ports", "logs_in_until", "description", "der")


class Certificates(Importer):
    """Certificates on file are known by themselves: the same one is changed in what is said of it."""

    kind, model = "certificates", Certificate
    columns = ("name", "user", "usage", "certificate", "blocked", "ports", "logs_in_until", "description")
    needed = ("certificate",)

    def prepare(self) -> None:
        columns = ("sha256", "pk", "name", "user__name", "usage", "blocked", "ports", "logs_in_until", "description")
        self._stored: dict[str, list[_Stored]] = {}
        for sha256, *rest in Certificate.objects.order_by("name").values_list(*columns):
            self._stored.setdefault(sha256, []).append(_Stored(*rest))
        self._names = {each.name for found in self._stored.values() for each in found}
        self._users = {user.name: user for user in User.objects.all()}
        self._ports = known_ports()
        self._seen: set[tuple[str, str]] = set()

    def read(self, cells: dict[str, str]) -> tuple[Any, Action, str]:
        parsed = self._parse(cells.get("certificate", ""))
        key = parsed.sha256, cells.get("usage") or Usage.SSL_AUTHENTICATION.value
        if key in self._seen:
            raise RowError("certificate: it stands in the file twice for this usage; keep one of the rows.")
        self._seen.add(key)
        stored = self._on_file(parsed.sha256, cells.get("usage", ""))
        values = self._values(cells, stored)
        if stored is not None:
            return self._changed(stored, parsed, cells, values)
        row = Certificate(name=self._name(cells, parsed), **values)
        row.set_certificate(parsed)
        check(row)
        self._names.add(row.name)
        return row, Action.ADD, ""

    def _on_file(self, sha256: str, usage: str) -> _Stored | None:
        """The entry that the row means: that for its usage; without one the only entry, or that which logs in."""
        found = self._stored.get(sha256, [])
        if not usage and len(found) == 1:
            return found[0]
        return next((each for each in found if each.usage == (usage or Usage.SSL_AUTHENTICATION)), None)

    def kept(self, row: Any) -> Any:
        return tuple(getattr(row, name) for name in _KEPT)

    def revived(self, kept: Any) -> Any:
        return Certificate(**dict(zip(_KEPT, kept, strict=True)))

    def _parse(self, text: str) -> certificates.Certificate:
        if not text:
            raise RowError("certificate: is missing; PEM, or DER in base64.")
        try:
            data = text.encode() if "-----BEGIN" in text else base64.b64decode("".join(text.split()), validate=True)
            return files.chain_from(data)[0]
        except CertificateError as error:
            if "private key" in str(error):
                # Not as a refused row: that would be handed out again, key and all.
                raise SheetError(f"The file as a whole is refused, for it {_KEY_WORDS}") from error
            raise RowError(f"certificate: {error}") from error
        except (binascii.Error, ValueError) as error:
            raise RowError("certificate: neither PEM (text with BEGIN CERTIFICATE) nor base64 of DER.") from error

    def _values(self, cells: dict[str, str], stored: _Stored | None) -> dict[str, Any]:
        """What the row says; where it lacks a column, what is stored stays."""
        values: dict[str, Any] = {}
        if "user" in cells:
            values["user"] = self._user(cells["user"])
        if cells.get("usage"):
            if cells["usage"] not in Usage.values:
                raise RowError(f"usage: there is no {cells['usage']!r}; one of {', '.join(Usage.values)} is needed.")
            values["usage"] = cells["usage"]
        if "blocked" in cells:
            values["blocked"] = boolean(cells, "blocked", stored.blocked if stored else False)
        if "ports" in cells:
            values["ports"] = ports(cells, self._ports, stored.ports if stored else [])
        if "logs_in_until" in cells:
            values["logs_in_until"] = moment(cells, "logs_in_until")
        if "description" in cells:
            values["description"] = cells["description"]
        return values

    def _user(self, name: str) -> User | None:
        if not name:
            return None
        if name not in self._users:
            raise RowError(f"user: there is no user {name}; add it first.")
        return self._users[name]

    def _name(self, cells: dict[str, str], parsed: certificates.Certificate) -> str:
        """As given; else after the user or the common name, with the year or a part of the fingerprint if taken."""
        given = cells.get("name", "")
        if given:
            if given in self._names:
                raise RowError(f"name: {given} is taken by another certificate; a renewal needs a name of its own.")
            return given
        base = re.sub(r"[^A-Za-z0-9_.:@-]+", "-", cells.get("user") or parsed.subject.common_name).strip("-")[:200]
        base = base or f"certificate-{parsed.sha256[:8]}"
        year = datetime.fromtimestamp(parsed.not_after, UTC).year
        proposed = (base, f"{base}-{year}", f"{base}-{parsed.sha256[:12]}", f"{base}-{parsed.sha256}"[:255])
        return next(name for name in proposed if name not in self._names)

    def _changed(
        self, stored: _Stored, parsed: certificates.Certificate, cells: dict[str, str], values: dict[str, Any]
    ) -> tuple[Any, Action, str]:
        if cells.get("name") and cells["name"] != stored.name:
            raise RowError(f"certificate: it is on file already, as {stored.name}.")
        was = {"user": stored.user, "usage": stored.usage, "blocked": stored.blocked, "ports": stored.ports,
               "logs_in_until": stored.logs_in_until, "description": stored.description}  # fmt: skip
        now = values | ({"user": values["user"].name if values["user"] else None} if "user" in values else {})
        different = [name for name, value in now.items() if value != was[name]]
        if not different:
            return stored, Action.SAME, ""
        # As it is stored, as far as these fields go, with no query for each.
        user = self._users.get(stored.user or "")
        row = Certificate(pk=stored.pk, name=stored.name, **(was | {"user": user} | values))
        row.set_certificate(parsed)
        check(row)
        row.different = different
        return row, Action.CHANGE, ", ".join(different)


IMPORTERS: dict[str, type[Importer]] = {each.kind: each for each in (Users, Groups, Certificates)}


def import_rows(
    plan: Plan,
    importer: Importer,
    *,
    actor: str,
    message: str,
    address: str | None = None,
    only_good: bool = False,
    progress: Callable[[float], None] = lambda share: None,
    also: Callable[[int | None], None] = lambda revision: None,
) -> int | None:
    """Write what was planned; the revision that it made, None where there was nothing to do.

    Args:
        only_good: leave out the rows that are refused; without it one of them refuses all.
        progress: told what share of the work is done, 0 to 1.
        also: told the revision; what it writes is part of the same transaction, and of that the last: rows that it
            locks are free for others, who tell of the progress, until all else is done.
    Raises:
        RowError: rows are refused, and nothing was written.
        ValidationError, IntegrityError: somebody has changed what they rest on meanwhile; nothing was written.
    """
    if plan.refused and not only_good:
        raise RowError(f"{len(plan.refused)} rows are refused; nothing was imported.")
    count = 2 * (len(plan.added) + len(plan.changed)) or 1  # each is written, and then recorded
    with transaction.atomic():
        with change_set(actor, message, address) as recorder:
            recorder.recorded = lambda done: progress(0.5 + done / count)
            importer.carry_out(plan, recorder, lambda done: progress(done / count))
        also(recorder.revision)
    return recorder.revision
