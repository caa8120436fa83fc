"""Asking a node, wherever it runs: its door is on this machine, its own or the courier's."""

from collections.abc import Container

from django.conf import settings
from django.utils.translation import gettext

from gateway.models import Enrolment
from gateway.relay import control
from gateway.relay.control import ControlError, NotRunning
from gateway.relay.frames import Message
from identity.core.commands import command


def enrolled() -> set[str]:
    """Names of the nodes on machines of their own."""
    return set(Enrolment.objects.enrolled().values_list("node__name", flat=True))


def ask(node: str, message: Message, *, timeout: float, elsewhere: Container[str]) -> Message:
    """Asks no database, so that it can be done beside it.

    Args:
        elsewhere: as `enrolled` tells.
    Raises:
        ControlError: the message is fit for a page.
    """
    try:
        return control.call(settings.POSTERN_STATE_DIR, node, message, timeout=timeout)
    except NotRunning as error:
        if node not in elsewhere:
            raise
        raise ControlError(
            gettext(
                "Node {node} runs on a machine of its own, and nobody carries questions there. "
                "Start {courier}; {serve} runs it too."
            ).format(node=node, courier=command("courier"), serve=command("serve"))
        ) from error
