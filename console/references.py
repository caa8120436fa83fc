"""What refers to an object: shown on its page, and what a deletion is refused for."""

from dataclasses import dataclass

from django.db.models import Model

from console.nouns import label_of, url_of
from gateway.models import API, Service
from gateway.models.guards import ports_naming

LIMIT = 50  # referrers that are shown


@dataclass(frozen=True, slots=True)
class Reference:
    label: str
    url: str | None


def references(row: Model) -> list[Reference]:
    """Objects that name `row`, those that own a part that names it in the part's place."""
    found: dict[tuple[type[Model], object], Model] = {}
    for relation in row._meta.related_objects:
        accessor = relation.get_accessor_name()
        if accessor is None:
            continue
        manager = getattr(row, accessor)
        for other in manager.all()[:LIMIT]:
            owner = getattr(other, "port", None) if type(other).__name__ == "Dial" else other
            if url_of(owner) and owner.pk != row.pk:
                found[type(owner), owner.pk] = owner
    if isinstance(row, Service | API):
        for port in ports_naming(row.name):
            found[type(port), port.pk] = port
    return [Reference(label_of(other), url_of(other)) for other in list(found.values())[:LIMIT]]
