"""What a row refuses: asked the way that every writer goes, and past it, of the database itself."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model

from gateway.audit import change_set


def refused(row: Any, **changes: Any) -> dict[str, list[str]]:
    """What saving `row` with these fields is refused for, by field; "" for the whole."""
    for name, value in changes.items():
        setattr(row, name, value)
    with pytest.raises(ValidationError) as error, change_set("tests", "refused"):
        row.save()
    found: dict[str, list[str]] = error.value.message_dict if hasattr(error.value, "error_dict") else {}
    return found or {"": error.value.messages}


def refused_by_the_database(row: Model, **changes: Any) -> None:
    """The rule holds past `save()`, too."""
    with pytest.raises(IntegrityError), transaction.atomic():
        type(row)._default_manager.filter(pk=row.pk).update(**changes)
