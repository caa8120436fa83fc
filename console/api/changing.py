"""Changing the configuration: the same change set whatever the operation, made, or looked at and taken back."""

from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from console.access import TOUCHING
from console.api import confirming
from console.api.operations import Call
from console.api.problems import Refused, of_topology, of_validation
from console.api.reading import Query
from console.veil import veiled_change
from gateway import unconfirmed
from gateway.access.changes import Callers, Effect, Outlook, RunsAs, outlook
from gateway.audit import Recorder, change_set
from gateway.core.document import SnapshotError
from gateway.models import Change
from gateway.topology.apply import in_order, telling_problems
from gateway.topology.document import TopologyError
from identity.core.vault import VaultError

DRY_RUN = Query("dry_run", {"type": "boolean"}, "Tell what would change, and for whom, and change nothing.")
SHOWN = 500  # changes that are listed

Act = Callable[[Recorder], object]


def carry_out(
    call: Call,
    message: str,
    act: Act,
    sections: Iterable[str],
    *,
    section: str = "",
    name: str = "",
    status: int = 422,
    warnings: Callable[[], list[str]] = list,
    goes_back: bool = False,
    asks: bool = True,
) -> dict[str, Any]:
    """What was changed, or of a dry run what would be.

    Args:
        sections: kinds that `act` may change.
        section, name: the entry that the request is about.
        status: of the refusal where `act` cannot be done.
        warnings: asked once `act` is done, inside the change set.
        goes_back: whether the change waits to be confirmed.
        asks: whether a token has to be made for what is grave; not where it was asked for that already.
    Raises:
        Refused
    """
    message = call.message(message)
    told: list[str] = []
    held: list[Recorder] = []

    def change() -> None:
        with change_set(call.actor, message, call.address) as recorder:
            act(recorder)
            told.extend(warnings())
            held.append(recorder)

    seen = None
    try:
        with telling_problems():
            if not call.dry_run:
                with transaction.atomic():
                    change()
                    if asks:
                        confirming.require_for(call, held[-1].changes)
                    if goes_back and held[-1].revision is not None:
                        unconfirmed.wait(held[-1].revision)
            elif TOUCHING.isdisjoint(sections):
                _taken_back(call, change)
            else:
                try:
                    seen = outlook(change, call.actor)
                except (SnapshotError, VaultError) as error:
                    told, held = [], []
                    _taken_back(call, change)
                    told.append(f"What would change for whom cannot be told: {error}")
    except TopologyError as error:
        raise of_topology(error.problems, section, name, status=status) from error
    except ValidationError as error:
        raise of_validation(error, status=status) from error
    except VaultError as error:
        raise Refused(409, "sealed", f"What is sealed cannot be opened; nothing was changed. {error}") from error
    recorder = held[-1]
    return outcome(call, recorder.changes, recorder.revision, warnings=told, seen=seen)


def _taken_back(call: Call, change: Callable[[], None]) -> None:
    with change_set(call.actor, "looked at, and taken back", call.address, dry_run=True):
        change()


def outcome(
    call: Call,
    changes: Iterable[Change],
    revision: int | None,
    *,
    warnings: Iterable[str] = (),
    seen: Outlook | None = None,
) -> dict[str, Any]:
    ordered = in_order(changes)
    return {
        "dry_run": call.dry_run,
        "revision": revision,
        "changes": [change_of(each, call.token.may) for each in ordered[:SHOWN]],
        "more": max(0, len(ordered) - SHOWN),
        "warnings": list(warnings),
        "access": _outlook(seen) if seen is not None else None,
    }


def change_of(change: Change, may: Callable[[str], bool]) -> dict[str, Any]:
    """As the audit log has it: secrets by their fingerprints, as far as they are told to who asks."""
    before, after = veiled_change(change.kind, change.before, change.after, may)
    return {
        "action": str(change.action),
        "section": change.kind,
        "name": change.name,
        "before": before,
        "after": after,
    }


# --- what would change for whom ---


def _outlook(found: Outlook) -> dict[str, Any]:
    return {
        "effects": [_effect(each) for each in found.effects],
        "identities": [_runs_as(each) for each in found.identities],
        "unexamined": found.unexamined,
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "gained": effect.gained,
        "port": effect.port,
        "callers": _callers(effect.callers),
        "credentials": [str(each) for each in effect.credentials],
        "reason": code(effect.reason),
        "services": list(effect.labels),
        "places": effect.places,
        "partly": effect.partly,
    }


def _runs_as(change: RunsAs) -> dict[str, Any]:
    return {
        "callers": _callers(change.callers),
        "port": change.port,
        "before": code(change.before),
        "after": code(change.after),
    }


def _callers(callers: Callers) -> dict[str, Any]:
    return {"kind": callers.kind, "count": callers.count, "names": list(callers.names)}


def code(reason: Any) -> str | None:
    """A reason's code, or the name that stands in its place."""
    return None if reason is None else str(getattr(reason, "value", reason))
