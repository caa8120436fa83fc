"""Tokens: made, shown once, recognised, revoked; what was done with each is recorded."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from console.models import CONFIRMED, PERMISSIONS, Operator, Token
from console.pace import spend_call
from gateway.audit import record_event
from gateway.models import Action, Change

PREFIX = "postern_"  # by which scanners find one that was published
_BYTES = 32  # of randomness: a fast hash is enough for what nobody can guess
MOST = 50  # of one operator that stand
_NOTED = timedelta(minutes=1)  # how exactly it is known when one was last used


def create(
    operator: Operator, name: str, scopes: Iterable[str], lifetime: timedelta, address: str | None
) -> tuple[Token, str]:
    """A new token and its text, which is nowhere from then on. Raises ValidationError, which names the field."""
    now = timezone.now()
    wanted = set(scopes)
    permissions = wanted - {CONFIRMED}
    if not permissions or not all(each in PERMISSIONS and operator.may(each) for each in permissions):
        raise ValidationError({"scopes": gettext("Choose one at least, of those that you have yourself.")})
    if not timedelta() < lifetime <= Token.LONGEST:
        raise ValidationError(
            {"expires": gettext("A token lasts {days} days at most.").format(days=Token.LONGEST.days)}
        )
    if CONFIRMED in wanted and lifetime > Token.LONGEST_CONFIRMED:
        raise ValidationError(
            {"expires": gettext("With the scope {scope} a token lasts an hour at most.").format(scope=CONFIRMED)}
        )
    text = PREFIX + secrets.token_urlsafe(_BYTES)
    token = Token(operator=operator, name=name, digest=_digest(text), made_at=now, expires_at=now + lifetime)
    token.scopes = [each for each in (*PERMISSIONS, CONFIRMED) if each in wanted]
    with transaction.atomic():
        Token.objects.filter(operator=operator, expires_at__lte=now, revoked_at=None).update(revoked_at=now)
        if Token.objects.filter(operator=operator).standing(now).count() >= MOST:
            raise ValidationError(gettext("You have {most} tokens; revoke one that nobody needs.").format(most=MOST))
        token.full_clean()
        token.save()
        _record(operator.username, address, token, Action.ADDED, None, entry_of(token))
    return token, text


def revoke(token: Token, actor: str, address: str | None) -> bool:
    """False where it was revoked already."""
    with transaction.atomic():
        if not Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
            return False
        _record(actor, address, token, Action.REMOVED, entry_of(token), None)
    return True


def revoke_all(operator: Operator, actor: str, address: str | None) -> int:
    """Those of an operator that stand; how many there were."""
    standing = operator.tokens.standing(timezone.now())
    return sum(revoke(token, actor, address) for token in standing)


def known(text: str) -> Token | None:
    """The token of this text, whatever has become of it since."""
    if not text.startswith(PREFIX):
        return None
    return Token.objects.select_related("operator").filter(digest=_digest(text)).first()


def note_use(token: Token, address: str | None, now: datetime) -> None:
    """That it is used, and once more. Raises TooOften."""
    is_news = token.used_at is None or token.used_at < now - _NOTED
    spend_call(token, now.timestamp(), **({"used_at": now, "used_from": address} if is_news else {}))


def entry_of(token: Token) -> dict[str, Any]:
    """A token as the audit log has it."""
    return {
        "name": token.name,
        "operator": token.operator.username,
        "scopes": token.scopes,
        "expires": f"{token.expires_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _record(actor: str, address: str | None, token: Token, action: Action, before: Any, after: Any) -> None:
    change = Change(action=action, kind="tokens", name=token.name, object_id=str(token.pk), before=before, after=after)
    done = "made" if action == Action.ADDED else "revoked"
    record_event(actor, f"token {token.name} of operator {token.operator} {done}", address, change)
