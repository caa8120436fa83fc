"""Second factors of an operator: taken on, proved, taken away. Everything is recorded, nothing of it shown."""

import hashlib
import secrets
import time

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from console import sessions, tokens, totp
from console.models import Authenticator, Operator, Passkey, RecoveryCode
from console.operators import entry_of
from gateway.audit import record_operators
from identity.core.vault import VaultError
from identity.models import sealing

CODES = 10  # recovery codes of one operator
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that reads like something else
_GROUPS, _LENGTH = 6, 4  # of characters: 118 bits, so that a plain hash keeps them


class FactorNeeded(Exception):
    """It is the last one, and the installation requires one."""


def is_required() -> bool:
    return settings.CONSOLE_SECOND_FACTOR == "required"


# --- proving ---


def prove_code(operator: Operator, given: str) -> str:
    """How the operator proved himself, in words; "" where the code is wrong. Each code is good once."""
    text = "".join(given.split()).replace("-", "").lower()
    if text.isdecimal() and text.isascii() and len(text) == totp.DIGITS:
        return "authenticator app" if _prove_app(operator, text) else ""
    used = RecoveryCode.objects.filter(operator=operator, digest=_digest(text), used_at=None)
    # By its row count: of two at once one is let in.
    return "recovery code" if used.update(used_at=timezone.now()) else ""


def _prove_app(operator: Operator, given: str) -> bool:
    row = Authenticator.objects.filter(operator=operator).first()
    if row is None:
        return False
    try:
        secret = sealing.open_sealed(row, "secret")
    except VaultError:
        return False
    step = totp.step_of(secret, given, now=time.time(), after=row.last_step)
    if step is None:
        return False
    return bool(Authenticator.objects.filter(pk=row.pk, last_step__lt=step).update(last_step=step))


def note_use(passkey: Passkey) -> bool:
    """Whether the passkey's counter could be moved on; of two answers at once one is taken."""
    rows = Passkey.objects.filter(pk=passkey.pk)
    if passkey.counter:
        rows = rows.filter(counter__lt=passkey.counter)
    return bool(rows.update(counter=passkey.counter, used_at=timezone.now()))


# --- taking on, taking away ---


def add_authenticator(operator: Operator, secret: bytes, step: int, actor: str, address: str | None) -> None:
    """`step`: of the code that proved that the app has the secret; it is not taken again."""
    before = entry_of(operator)
    with transaction.atomic():
        Authenticator.objects.filter(operator=operator).delete()
        row = Authenticator(operator=operator, last_step=step)
        sealing.seal(row, "secret", secret)
        row.save(force_insert=True)
        record_operators(actor, address, operator.username, before, entry_of(operator))


def add_passkey(passkey: Passkey, actor: str, address: str | None) -> None:
    before = entry_of(passkey.operator)
    with transaction.atomic():
        passkey.save()
        record_operators(actor, address, passkey.operator.username, before, entry_of(passkey.operator))


def remove(operator: Operator, factor: Authenticator | Passkey, actor: str, address: str | None) -> None:
    """Raises FactorNeeded."""
    before = entry_of(operator)
    with transaction.atomic():
        factor.delete()
        if not operator.has_second_factor:
            if is_required():
                raise FactorNeeded(
                    gettext(
                        "This is your last second factor, and this installation requires one. Add another one first."
                    )
                )
            operator.recovery_codes.all().delete()
        record_operators(actor, address, operator.username, before, entry_of(operator))


def remove_all(operator: Operator) -> None:
    """By who records it: an owner, or the rescue command."""
    Authenticator.objects.filter(operator=operator).delete()
    operator.passkeys.all().delete()
    operator.recovery_codes.all().delete()


def take_away(operator: Operator, actor: str, address: str | None) -> None:
    """Of one who has lost them, by an owner: he is logged out, and his tokens are worth nothing."""
    before = entry_of(operator)
    with transaction.atomic():
        remove_all(operator)
        sessions.end_all(operator)
        tokens.revoke_all(operator, actor, address)
        record_operators(actor, address, operator.username, before, entry_of(operator))


def new_recovery_codes(operator: Operator, actor: str, address: str | None) -> list[str]:
    """Shown this once; the former ones are worth nothing from now on."""
    codes = [_new_code() for _ in range(CODES)]
    before = entry_of(operator)
    with transaction.atomic():
        operator.recovery_codes.all().delete()
        RecoveryCode.objects.bulk_create(
            RecoveryCode(operator=operator, digest=_digest(each.replace("-", ""))) for each in codes
        )
        after = entry_of(operator) | {"recovery_codes": "made anew"}
        record_operators(actor, address, operator.username, before, after)
    return codes


def _new_code() -> str:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(_GROUPS))
    return "-".join(groups)


def _digest(text: str) -> str:
    return hashlib.sha256(f"postern recovery code {text}".encode()).hexdigest()
