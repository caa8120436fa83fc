"""What is done with operators, whoever does it: made, changed, rescued; recorded each time, and never locked out."""

import secrets
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext

from console import sessions, tokens
from console.authentication import forget_failures
from console.models import Authenticator, Operator, Role
from gateway.audit import record_operators

_BYTES = 15  # of randomness: 20 characters


def create(username: str, role: Role, actor: str) -> str:
    """A new operator's password. Raises ValidationError, which names the field."""
    password = secrets.token_urlsafe(_BYTES)
    with transaction.atomic():
        operator = Operator.objects.create_operator(username, password, role, one_time_password=True)
        record_operators(actor, None, username, None, entry_of(operator))
    return password


def renew_password(operator: Operator, actor: str) -> str:
    """The new password. The old one is worth nothing from now on, the operator's sessions and locks are over."""
    password = secrets.token_urlsafe(_BYTES)
    before = entry_of(operator)
    with transaction.atomic():
        operator.set_password(password)
        operator.one_time_password = True
        operator.save(update_fields=["password", "one_time_password"])
        sessions.end_all(operator)
        tokens.revoke_all(operator, actor, None)
        record_operators(actor, None, operator.username, before, before | {"password": "set anew"})
        forget_failures(operator.username)
    return password


def choose_password(operator: Operator, password: str, by: Operator) -> None:
    """Not saved yet. What somebody else has chosen is known to two, and good once."""
    operator.set_password(password)
    operator.one_time_password = operator.pk != by.pk


def changed(
    operator: Operator,
    before: dict[str, Any] | None,
    actor: str,
    address: str | None,
    *,
    new_password: bool,
    but: str | None = None,
) -> None:
    """What follows when an operator was made or changed: recorded, and over what went by what he was.

    Args:
        before: his entry; None of a new one.
        but: key of a session of his that goes on.
    """
    after = entry_of(operator)
    if new_password:
        after |= {"password": "set anew"} if before is not None else {}
        sessions.end_all(operator, but=but)
    record_operators(actor, address, operator.username, before, after)
    if before is not None and (new_password or not operator.is_active):
        tokens.revoke_all(operator, actor, address)


def end_sessions(operator: Operator, actor: str, address: str | None, *, but: str | None = None) -> int:
    """How many there were. `but`: key of one that goes on."""
    return _ended(operator, sessions.end_all(operator, but=but), actor, address)


def end_session(operator: Operator, mark: str, actor: str, address: str | None) -> int:
    """The one that `sessions.of_operator` tells of by this mark; 0 where there is none."""
    return _ended(operator, sessions.end_one(operator, mark), actor, address)


def _ended(operator: Operator, count: int, actor: str, address: str | None) -> int:
    if count:
        entry = entry_of(operator)
        record_operators(actor, address, operator.username, entry, entry | {"sessions_ended": count})
    return count


def bar(operator: Operator, role: str, active: bool, by: Operator) -> str:
    """Why `by` must not give `operator` this role and state; "" where he may.

    Nobody takes access away from himself, and there is an owner who can log in at any time.
    """
    was = Operator.objects.filter(pk=operator.pk).first()
    if was is None:
        return ""
    keeps_owner = role == Role.OWNER and active
    if was.role == Role.OWNER and was.is_active and not keeps_owner and not other_owners(was):
        return gettext("This is the last active owner: make somebody else an owner first.")
    if was.pk == by.pk and role != was.role:
        return gettext("You cannot change your own role: another owner has to do it.")
    if was.pk == by.pk and not active:
        return gettext("You cannot disable yourself: another owner has to do it.")
    return ""


def other_owners(operator: Operator) -> bool:
    """Owners who could log in; the rows are locked, so that two of them cannot go at once.

    Whom an identity provider proves that is not asked here any more could not, but for a passkey of his own.
    """
    owners = Operator.objects.select_for_update().filter(role=Role.OWNER, is_active=True).exclude(pk=operator.pk)
    issuer = settings.CONSOLE_OIDC_ISSUER
    return any(
        row.has_usable_password()
        or (issuer and (row.single_sign_on or "").startswith(f"{issuer} "))
        or row.passkeys.exists()
        for row in list(owners)
    )


def entry_of(row: Operator) -> dict[str, Any]:
    """An operator as the audit log has him; what is empty is left out."""
    factors = [f"passkey {passkey}" for passkey in row.passkeys.order_by("pk")]
    if Authenticator.objects.filter(operator=row).exists():
        factors.insert(0, "authenticator app")
    entry = {"name": row.username, "full_name": row.full_name, "role": row.role, "active": row.is_active}
    if factors:
        entry["second_factors"] = factors
    if row.single_sign_on:
        entry["single_sign_on"] = row.single_sign_on
    return entry
