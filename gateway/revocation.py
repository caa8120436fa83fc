"""Revocation lists fetched from where the configuration says: bounded, checked, and stored only where they changed.

What comes is believed for its signature alone, so plain HTTP will do. A list replaces nothing unless an authority of
its truststore signed it and it is no older than what is there.
"""

import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from gateway import outgoing
from gateway.audit import change_set
from identity.core.chains import load_crl
from identity.core.files import MAX_CRL, crl_from
from identity.models import RevocationFetch, RevocationList, RevocationSource

log = logging.getLogger(__name__)

ACTOR = "crl-fetch"
STALL = 10.0  # seconds for which the other side may say nothing
LONGEST = 60.0  # seconds that one fetch may take, however busy the other side is
AGAIN = 300  # seconds after which a fetch that failed is tried again, or sooner if the source is
_CHUNK = 64 * 1024  # bytes


class FetchError(Exception):
    """No list came, or none that may be taken; the message says why, for people."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Where a list comes from is configured; nobody on the way may say otherwise."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        raise FetchError(f"it answers {code} and sends us to {newurl[:200]}; if that is right, give that URL")


def download(url: str, clock: Callable[[], float] = time.monotonic) -> bytes:
    """What is at `url`, at most `MAX_CRL` bytes of it, where REVOCATION_FROM lets call. Proxies: the environment's.

    Raises:
        FetchError
    """
    ends = clock() + LONGEST
    opener = urllib.request.OpenerDirector()
    try:
        calling = outgoing.handlers(url, settings.REVOCATION_FROM)
    except outgoing.NotAllowed as error:
        raise FetchError(f"it is not fetched: {error}") from error
    for handler in (
        *calling,
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _NoRedirects(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "Postern"})  # noqa: S310
    try:
        with opener.open(request, timeout=STALL) as answer:
            data = bytearray()
            while chunk := answer.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_CRL:
                    raise FetchError(f"it sends more than {MAX_CRL:,} bytes")
                if clock() > ends:
                    raise FetchError(f"it did not come within {LONGEST:.0f} s")
            announced = answer.headers.get("Content-Length", "")
    except urllib.error.HTTPError as error:
        with error:
            raise FetchError(f"it answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, outgoing.NotAllowed):
            raise FetchError(f"it is not fetched: {error.reason}") from error
        raise FetchError(f"it cannot be reached: {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise FetchError(f"it cannot be fetched: {error}") from error
    if announced.isdigit() and len(data) < int(announced):
        raise FetchError(f"it ended after {len(data):,} of {int(announced):,} bytes")
    return bytes(data)


def due(now: datetime) -> list[RevocationSource]:
    """Sources whose time has come: never tried, or not for as long as they say, or as long as a failure waits."""
    found = []
    for source in RevocationSource.objects.select_related("truststore", "fetch"):
        wait = source.every if not source.last.error else min(source.every, AGAIN)
        if source.last.tried_at is None or source.last.tried_at + timedelta(seconds=wait) <= now:
            found.append(source)
    return found


def fetch(source: RevocationSource, now: datetime) -> bool | None:
    """Fetch from a source and note how it went; whether there was another list. None: somebody else is at it.

    Never raises for what the other side does.
    """
    if not _claim(source, now):
        return None
    try:
        changed = _store(source, download(source.url))
    except FetchError as error:
        log.warning("truststore %s: %s: %s", source.truststore, source.url, error)
        RevocationFetch.objects.filter(source=source).update(error=str(error))
        return False
    RevocationFetch.objects.filter(source=source).update(error="", succeeded_at=timezone.now())
    log.info("truststore %s: %s: %s", source.truststore, source.url, "a new list" if changed else "no other list")
    return changed


def _claim(source: RevocationSource, now: datetime) -> bool:
    """Of several that fetch one does, by the row that it could change."""
    RevocationFetch.objects.get_or_create(source=source)
    before = source.last.tried_at
    same = Q(tried_at=before) if before is not None else Q(tried_at__isnull=True)
    return RevocationFetch.objects.filter(same, source=source).update(tried_at=now) == 1


def _store(source: RevocationSource, data: bytes) -> bool:
    """Whether there was another list than the one that is stored. Raises FetchError."""
    try:
        der = crl_from(data)
    except ValueError as error:
        raise FetchError(f"what came is no revocation list: {error}") from error
    if RevocationList.objects.filter(source=source, der=der).exists():
        return False
    with transaction.atomic():
        store = source.truststore
        anchors = [anchor.certificate for anchor in store.certificates.all()]
        try:
            crl = load_crl(der, anchors)
        except ValueError as error:
            raise FetchError(str(error)) from error
        for stored in store.crls.filter(issuer_key__in=["", crl.issuer_spki_sha256], issuer=crl.issuer.text):
            try:
                known = load_crl(bytes(stored.der), anchors)
            except ValueError:  # its authority is gone, or more is asked of lists than was then
                continue
            if (known.issuer_spki_sha256, known.scope) == (crl.issuer_spki_sha256, crl.scope) and crl.age < known.age:
                raise FetchError(f"it sends a list of {crl.issuer} that is older than the one that is here")
        with change_set(ACTOR, f"revocation list of {crl.issuer} fetched from {source.url}"):
            row = RevocationList.objects.filter(source=source).first() or RevocationList(
                truststore=store, source=source
            )
            row.der = der
            row.full_clean()
            row.save()
    return True
