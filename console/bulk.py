"""What may be done to several objects of one kind at once: each action is what the object's own page does.

Knows rows; a view asks, confirms and records it as one change.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, ProtectedError
from django.utils.translation import gettext, gettext_lazy

from console.blocking import throw
from console.nouns import label_of
from console.references import references
from identity.models import Group
from identity.models.users import check_membership

MOST = 500  # objects in one change


@dataclass(frozen=True, slots=True)
class Action:
    """`done`: as in "3 users disabled". `danger`: somebody is shut out, or something is gone."""

    key: str
    label: str
    done: str
    act: Callable[[Any, Group | None], None]
    danger: bool = False
    wants_group: bool = False


class Refused(Exception):
    """Nothing was changed; the message names the object, and says why."""


def _block(row: Any, group: Group | None) -> None:
    throw(row, block=True)


def _unblock(row: Any, group: Group | None) -> None:
    throw(row, block=False)


def _delete(row: Any, group: Group | None) -> None:
    if getattr(row, "predefined", False):
        raise ValidationError(gettext("it is predefined"))
    row.delete()


def _add_to(row: Any, group: Group | None) -> None:
    assert group is not None
    check_membership(row, [group])
    row.groups.add(group)


def _remove_from(row: Any, group: Group | None) -> None:
    assert group is not None
    row.groups.remove(group)


DELETE = Action("delete", gettext_lazy("Delete"), "deleted", _delete, danger=True)
BLOCKING = (
    Action("block", gettext_lazy("Block"), "blocked", _block, danger=True),
    Action("unblock", gettext_lazy("Unblock"), "unblocked", _unblock),
)
SWITCHING = (
    Action("block", gettext_lazy("Disable"), "disabled", _block, danger=True),
    Action("unblock", gettext_lazy("Enable"), "enabled", _unblock),
)
MEMBERSHIP = (
    Action("join", gettext_lazy("Add to a group"), "added to a group", _add_to, wants_group=True),
    Action("leave", gettext_lazy("Take out of a group"), "taken out of a group", _remove_from, wants_group=True),
)


def carry_out(action: Action, rows: Iterable[Any], group: Group | None) -> None:
    """To be called inside a change set, which is lost as a whole by what this raises.

    Raises:
        Refused
    """
    for row in rows:
        try:
            action.act(row, group)
        except ProtectedError as error:
            words = gettext("{row} cannot be deleted: {other} refers to it.")
            raise Refused(words.format(row=row, other=_named(error.protected_objects))) from error
        except ValidationError as error:
            raise Refused(f"{row}: {' '.join(error.messages)}") from error


def _named(rows: Iterable[Any]) -> str:
    return label_of(next(iter(rows)))


def done_words(action: Action, model: type[Model], count: int, group: Group | None) -> str:
    """What was done, for the audit log: "3 users disabled"."""
    what = str(model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural)
    return f"{count} {what} {action.done.replace('a group', f'group {group}')}"


def kept_by(action: Action, rows: Sequence[Any]) -> list[str]:
    """Why some cannot be deleted, told before anybody tries."""
    if action is not DELETE or len(rows) > 20:  # asked one by one
        return []
    return [
        gettext("{row} is referred to by {others}.").format(
            row=row, others=", ".join([*(each.label for each in found[:3]), *(["…"] if len(found) > 3 else [])])
        )
        for row in rows
        if (found := references(row))
    ]
