"""File → rows: all of it, or nothing."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError

from gateway.audit import Recorder, change_set
from gateway.models import API, Action, Change, Port, PortType, Registration, Service
from gateway.topology.consistency import Inconsistent
from gateway.topology.document import EntryError, Problem, Topology, TopologyError
from gateway.topology.entries import KIND_OF, SECTIONS
from gateway.topology.fields import Fields
from gateway.topology.oddities import oddities
from gateway.topology.rows import Rows
from gateway.topology.sections import FILE_NAMES, READERS
from identity.core.vault import VaultError
from identity.models import Certificate

# A port may name a service or an API in its list, an API goes through an endpoint to a registration port, and
# an internal port dials as a registration of one: what is tried in this order mostly succeeds at once.
_ORDER = ["nodes", "groups", "users", "acls", "truststores", "keystores", "certificates", "mapping_rules", "services",
          "registration ports", "endpoints", "apis", "registrations", "ports"]  # fmt: skip


@dataclass(slots=True)
class Applied:
    """What came of it. `changes`: one for each object, removals first. `revision`: None where nothing changed."""

    changes: list[Change]
    warnings: list[str] = field(default_factory=list)
    revision: int | None = None


@dataclass(slots=True)
class Step:
    """One object to write, or, without an entry, to delete. `users`: what still refers to one that is to go."""

    section: str
    name: str
    entry: dict[str, Any] | None
    problems: list[Problem] = field(default_factory=list)
    users: list[Model] = field(default_factory=list)


def apply(
    topology: Topology,
    *,
    prune: bool = False,
    dry_run: bool = False,
    actor: str = "apply",
    message: str = "configuration file applied",
) -> Applied:
    """Make what is stored equal to the file; without `prune` nothing is deleted.

    Raises:
        TopologyError: nothing was changed.
    """
    with telling_problems(), change_set(actor, message, dry_run=dry_run) as recorder:
        remarks = write(topology, recorder, prune=prune)
        warnings = [*remarks, *oddities()]
    return Applied(in_order(recorder.changes), warnings, recorder.revision)


def write(topology: Topology, recorder: Recorder, *, prune: bool = False) -> list[str]:
    """The same inside somebody else's change set; what should be known of what the file names.

    Raises TopologyError: nothing may be kept of it.
    """
    application = Application(topology, recorder)
    application.carry_out(_steps(topology, prune))
    return application.remarks


def remove(section: str, name: str, recorder: Recorder) -> None:
    """Delete one object inside a change set. Raises TopologyError, which tells what still uses it."""
    Application(Topology({}, None), recorder).carry_out([Step(section, name, None)])


@contextmanager
def telling_problems() -> Iterator[None]:
    """Around a change set: what would become invalid by it is told as what is wrong with entries."""
    try:
        yield
    except Inconsistent as error:
        found = [each for row, reason in error.found for each in _of_validation(*_place(row), reason)]
        raise TopologyError(found) from error


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Removals first, then by section and name."""
    rank = {Action.REMOVED: 0, Action.ADDED: 1, Action.CHANGED: 2}
    kinds = list(SECTIONS)
    return sorted(changes, key=lambda c: (rank[Action(c.action)], kinds.index(c.kind), c.name))


def _steps(topology: Topology, prune: bool) -> list[Step]:
    steps: list[Step] = []
    for part in _ORDER:
        section = part.removeprefix("registration ") if part == "registration ports" else part
        for entry in topology.sections.get(section, []):
            if section == "ports" and (entry.get("type") == PortType.REGISTRATION) != (part == "registration ports"):
                continue
            steps.append(Step(section, entry["name"], entry))
    if prune:
        for section in reversed(SECTIONS):
            kept = {entry["name"] for entry in topology.sections.get(section, [])}
            steps += [Step(section, name, None) for name in _removable(SECTIONS[section]) if name not in kept]
    return steps


def _removable(model: type[Model]) -> Iterable[str]:
    rows: Any = model._default_manager.order_by("name")
    if any(column.name == "predefined" for column in model._meta.get_fields()):
        rows = rows.filter(predefined=False)
    return rows.values_list("name", flat=True)  # type: ignore[no-any-return]


