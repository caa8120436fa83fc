"""Sessions in rows that know their operator, so that they can be listed and ended.

A row is found by a digest of the key that its browser holds: whoever reads the database, or a copy of it, can take
over no login.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as Rows
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext

from console.models import Operator, Session

LOGIN = "login"  # key in a session: how it began
PROVED = "proved_at"  # key in a session: when the operator last proved who he is, seconds since 1970
_NOTED = timedelta(minutes=1)  # how exactly it is known when a session was last used
SHOWN = 100  # sessions of one operator that are listed
_AGENT = 200  # characters of a browser's name that are kept


def digest(key: str) -> str:
    """Under which the session with this key is stored: 160 bits, as many as the column holds."""
    return hashlib.sha256(f"postern session {key}".encode()).hexdigest()[:40]


class SessionStore(Rows):
    """`session_key` is the browser's; rows are looked for by `digest` alone. Django's asynchronous half is not used."""

    seen_at: Any = None

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def _get_session_from_db(self) -> Session | None:
        key: str = self.session_key or ""
        row = Session.objects.filter(pk=digest(key), expire_date__gt=timezone.now()).first()
        if row is None:
            self._session_key = None
        self.seen_at = row.seen_at if row is not None else None
        return row

    def exists(self, session_key: str) -> bool:
        return Session.objects.filter(pk=digest(session_key)).exists()

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(pk=digest(key)).delete()

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        row: Session = super().create_model_instance(data)  # type: ignore[assignment]
        row.session_key = digest(row.session_key)
        operator = data.get(SESSION_KEY)
        row.operator_id = int(operator) if operator is not None else None
        row.seen_at = timezone.now()
        return row


def note_login(sender: Any, request: HttpRequest, user: Operator, **_: Any) -> None:
    """What the list of sessions shows. Connected to Django's signal: no login goes past it."""
    request.session[LOGIN] = {
        "at": time.time(),
        "address": request.META.get("REMOTE_ADDR", ""),
        "agent": request.META.get("HTTP_USER_AGENT", "")[:_AGENT],
        "how": getattr(request, "proved_by", ""),
    }
    request.session[PROVED] = time.time()


def is_over(request: HttpRequest) -> bool:
    """Whether the login is too old, or has not been used for too long; notes that it was used now."""
    session: Any = request.session
    now = timezone.now()
    began = session.get(LOGIN, {}).get("at", 0)
    if time.time() - began > settings.SESSION_COOKIE_AGE:
        return True
    if session.seen_at is None:  # made in this very request
        return False
    if now - session.seen_at > timedelta(seconds=settings.CONSOLE_IDLE_SECONDS):
        return True
    if now - session.seen_at > _NOTED:
        Session.objects.filter(pk=digest(session.session_key)).update(seen_at=now)
    return False


def end_all(operator: Operator, but: str | None = None) -> int:
    """End an operator's sessions; how many there were. `but`: key of one that goes on."""
    rows = Session.objects.filter(operator=operator).exclude(pk=digest(but) if but else "")
    return rows.delete()[0]


def end_one(operator: Operator, mark: str) -> int:
    """1, or 0 where the operator has none of this mark."""
    return Session.objects.filter(operator=operator, pk=mark[:40]).delete()[0]


def remove_expired() -> None:
    Session.objects.filter(expire_date__lt=timezone.now()).delete()


# --- as they are listed ---


# What stands in their names, the most particular first: each claims to be those below it.
_BROWSERS = [("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl")]
_SYSTEMS = [("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"),
            ("Mac OS X", "macOS"), ("Linux", "Linux")]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """One session as its list tells of it. `mark`: names it in a form; no cookie can be made of it."""

    mark: str
    began: datetime
    seen: datetime | None
    address: str
    agent: str
    how: str
    current: bool

    @property
    def browser(self) -> str:
        """As people call it; what is unknown is shown as it calls itself."""
        name = next((name for mark, name in _BROWSERS if mark in self.agent), self.agent[:40] or gettext("unknown"))
        system = next((name for mark, name in _SYSTEMS if mark in self.agent), "")
        return gettext("{browser} on {system}").format(browser=name, system=system) if system else name


def of_operator(operator: Operator, current: str | None = None) -> list[Shown]:
    """Those that go on, the one that was used last first. `current`: key of the one that asks."""
    found, own = [], digest(current or "")
    for row in Session.objects.filter(operator=operator, expire_date__gt=timezone.now()).order_by("-seen_at")[:SHOWN]:
        login = row.get_decoded().get(LOGIN, {})
        began = datetime.fromtimestamp(login.get("at", 0), UTC)
        shown = Shown(
            row.pk, began, row.seen_at, login.get("address", ""), login.get("agent", ""),
            login.get("how", ""), row.pk == own,
        )  # fmt: skip
        found.append(shown)
    return found
