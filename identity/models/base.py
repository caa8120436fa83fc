"""What every noun of the configuration shares: an identity that outlives renaming, and a name that is safe."""

import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from identity.core.names import NAME_PATTERN

name_validator = RegexValidator(
    rf"\A{NAME_PATTERN}\Z", "Use letters, digits and _ . - : @ only, 1 to 255 of them.", code="name"
)


class PredefinedError(ValidationError):
    """A predefined object was to be deleted or changed in what defines it."""


class Named(models.Model):
    """A thing that the configuration names. `full_clean` runs on every save, so no path goes around it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(
        max_length=255, unique=True, validators=[name_validator], help_text="Letters, digits and _ . - : @"
    )

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.full_clean()
        super().save(*args, **kwargs)


def name_is_safe(table: str) -> models.CheckConstraint:
    """The database's own word on names; `table` makes the constraint's name unique."""
    return models.CheckConstraint(
        condition=Q(name__regex=rf"^{NAME_PATTERN}$"),
        name=f"{table}_name_is_safe",
        violation_error_message="Use letters, digits and _ . - : @ only, 1 to 255 of them.",
    )