class Application:
    """One run over steps: those of one file, or those that undo a change set."""

    def __init__(self, topology: Topology, recorder: Recorder) -> None:
        self._topology, self._recorder = topology, recorder
        self._rows = Rows()
        self._parked: set[tuple[type[Model], Any]] = set()
        self.remarks: list[str] = []

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Try the steps until all are done or none of the rest can be: what stands in one's way may yet move.

        A port that was renamed leaves its address to the next; a group is gone once no ACL names it.
        """
        for section, entries in self._topology.sections.items():
            self._rows.prime(SECTIONS[section], (entry["name"] for entry in entries))
        pending = steps
        while pending:
            left: list[Step] = []
            for step in pending:
                step.problems = self._attempt(step)
                if step.problems:
                    left.append(step)
            if len(left) == len(pending) and (self._parked or not self._park(left)):
                raise TopologyError(self._told(left))
            self._rows.clear()  # what was read along with a row may have changed since
            pending = left

    def _attempt(self, step: Step) -> list[Problem]:
        """What stood in the way; nothing was changed then."""
        section, name = step.section, step.name
        step.users = []
        try:
            with transaction.atomic():
                self._delete(step) if step.entry is None else self._write(step, step.entry)
                return []
        except EntryError as error:
            problems = error.problems
        except ValidationError as error:
            problems = _of_validation(section, name, error)
        except VaultError as error:
            problems = [Problem(section, name, "", f"what is stored cannot be opened: {error}")]
        except ProtectedError as error:
            step.users = list(error.protected_objects)
            users = sorted({"{}[{}]".format(*_place(row)) for row in error.protected_objects})
            more = f" and {len(users) - 5} more" if len(users) > 5 else ""
            text = f"cannot be deleted: still used by {', '.join(users[:5])}{more}"
            problems = [Problem(section, name, "", text)]
        except IntegrityError as error:
            # The first line alone: PostgreSQL goes on with the row.
            problems = [Problem(section, name, "", f"the database refuses it: {str(error).partition(chr(10))[0]}")]
        self._rows.forget(SECTIONS[section], name)  # the one in memory may be half written
        return problems

    def _write(self, step: Step, entry: dict[str, Any]) -> None:
        row = self._find(step)
        if row is None:
            row = SECTIONS[step.section](name=step.name)
        fields = self._fields(step.section, entry)
        READERS[step.section](row, fields)
        self.remarks += fields.remarks
        if self._is_parked(row):
            row.save()  # what its placeholder stands in for may follow from another column
        self._rows.put(row)

    def _find(self, step: Step) -> Any:
        """The row that the step is about; None where there is none yet."""
        return self._rows.get(SECTIONS[step.section], step.name)

    def _fields(self, section: str, entry: dict[str, Any]) -> Fields:
        return Fields(section, entry, self._topology.folder, self._rows)

    def _is_parked(self, row: Model) -> bool:
        return (type(row), row.pk) in self._parked

    def _delete(self, step: Step) -> None:
        row = self._find(step)
        if row is not None:
            row.delete()
            self._rows.forget(SECTIONS[step.section], step.name)

    def _park(self, steps: Sequence[Step]) -> bool:
        """Move the rows that stand in each other's way aside: two ports change addresses, or one with another name
        takes the place of one that others name until they are changed too.

        What they are given instead is what nobody has, until their own step comes; True where there was any.
        """
        for step in steps:
            model = SECTIONS[step.section]
            row: Any = self._find(step) if model in _UNIQUE else None
            if row is not None and getattr(row, _UNIQUE[model]):
                self._recorder.touch(row)
                model._default_manager.filter(pk=row.pk).update(**{_UNIQUE[model]: _placeholder(model)})
                self._parked.add((model, row.pk))
        return bool(self._parked)

    def _told(self, steps: Sequence[Step]) -> list[Problem]:
        """In the file's order; without what only follows from another entry's problem."""
        failing = {(step.section, step.name) for step in steps}
        problems = [problem for step in steps for problem in step.problems]
        causes = [problem for problem in problems if problem.missing not in failing]
        entries = ((section, entry["name"]) for section, found in self._topology.sections.items() for entry in found)
        place = {key: number for number, key in enumerate(entries)}
        return sorted(causes or problems, key=lambda problem: place.get((problem.section, problem.entry), len(place)))


# What no two rows may share but for their names.
_UNIQUE: dict[type[Model], str] = {
    Port: "bind",
    Service: "path",
    API: "path",
    Certificate: "sha256",
    Registration: "sha256",
}


def _placeholder(model: type[Model]) -> str:
    unique = uuid.uuid4()
    if model is Port:
        return f"[{IPv6Address(unique.int)}]:1"
    return f"/{unique.hex}" if model in (Service, API) else unique.hex


def _place(row: Model) -> tuple[str, str]:
    """Section and name of a row, or of the one that it is part of."""
    owner: Any = getattr(row, "port", row) if type(row) not in KIND_OF else row
    return KIND_OF.get(type(owner), str(owner._meta.verbose_name)), str(getattr(owner, "name", owner))


def _of_validation(section: str, name: str, error: ValidationError) -> list[Problem]:
    if not hasattr(error, "error_dict"):
        return [Problem(section, name, "", message) for message in error.messages]
    return [
        Problem(section, name, FILE_NAMES.get(field_name, field_name), message)
        for field_name, messages in error.message_dict.items()
        for message in messages
    ]
