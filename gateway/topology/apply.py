"""File → rows: all of it, or nothing."""

from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from gateway.audit import change_set
from gateway.models import Action, Change, Port, PortType, Registration
from gateway.topology.document import Problem, Topology, TopologyError
from gateway.topology.entries import KIND_OF, SECTIONS
from gateway.topology.fields import FieldError, Fields, problem
from gateway.topology.sections import FILE_NAMES, READERS
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


class _DryRun(Exception):
    """Takes everything back."""


@dataclass(slots=True)
class _Step:
    """One object to write, or, without an entry, to delete."""

    section: str
    name: str
    entry: dict[str, Any] | None
    problems: list[Problem] = field(default_factory=list)


def apply(topology: Topology, *, prune: bool = False, dry_run: bool = False, actor: str = "apply") -> Applied:
    """Make what is stored equal to the file; without `prune` nothing is deleted.

    Raises:
        TopologyError: nothing was changed.
    """
    applied = Applied([])
    try:
        with change_set(actor, "configuration file applied") as recorder:
            _carry_out(_steps(topology, prune), topology)
            rank = {Action.REMOVED: 0, Action.ADDED: 1, Action.CHANGED: 2}
            kinds = list(SECTIONS)
            applied.changes = sorted(
                recorder.changes(), key=lambda c: (rank[Action(c.action)], kinds.index(c.kind), c.name)
            )
            applied.warnings = _warnings()
            if dry_run:
                raise _DryRun
    except _DryRun:
        return applied
    applied.revision = recorder.revision
    return applied


def _steps(topology: Topology, prune: bool) -> list[_Step]:
    steps: list[_Step] = []
    for part in _ORDER:
        section = part.removeprefix("registration ") if part == "registration ports" else part
        for entry in topology.sections.get(section, []):
            if section == "ports" and (entry.get("type") == PortType.REGISTRATION) != (part == "registration ports"):
                continue
            steps.append(_Step(section, entry["name"], entry))
    if prune:
        for section in reversed(SECTIONS):
            kept = {entry["name"] for entry in topology.sections.get(section, [])}
            model = SECTIONS[section]
            rows = model._default_manager.exclude(name__in=kept) if len(kept) < 500 else model._default_manager.all()
            for row in rows:
                if row.name not in kept and not getattr(row, "predefined", False):  # type: ignore[attr-defined]
                    steps.append(_Step(section, row.name, None))  # type: ignore[attr-defined]
    return steps


def _carry_out(steps: list[_Step], topology: Topology) -> None:
    """Try the steps until all are done or none of the rest can be: what stands in one's way may yet move.

    A port that was renamed leaves its address to the next; a group is gone once no ACL names it.
    """
    pending = steps
    while pending:
        left = []
        for step in pending:
            step.problems = _attempt(step, topology)
            if step.problems:
                left.append(step)
        if len(left) == len(pending):
            raise TopologyError([problem for step in left for problem in step.problems])
        pending = left


def _attempt(step: _Step, topology: Topology) -> list[Problem]:
    """What stood in the way; nothing was changed then."""
    section, name = step.section, step.name
    try:
        with transaction.atomic():
            model = SECTIONS[section]
            row = model._default_manager.filter(name=name).first()
            if step.entry is None:
                if row is not None:
                    row.delete()
                return []
            fields = Fields(step.entry, topology.folder)
            READERS[section](row if row is not None else model(name=name), fields)
            if unknown := fields.finish():
                raise _Unknown(unknown)
            return []
    except FieldError as error:
        return [problem(section, name, error)]
    except _Unknown as error:
        return [problem(section, name, each) for each in error.errors]
    except ValidationError as error:
        return _of_validation(section, name, error)
    except ProtectedError as error:
        users = sorted({f"{KIND_OF.get(type(row), row._meta.verbose_name)} {row}" for row in error.protected_objects})
        return [Problem(section, name, "", f"cannot be deleted: still used by {', '.join(users[:5])}")]
    except IntegrityError as error:
        return [Problem(section, name, "", f"the database refuses it: {error}")]


class _Unknown(Exception):
    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__()
        self.errors = errors


def _of_validation(section: str, name: str, error: ValidationError) -> list[Problem]:
    if not hasattr(error, "error_dict"):
        return [Problem(section, name, "", message) for message in error.messages]
    return [
        Problem(section, name, FILE_NAMES.get(field_name, field_name), message)
        for field_name, messages in error.message_dict.items()
        for message in messages
    ]


def _warnings() -> list[str]:
    """What is lawful but odd."""
    found = []
    for registration in Registration.objects.filter(limits_assertions=False):
        found.append(
            f"registrations[{registration.name}]: without may_assert the edge may speak for every trusted certificate"
        )
    for port in Port.objects.filter(type=PortType.EXTERNAL).select_related("registration_port"):
        if port.registration_port and not port.registration_port.registrations.exists():
            found.append(f"ports[{port.name}]: nobody may register at {port.registration_port.name} yet")
        _warn_of_modes(port, found)
    for certificate in Certificate.objects.logging_in().filter(not_after__lt=timezone.now())[:20]:
        found.append(f"certificates[{certificate.name}]: expired on {certificate.not_after:%Y-%m-%d}")
    return found


def _warn_of_modes(port: Port, found: list[str]) -> None:
    """Certificates asked for at one end of a channel and not taken at the other lead nowhere."""
    inner = Port.objects.filter(connect__registration__port=port.registration_port).distinct()
    for other in inner:
        if (port.client_auth == "password") != (other.client_auth == "password"):
            found.append(
                f"ports[{port.name}]: client_auth {port.client_auth}, and {other.name} behind it has "
                f"{other.client_auth}; callers' certificates do not get through"
            )


def describe(change: Change) -> list[str]:
    """A line for the object, and one for each field that changes."""
    mark = {"added": "+", "removed": "-", "changed": "~"}[change.action]
    lines = [f"{mark} {change.kind} {change.name}"]
    if change.action == Action.CHANGED:
        before, after = change.before or {}, change.after or {}
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                lines.append(f"    {name}: {_short(before.get(name))} → {_short(after.get(name))}")
    return lines


def _short(value: object) -> str:
    text = "(none)" if value is None else str(value).replace("\n", " ")
    return text if len(text) <= 80 else f"{text[:77]}…"
