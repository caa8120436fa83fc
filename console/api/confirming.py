"""What the pages ask again for the password before, told by the change itself: whatever operation makes it, a token
that was not made for it is refused.

A program cannot be asked. Its operator was, when he made the token, and such a token lasts an hour; what runs by
itself for a year is made without it, and does none of this.
"""

from collections.abc import Iterable

from django.db.models import Q

from console.api.operations import Call
from console.blocking import SWITCHES
from gateway.models import Action, Change, ChangeSet
from gateway.topology.entries import KIND_OF, Entry

_SWITCHES = {KIND_OF[model]: switch for model, switch in SWITCHES.items()}


def require_for(call: Call, changes: Iterable[Change]) -> None:
    """Raises Refused; nothing may be kept of the changes then."""
    if any(is_grave(each) for each in changes):
        call.require_confirmed()


def require_for_undoing(call: Call, made: ChangeSet) -> None:
    """The same of a change set that is undone later on, by somebody who cannot ask. Raises Refused."""
    near = made.changes.filter(Q(kind="keystores") | Q(kind__in=_SWITCHES, action=Action.CHANGED))
    require_for(call, (_reversed(each) for each in near.iterator()))


def _reversed(change: Change) -> Change:
    action = {Action.ADDED: Action.REMOVED, Action.REMOVED: Action.ADDED}.get(Action(change.action), change.action)
    return Change(action=action, kind=change.kind, before=change.after, after=change.before)


def is_grave(change: Change) -> bool:
    """Whether a key comes, goes or is another, or somebody who was shut out is let in."""
    if change.kind == "keystores":
        return change.action != Action.CHANGED or _keys(change.before) != _keys(change.after)
    if change.kind in _SWITCHES and change.action == Action.CHANGED:
        field, shut = _SWITCHES[change.kind]
        before, after = ((entry or {}).get(field, not shut) for entry in (change.before, change.after))
        return bool(before == shut and after != shut)
    return False


def _keys(entry: Entry | None) -> list[object]:
    entry = entry or {}
    return [entry.get("private_key"), (entry.get("next") or {}).get("private_key")]
