"""Telling somebody that something ends: by mail, and by a call to a URL; once for each threshold and object.

What is told is claimed first, by inserting its row: of several processes one succeeds, and a row that is there keeps
it told after a restart. A claim whose process died is another's after a while; a delivery that fails gives it back.
"""

import hashlib
import hmac
import http.client
import json
import logging
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse

from console.models import ExpiryNotice
from gateway.expiry import Ending, Endings, Kind, Wanted, horizon, reached

log = logging.getLogger(__name__)

LISTED = 200  # in one message; of the others the number
LEASE = timedelta(minutes=15)  # after which a claim that was not made good is another's
CALL_SECONDS = 10.0
_BATCH = 500


class NotDelivered(Exception):
    """The message did not arrive; the reason in words."""


@dataclass(frozen=True, slots=True)
class Due:
    ending: Ending
    days: int


def notify(now: datetime) -> dict[str, int | str]:
    """Tell what is due, over each channel that is set: channel → how many, or why not."""
    channels: dict[str, Callable[[list[Due], datetime], None]] = {}
    if settings.EXPIRY_MAIL_TO:
        channels["mail"] = send_mail
    if settings.EXPIRY_WEBHOOK:
        channels["webhook"] = call_webhook
    if not channels:
        return {}
    due = due_at(now)
    outcome: dict[str, int | str] = {}
    for channel, deliver in channels.items():
        claim = uuid.uuid4()
        mine = _claim(due, channel, claim, now)
        try:
            if mine:
                deliver(mine, now)
        except NotDelivered as error:
            ExpiryNotice.objects.filter(claim=claim).delete()
            log.error("what ends was not told by %s: %s", channel, error)
            outcome[channel] = str(error)
        else:
            ExpiryNotice.objects.filter(claim=claim).update(sent_at=now)
            outcome[channel] = len(mine)
    return outcome


def due_at(now: datetime) -> Mapping[tuple[str, int], Due]:
    """All that is within a threshold, or is over since not long ago, by key and threshold."""
    found: dict[tuple[str, int], Due] = {}
    for ending in Endings(Wanted(since=now - horizon(), until=now + horizon())):
        days = reached(ending, now)
        if days is not None:
            found[ending.key, days] = Due(ending, days)
    return found


def _claim(due: Mapping[tuple[str, int], Due], channel: str, claim: uuid.UUID, now: datetime) -> list[Due]:
    """What is ours to tell, the nearest end first."""
    ExpiryNotice.objects.filter(channel=channel, sent_at=None, claimed_at__lt=now - LEASE).delete()
    rows = [ExpiryNotice(key=key, days=days, channel=channel, claim=claim, claimed_at=now) for key, days in due]
    ExpiryNotice.objects.bulk_create(rows, batch_size=_BATCH, ignore_conflicts=True)
    ours = ExpiryNotice.objects.filter(claim=claim).values_list("key", "days")
    return sorted((due[key, days] for key, days in ours), key=lambda each: each.ending.ends)


def send_mail(due: list[Due], now: datetime) -> None:
    """Raises NotDelivered."""
    lines = list(_lines(due[:LISTED]))
    if len(due) > LISTED:
        lines.append(f"and {len(due) - LISTED} more")
    if settings.CONSOLE_URL:
        lines += ["", f"All of them: {settings.CONSOLE_URL}{reverse('expiry')}"]
    message = EmailMessage(_subject(due), "\n".join(lines) + "\n", settings.EXPIRY_MAIL_FROM, settings.EXPIRY_MAIL_TO)
    try:
        message.send()
    except OSError as error:  # smtplib's errors are of these
        raise NotDelivered(str(error)) from error


def _subject(due: list[Due]) -> str:
    over = sum(each.days == 0 for each in due)
    soon = len(due) - over
    parts = [f"{over} {'has' if over == 1 else 'have'} ended"] if over else []
    parts += [f"{soon} end{'s' if soon == 1 else ''} soon"] if soon else []
    return f"Postern: {', '.join(parts)}"


def _lines(due: list[Due]) -> Iterator[str]:
    """In groups by threshold, the nearest end first in each; what is over stands before all."""
    group = None
    for each in sorted(due, key=lambda each: each.days):
        if each.days != group:
            if group is not None:
                yield ""
            group = each.days
            yield f"Within {group} day{'' if group == 1 else 's'}:" if group else "Over:"
        yield f"  {_line(each.ending)}"


# What the console calls them, so that somebody finds them there.
_NOUNS = {
    Kind.SERVER: "keystore {name}",
    Kind.CLIENT: "certificate {name}",
    Kind.REGISTRATION: "registration {name}",
    Kind.AUTHORITY: "authority in truststore {name}",
    Kind.CRL: "revocation list in truststore {name}",
    Kind.MACHINE: "machine of node {name}",
}


def _line(ending: Ending) -> str:
    what = _NOUNS[ending.kind].format(name=ending.name)
    whose = f" ({ending.owner})" if ending.owner else ""
    said = f", {ending.description}" if ending.description else ""
    return f"{ending.ends:%Y-%m-%d %H:%M} UTC  {what}{whose}: {ending.subject[:200]}{said}"


def call_webhook(due: list[Due], now: datetime) -> None:
    """Raises NotDelivered."""
    document = {
        "event": "expiry",
        "at": now.isoformat(),
        "count": len(due),
        "endings": [_entry(each) for each in due[:LISTED]],
    }
    body = json.dumps(document).encode()
    url = urlsplit(settings.EXPIRY_WEBHOOK)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "postern",
        "Postern-Signature": signature(body, int(now.timestamp()), settings.EXPIRY_WEBHOOK_SECRET),
    }
    if url.scheme not in ("http", "https") or not url.hostname:
        raise NotDelivered("EXPIRY_WEBHOOK is no http or https URL")
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=CALL_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=CALL_SECONDS)
    try:
        connection.request("POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotDelivered(f"{url.hostname} cannot be called: {error}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise NotDelivered(f"{url.hostname} answers {status}; a status of 200 to 299 is taken for received")


def signature(body: bytes, time: int, secret: str) -> str:
    """`t=TIME,v1=HEX`: whoever has the secret knows that the body is ours, and how old it is."""
    made = hmac.new(secret.encode(), b"%d." % time + body, hashlib.sha256).hexdigest()
    return f"t={time},v1={made}"


def _entry(due: Due) -> dict[str, object]:
    ending = due.ending
    entry: dict[str, object] = {
        "kind": ending.kind.value,
        "name": ending.name,
        "subject": ending.subject,
        "ends": ending.ends.isoformat(),
        "days": due.days,
        "owner": ending.owner,
        "description": ending.description,
    }
    if settings.CONSOLE_URL:
        entry["url"] = settings.CONSOLE_URL + reverse(f"{ending.section}-edit", args=[ending.pk])
    return entry
