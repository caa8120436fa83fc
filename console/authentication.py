"""Operators log in here: the same answer and the same time for every kind of wrong, and an end to guessing."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from console.models import LoginFailure, Operator


class OperatorBackend(BaseBackend):
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> Operator | None:
        if username is None or password is None:
            return None
        operator = Operator.objects.filter(username=username).first()
        if operator is None:
            Operator().set_password(password)  # takes as long as checking one
            return None
        if operator.check_password(password) and operator.is_active:
            return operator
        return None

    def get_user(self, user_id: int) -> Operator | None:
        return Operator.objects.filter(pk=user_id, is_active=True).first()


def _keys(username: str, address: str) -> list[str]:
    return [f"account:{username[:150]}", f"address:{address}"]


def locked_until(username: str, address: str) -> Any:
    """Until when the account, or the address, is refused whatever the password; None when it is not."""
    rows = LoginFailure.objects.filter(key__in=_keys(username, address), locked_until__gt=timezone.now())
    return max((row.locked_until for row in rows if row.locked_until), default=None)


def note_failure(username: str, address: str) -> None:
    """Count a wrong password against the account and the address."""
    now = timezone.now()
    lock = timedelta(seconds=settings.CONSOLE_LOGIN_LOCK_SECONDS)
    with transaction.atomic():
        over = Q(locked_until__lt=now) | Q(locked_until=None, first_at__lt=now - lock)
        LoginFailure.objects.filter(over).delete()
        for key in _keys(username, address):
            row, _ = LoginFailure.objects.select_for_update().get_or_create(key=key, defaults={"first_at": now})
            row.count += 1
            # An address stands for many people behind it; it is given more tries than one account.
            limit = settings.CONSOLE_LOGIN_FAILURES * (1 if key.startswith("account:") else 5)
            row.locked_until = now + lock if row.count >= limit else None
            row.save()


def forget_failures(username: str) -> None:
    LoginFailure.objects.filter(key=f"account:{username[:150]}").delete()
