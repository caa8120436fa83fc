"""Operators log in here: the same answer and the same time for every kind of wrong, and an end to guessing."""

import logging
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from console.models import KnownAddress, LoginFailure, Operator
from gateway.audit import record_event
from gateway.models import Action, Change

log = logging.getLogger("postern.login")


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


# --- an end to guessing ---
#
# Counted is who guesses, so that nobody is locked out by somebody else's guesses: the pair of account and address,
# the address, and, for guesses that come from everywhere, the account; that one holds only where the operator has
# never logged in from.

_ADDRESS_TIMES = 5  # an address stands for many people behind it
_ACCOUNT_TIMES = 20
_KNOWN = timedelta(days=90)  # for how long an address is remembered


def _network(address: str) -> str:
    """Whom an address stands for: of IPv6 everybody has 2^64."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:64]
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def _limits(username: str, address: str) -> dict[str, int]:
    """What is counted, and how many failures each may have."""
    limit, network = settings.CONSOLE_LOGIN_FAILURES, _network(address)
    return {
        f"pair:{username[:150]}|{network}": limit,
        f"address:{network}": limit * _ADDRESS_TIMES,
        f"account:{username[:150]}": limit * _ACCOUNT_TIMES,
    }


def locked_until(username: str, address: str) -> datetime | None:
    """Until when this account is refused at this address whatever the proof; None when it is not."""
    keys = set(_limits(username, address))
    known = KnownAddress.objects.filter(operator__username=username, address=_network(address))
    if known.filter(seen_at__gt=timezone.now() - _KNOWN).exists():
        keys.discard(f"account:{username[:150]}")
    rows = LoginFailure.objects.filter(key__in=keys, locked_until__gt=timezone.now())
    return max((row.locked_until for row in rows if row.locked_until), default=None)


def note_failure(username: str, address: str) -> None:
    """Count a wrong proof: a password, a code, a passkey."""
    log.info("wrong proof for %s from %s", _known_name(username), address)
    with transaction.atomic():
        for key, until in _count(_limits(username, address)):
            _tell(key, username, address, until)


def _count(limits: dict[str, int]) -> list[tuple[str, datetime]]:
    """One more of each; those that have reached their limit by it, and until when they are refused."""
    now = timezone.now()
    lock = timedelta(seconds=settings.CONSOLE_LOGIN_LOCK_SECONDS)
    LoginFailure.objects.filter(Q(locked_until__lt=now) | Q(locked_until=None, first_at__lt=now - lock)).delete()
    reached = []
    for key, limit in limits.items():
        row, _ = LoginFailure.objects.select_for_update().get_or_create(key=key, defaults={"first_at": now})
        row.count += 1
        row.locked_until = now + lock if row.count >= limit else None
        row.save()
        if row.count == limit and row.locked_until is not None:
            reached.append((key, row.locked_until))
    return reached


def _known_name(username: str) -> str:
    """What was typed as a name is told only where it is one: it may be a password."""
    return username if Operator.objects.filter(username=username).exists() else "somebody unknown"


def _tell(key: str, username: str, address: str, until: Any) -> None:
    """That somebody is refused for a while. An account that is guessed at from everywhere is recorded; that happens
    once in its time."""
    known = Operator.objects.filter(username=username).exists()
    log.warning("too many wrong proofs for %s from %s", _known_name(username), address)
    if known and key.startswith("account:"):
        after = {"name": username, "refused_where_unknown_until": f"{until:%Y-%m-%d %H:%M:%S} UTC"}
        change = Change(action=Action.CHANGED, kind="operators", name=username, before={"name": username}, after=after)
        record_event("console", f"too many wrong proofs for {username}", address or None, change)


def note_success(operator: Operator, address: str) -> None:
    """What was wrong at this address before is forgotten, and the address is known from now on."""
    now, network = timezone.now(), _network(address)
    LoginFailure.objects.filter(key=f"pair:{operator.username[:150]}|{network}").delete()
    operator.known_addresses.filter(seen_at__lt=now - _KNOWN).delete()
    KnownAddress.objects.update_or_create(operator=operator, address=network, defaults={"seen_at": now})


def forget_failures(username: str) -> None:
    """Of one account, everywhere: it has a new password."""
    name = username[:150]
    LoginFailure.objects.filter(Q(key=f"account:{name}") | Q(key__startswith=f"pair:{name}|")).delete()


# --- wrong tokens ---
#
# They are too long to be guessed; who sends many keeps the console busy, and is refused unheard for a while. It is
# counted apart from passwords: a program that has lost its token locks no operator out.


def _of_tokens(address: str) -> dict[str, int]:
    return {f"token:{_network(address)}": settings.CONSOLE_LOGIN_FAILURES * _ADDRESS_TIMES}


def tokens_locked_until(address: str) -> datetime | None:
    """Until when no token is taken from this address; None when they are."""
    rows = LoginFailure.objects.filter(key__in=_of_tokens(address), locked_until__gt=timezone.now())
    return max((row.locked_until for row in rows if row.locked_until), default=None)


def note_wrong_token(address: str) -> None:
    """Count one that nobody was ever given."""
    log.info("wrong token from %s", address)
    with transaction.atomic():
        for _ in _count(_of_tokens(address)):
            log.warning("too many wrong tokens from %s", address)
