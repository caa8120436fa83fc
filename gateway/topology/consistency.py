"""What names a changed object must still be valid: a model's `clean` sees its own row alone.

A node that becomes internal still has its external port; a registration port that is turned into another kind still
has its registrations; an authority that is gone from every truststore is still the issuer of a mapping rule;
a port that is gone is still the one where alone a user may be used.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.translation import gettext

from gateway.models import API, Dial, Endpoint, Node, Port, Registration
from gateway.models.guards import LIMITED_TO_PORTS, limited_to_ports
from identity.models import MappingRule, TrustedCertificate, Truststore


class Inconsistent(ValidationError):
    """`found`: each object that became invalid, with what is wrong with it."""

    def __init__(self, found: list[tuple[Model, ValidationError]]) -> None:
        super().__init__([f"{row._meta.verbose_name} {row}: {' '.join(error.messages)}" for row, error in found])
        self.found = found


@dataclass(frozen=True, slots=True)
class Touched:
    """An object that was written, as it was and as it is. `row`: None once it is gone."""

    model: type[Model]
    pk: Any
    row: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def differs(self, *fields: str) -> bool:
        """Whether the object was there before, still is, and one of these fields changed."""
        if self.before is None or self.after is None:
            return False
        return any(self.before.get(field) != self.after.get(field) for field in fields)


def check(touched: Iterable[Touched]) -> None:
    """Raises Inconsistent where a change left something invalid that names what was changed."""
    touched = list(touched)
    found: dict[Model, ValidationError] = {}
    stores_changed = False
    for each in touched:
        stores_changed |= each.model is Truststore and each.before is not None
        for row in _dependents(each):
            if row not in found:
                try:
                    row.full_clean()
                except ValidationError as error:
                    found[_owner(row)] = error
    found |= _unknown_ports(touched)
    if stores_changed:
        found |= _rules_without_issuer()
    if found:
        raise Inconsistent(list(found.items()))


def _dependents(touched: Touched) -> Iterable[Model]:
    """Rows whose validity hangs on what changed in this one."""
    row, model = touched.row, touched.model
    if model is Node and touched.differs("role"):
        yield from Port.objects.filter(node=row)
        yield from API.objects.filter(node=row)
        yield from Registration.objects.filter(node=row)
    elif model is Port and touched.differs("type", "node"):
        yield from Port.objects.filter(registration_port=row)
        yield from Registration.objects.filter(port=row)
        yield from Endpoint.objects.filter(registration_port=row)
        yield from API.objects.filter(endpoint__registration_port=row)
        yield from Dial.objects.filter(port=row)
    elif model is Registration and touched.differs("node"):
        yield from Dial.objects.filter(registration=row)
    elif model is Endpoint and touched.differs("url"):
        yield from API.objects.filter(endpoint=row)


def _owner(row: Model) -> Model:
    return row.port if isinstance(row, Dial) else row


def _unknown_ports(touched: list[Touched]) -> dict[Model, ValidationError]:
    """What is limited to a port that there is not: it would be usable nowhere, or where the next of that name is."""
    rows: dict[Model, None] = {}
    if any(each.model is Port and (each.differs("name") or each.after is None) for each in touched):
        rows = dict.fromkeys(limited_to_ports())
    for each in touched:
        if each.model in LIMITED_TO_PORTS and each.after is not None and each.after.get("ports"):
            rows[each.row] = None
    if not rows:
        return {}
    known = set(Port.objects.values_list("name", flat=True))
    return {
        row: ValidationError(
            {
                "ports": gettext("There is no port {names}; name another, or take it off.").format(
                    names=", ".join(unknown)
                )
            }
        )
        for row in rows
        if (unknown := [name for name in row.ports if name not in known])  # type: ignore[attr-defined]
    }


def _rules_without_issuer() -> dict[Model, ValidationError]:
    rules = list(MappingRule.objects.exclude(issuer_spki_sha256=""))
    if not rules:
        return {}
    held = {anchor.certificate.spki_sha256 for anchor in TrustedCertificate.objects.iterator()}
    return {
        rule: ValidationError(
            {
                "issuer": gettext(
                    "No truststore would hold {issuer} any more; keep it, or change the rule first."
                ).format(issuer=rule.issuer)
            }
        )
        for rule in rules
        if rule.issuer_spki_sha256 not in held
    }
