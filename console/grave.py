"""Changes before which it is asked again who somebody is, known by what they do and not by where they come from.

A key comes, goes or is another; or somebody is let in who was shut out, by whatever way: unblocked, enabled, or what
shut him out deleted, or made to mean another certificate.
"""

from collections.abc import Iterable

from console.blocking import SWITCHES
from gateway.models import Action, Change
from gateway.topology.entries import KIND_OF, Entry

_SWITCHES = {KIND_OF[model]: switch for model, switch in SWITCHES.items()}
KINDS = ("keystores", *_SWITCHES)


def any_grave(changes: Iterable[Change]) -> bool:
    return any(is_grave(each) for each in changes)


def is_grave(change: Change) -> bool:
    before, after = change.before or {}, change.after or {}
    if change.kind == "keystores":
        return change.action != Action.CHANGED or _keys(before) != _keys(after)
    if change.kind not in _SWITCHES or change.action == Action.ADDED:
        return False
    field, shut = _SWITCHES[change.kind]
    if before.get(field, not shut) != shut:
        return False
    still = change.action == Action.CHANGED and after.get(field, not shut) == shut
    return not still or (change.kind == "certificates" and before.get("certificate") != after.get("certificate"))


def undone(change: Change) -> Change:
    """What undoing it would be."""
    action = {Action.ADDED: Action.REMOVED, Action.REMOVED: Action.ADDED}.get(Action(change.action), change.action)
    name = change.before["name"] if change.before is not None else change.name
    return Change(
        action=action, kind=change.kind, object_id=change.object_id, name=name, before=change.after, after=change.before
    )


def _keys(entry: Entry) -> list[object]:
    return [entry.get("private_key"), (entry.get("next") or {}).get("private_key")]
