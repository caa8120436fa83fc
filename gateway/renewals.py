"""A keystore's renewal takes over: by hand, or when its time has come. What knows it by its certificate follows.

Whoever feeds a node asks for what is due; of several that ask at once, one does it.
"""

import logging
from datetime import datetime

from django.core.exceptions import ValidationError

from gateway.audit import change_set
from gateway.models import Registration
from identity.core.vault import VaultError
from identity.models import Certificate, Keystore

log = logging.getLogger(__name__)


def swap(keystore: Keystore) -> list[Registration]:
    """Put the renewal in use, inside a change set; the registrations that followed.

    A registration admits the node that holds one certificate, and the node shows another from now on: unless both
    change at once, it is shut out.

    Raises:
        ValidationError: there is nothing to swap in.
    """
    followers = list(Registration.objects.filter(sha256=keystore.sha256))
    keystore.swap()
    keystore.save()
    for registration in followers:
        registration.set_certificate(keystore.certificate)
        registration.save()
    return followers


def known_by_certificate(keystore: Keystore) -> tuple[list[Registration], list[Certificate]]:
    """What means the keystore's present certificate: registrations, which follow a swap, and mappings, which do not."""
    registrations = list(Registration.objects.filter(sha256=keystore.sha256))
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
