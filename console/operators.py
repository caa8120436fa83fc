"""Operators' one-time passwords: made by commands, shown once, recorded without themselves."""

import secrets
from typing import Any

from django.db import transaction

from console.authentication import forget_failures
from console.models import Operator, Role
from gateway.audit import record_operators

_BYTES = 15  # of randomness: 20 characters


def create(username: str, role: Role, actor: str) -> str:
    """A new operator's password. Raises ValidationError, which names the field."""
    password = secrets.token_urlsafe(_BYTES)
    with transaction.atomic():
        operator = Operator.objects.create_operator(username, password, role)
        record_operators(actor, None, username, None, _entry(operator))
    return password


def renew_password(operator: Operator, actor: str) -> str:
    """The new password. The old one is worth nothing from now on, the operator's sessions and locks are over."""
    password = secrets.token_urlsafe(_BYTES)
    before = _entry(operator)
    with transaction.atomic():
        operator.set_password(password)
        operator.save(update_fields=["password"])
        record_operators(actor, None, operator.username, before, before | {"password": "set anew"})
        forget_failures(operator.username)
    return password


def _entry(row: Operator) -> dict[str, Any]:
    return {"name": row.username, "full_name": row.full_name, "role": row.role, "active": row.is_active}
