"""What every noun of the configuration shares: an identity that outlives renaming, and a name that is safe."""

import uuid
from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.core.validators import RegexValidator
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models import Q, Value
from django.utils.translation import gettext, gettext_lazy

from identity.core.names import NAME_PATTERN, is_name

name_validator = RegexValidator(
    rf"\A{NAME_PATTERN}\Z", gettext_lazy("Use letters, digits and _ . - : @ only, 1 to 255 of them."), code="name"
)


class PortNames(models.JSONField):  # type: ignore[type-arg]
    """Names of the ports where alone something may be used; none: everywhere.

    What a port is, and whether there is one of that name, is not known here: `gateway.topology.consistency` sees to it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"default": list, "db_default": Value([], models.JSONField()), "blank": True} | kwargs))

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        if not isinstance(value, list) or not all(isinstance(name, str) and is_name(name) for name in value):
            raise ValidationError(gettext("Give a list of names of ports."))
        if len(set(value)) != len(value):
            raise ValidationError(gettext("A port is named twice; once is enough."))


class PredefinedError(ValidationError):
    """A predefined object was to be deleted or changed in what defines it."""


class _NameIsSafe(models.CheckConstraint):
    """Tried by the pattern itself before a row is written: to ask the database would be three queries a row.

    In migrations it is a `CheckConstraint` like others, and the database holds it against whoever writes by itself.
    """

    def deconstruct(self) -> tuple[str, Any, dict[str, Any]]:
        _, args, kwargs = super().deconstruct()
        return "django.db.models.CheckConstraint", args, kwargs

    def validate(self, model: Any, instance: Any, exclude: Any = None, using: str = DEFAULT_DB_ALIAS) -> None:
        if "name" not in (exclude or ()) and not is_name(instance.name):
            raise ValidationError(self.get_violation_error_message())


class Named(models.Model):
    """A thing that the configuration names. `full_clean` runs on every save, so no path goes around it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(
        max_length=255,
        unique=True,
        validators=[name_validator],
        help_text=gettext_lazy("Letters, digits and _ . - : @"),
    )

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.full_clean()
        super().save(*args, **kwargs)

    # Check constraints that were found to hold, while the others are asked one by one.
    _held: tuple[models.BaseConstraint, ...] = ()

    def validate_constraints(self, exclude: Any = None) -> None:
        """All check constraints are one query where they hold, as they mostly do; else each is asked, for its words."""
        checks = tuple(
            each
            for each in self._meta.constraints
            if isinstance(each, models.CheckConstraint) and not isinstance(each, _NameIsSafe)
        )
        self._held = checks if self._all_hold(checks, exclude) else ()
        try:
            super().validate_constraints(exclude=exclude)
        finally:
            self._held = ()

    def _all_hold(self, checks: tuple[models.CheckConstraint, ...], exclude: Any) -> bool:
        if len(checks) < 2:
            return False
        values = self._get_field_expression_map(meta=self._meta, exclude=exclude)
        try:
            return Q(*(each.condition for each in checks)).check(values)
        except FieldError:  # one of them is about a field that is not to be looked at
            return False

    def get_constraints(self) -> Any:
        return [
            (model, [each for each in constraints if each not in self._held])
            for model, constraints in super().get_constraints()
        ]


def name_is_safe(table: str) -> models.CheckConstraint:
    """The database's own word on names; `table` makes the constraint's name unique."""
    return _NameIsSafe(
        condition=Q(name__regex=rf"^{NAME_PATTERN}$"),
        name=f"{table}_name_is_safe",
        violation_error_message=gettext("Use letters, digits and _ . - : @ only, 1 to 255 of them."),
    )
