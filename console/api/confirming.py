"""What the pages ask again for the password before, told by the change itself: whatever operation makes it, a token
that was not made for it is refused.

A program cannot be asked. Its operator was, when he made the token, and such a token lasts an hour; what runs by
itself for a year is made without it, and does none of this.
"""

from collections.abc import Iterable

from console.api.operations import Call
from console.grave import KINDS, any_grave, undone
from gateway.models import Change, ChangeSet


def require_for(call: Call, changes: Iterable[Change]) -> None:
    """Raises Refused; nothing may be kept of the changes then."""
    if not call.token.is_confirmed and any_grave(changes):
        call.require_confirmed()


def require_for_undoing(call: Call, made: ChangeSet) -> None:
    """The same of a change set that is undone later on, by a worker. Raises Refused."""
    require_for(call, (undone(each) for each in made.changes.filter(kind__in=KINDS).iterator()))
