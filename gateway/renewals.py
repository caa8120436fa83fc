"""A keystore's renewal takes over: by hand, or when its time has come. Registrations that know it by its certificate
follow, in an order in which nothing on a tunnel is broken off:

1. the renewal is stored: the registrations admit the next certificate besides (`announce`);
2. the keystore is swapped: the internal node dials with the new certificate, and once those tunnels stand it lets the
   others end with the request that they have (`swap`);
3. no tunnel is left that showed the old certificate: the registrations admit it no longer (`complete`).

Whoever feeds a node asks for renewals that are due; of several that ask at once, one does it.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from django.core.exceptions import ValidationError

from gateway.audit import change_set
from gateway.models import Registration
from identity.core.vault import VaultError
from identity.models import Certificate, Keystore

log = logging.getLogger(__name__)


def prepare(keystore: Keystore, act: Callable[[], None]) -> None:
    """Begin a renewal, give its certificate, or drop it, inside a change set: `act` does it to the keystore itself.

    What was announced of the renewal before is taken back, and what there is now is announced.

    Raises ValidationError, VaultError.
    """
    withdraw(keystore)
    act()
    keystore.save()
    if keystore.renewal == "ready":
        announce(keystore)


def announce(keystore: Keystore) -> list[Registration]:
    """Let the registrations that know the keystore admit its next certificate too, inside a change set; which they are.

    Raises ValidationError.
    """
    leaf = keystore.next_certificates[0]
    following = []
    for row in Registration.objects.known_by(keystore.sha256):
        if row.next_sha256 == keystore.sha256:  # the renewal before this one is not complete yet
            row.renew()
        if leaf.sha256 not in (row.sha256, row.next_sha256):
            row.set_next(leaf)
            row.save()
        if row.next_sha256 == leaf.sha256:
            following.append(row)
    return following


def withdraw(keystore: Keystore) -> None:
    """Take back what was announced, inside a change set: the renewal is to be another, or none."""
    for leaf in keystore.next_certificates[:1]:
        for row in Registration.objects.filter(sha256=keystore.sha256, next_sha256=leaf.sha256):
            row.set_next(None)
            row.save()


def swap(keystore: Keystore) -> list[Registration]:
    """Put the renewal in use, inside a change set; the registrations that know the keystore by both certificates.

    A registration admits the node that holds one of its certificates, and the node shows another from now on: unless
    the registration admits it by then, the node is shut out.

    Raises:
        ValidationError: there is nothing to swap in.
    """
    following = announce(keystore) if keystore.renewal == "ready" else []
    keystore.swap()
    keystore.save()
    return following


def is_swapped(row: Registration) -> bool:
    """Whether all ports that dial as the registration show its next certificate, as far as rows tell."""
    shown = {dial.port.tls_keystore.sha256 for dial in row.dials.all() if dial.port.tls_keystore is not None}
    return shown == {row.next_sha256}


def complete(row: Registration, tunnels: Mapping[str, int] | None, now: datetime) -> bool:
    """Admit the next certificate alone, if nothing is broken off by that; whether it was done.

    Args:
        tunnels: how many stand, by the SHA-256 of the certificate that they showed. None: the edge cannot tell, being
            of the version before, which admits one certificate alone.
    """
    if tunnels is None:
        done = is_swapped(row)
    else:
        # Where nobody is there, an edge of the version before may be keeping him out until this is done.
        comes_by_next = row.next_sha256 in tunnels or (not tunnels and is_swapped(row))
        done = row.not_after < now or (row.sha256 not in tunnels and comes_by_next)
    if not done:
        return False
    with change_set("schedule", f"registration {row}: the certificate before its renewal is admitted no longer"):
        fresh = Registration.objects.select_for_update().filter(pk=row.pk, next_sha256=row.next_sha256).first()
        if fresh is None:  # somebody else was faster
            return False
        fresh.renew()
        fresh.save()
    return True


def known_by_certificate(keystore: Keystore) -> tuple[list[Registration], list[Certificate]]:
    """What means the keystore's present certificate: registrations, which follow a swap, and mappings, which do not."""
    registrations = list(Registration.objects.known_by(keystore.sha256))
    return registrations, list(Certificate.objects.filter(sha256=keystore.sha256).select_related("user"))


def swap_due(now: datetime) -> int:
    """Put in use every renewal whose time has come; how many. One that is refused is logged, and stays as it was."""
    done = 0
    for pk in Keystore.objects.due(now).values_list("pk", flat=True):
        try:
            with change_set("schedule", "keystore renewed at its time"):
                row = Keystore.objects.due(now).select_for_update().filter(pk=pk).first()
                if row is not None:  # else another feed was faster
                    swap(row)
                    done += 1
        except (ValidationError, VaultError) as error:
            log.error("keystore %s is not renewed at its time: %s", pk, error)
    return done
