"""What refers to an object: shown on its page, and what a deletion is refused for."""

from dataclasses import dataclass

from django.db.models import Model
from django.utils.translation import gettext

from console.nouns import TITLES, label_of, url_of
from gateway.models import API, Dial, Port, Service
from gateway.models.guards import limited_to_ports, ports_naming
from gateway.topology.entries import KIND_OF

READ = 50  # referrers of one relation that are read; a user may have 100,000 certificates
SHOWN = 12  # referrers of one kind that are named


@dataclass(frozen=True, slots=True)
class Reference:
    label: str
    url: str | None


def references(row: Model) -> list[Reference]:
    """Objects that name `row`; one that owns a part that names it stands in the part's place.

    Of many of one kind the first are named, and the last entry tells how many more there are.
    """
    by_kind: dict[type[Model], dict[object, Model]] = {}
    beyond: dict[type[Model], int] = {}
    for other in _referrers(row, beyond):
        if other.pk != row.pk and type(other) in KIND_OF:
            by_kind.setdefault(type(other), {})[other.pk] = other
    found: list[Reference] = []
    for model, rows in by_kind.items():
        named = sorted(rows.values(), key=str)
        found += [Reference(label_of(other), url_of(other)) for other in named[:SHOWN]]
        if (more := len(named) - SHOWN + beyond.get(model, 0)) > 0:
            found.append(
                Reference(gettext("and {more} more: {kind}").format(more=more, kind=TITLES[KIND_OF[model]]), None)
            )
    return found


def _referrers(row: Model, beyond: dict[type[Model], int]) -> list[Model]:
    """The first of each relation; how many there are besides is added to `beyond`."""
    found: list[Model] = []
    for relation in row._meta.related_objects:
        manager = getattr(row, relation.get_accessor_name() or "", None)
        if manager is None or relation.one_to_one:  # its own machine and status go with it
            continue
        if relation.related_model is Dial:
            found += [dial.port for dial in manager.select_related("port")]
            continue
        others = list(manager.all()[:READ])
        if len(others) == READ:
            beyond[type(others[0])] = beyond.get(type(others[0]), 0) + manager.count() - READ
        found += others
    if isinstance(row, Service | API):
        found += ports_naming(row.name)
    elif isinstance(row, Port):
        found += limited_to_ports(row.name)
    return found
