"""Passkeys: WebAuthn by python-fido2; what the browser is asked, and whether its answer holds.

The device verifies its user (PIN, finger, face) each time, so a passkey is both factors at once.
"""

import json
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext
from fido2.rpid import verify_rp_id
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from console.models import Operator, Passkey

MAX_ANSWER = 32 * 1024  # characters of a browser's answer
_VERIFIED = UserVerificationRequirement.REQUIRED


class PasskeyRefused(Exception):
    """The answer does not hold. Says why in words."""


def name_of(host: str) -> str:
    """The console's name, without the port: what passkeys are bound to."""
    return host if host.endswith("]") else host.rsplit(":", 1)[0]


def _server(host: str) -> Fido2Server:
    """Stricter than browsers are: a page of a host below ours, or at another port, is not the console."""
    name = name_of(host)

    def is_ours(origin: str) -> bool:
        return urlsplit(origin).netloc == host and verify_rp_id(name, origin)

    return Fido2Server(PublicKeyCredentialRpEntity(name="Postern", id=name), verify_origin=is_ours)


def of(operator: Operator, host: str) -> list[Passkey]:
    """The passkeys that work at this host."""
    return list(operator.passkeys.filter(host=name_of(host)))


def _credentials(operator: Operator | None, host: str) -> list[AttestedCredentialData] | None:
    return [AttestedCredentialData(bytes(row.credential)) for row in of(operator, host)] if operator else None


def ask_to_make(operator: Operator, host: str) -> tuple[str, dict[str, Any]]:
    """What the browser is asked, as JSON, and what has to be remembered for the answer.

    Args:
        host: the console as the browser calls it, with the port where it names one.
    """
    options, state = _server(host).register_begin(
        PublicKeyCredentialUserEntity(
            id=f"postern operator {operator.pk}".encode(), name=operator.username, display_name=operator.username
        ),
        _credentials(operator, host),
        resident_key_requirement=ResidentKeyRequirement.REQUIRED,
        user_verification=_VERIFIED,
    )
    return json.dumps(dict(options.public_key)), state


def make(operator: Operator, host: str, name: str, state: dict[str, Any] | None, answer: str) -> Passkey:
    """The new passkey, not yet saved. Raises PasskeyRefused."""
    if state is None:
        raise PasskeyRefused(gettext("Nothing was asked of the browser, or too long ago. Try again."))
    try:
        data = _server(host).register_complete(state, _parsed(answer))
    except (ValueError, KeyError, TypeError) as error:
        raise PasskeyRefused(gettext("The passkey was not made: {error}").format(error=error)) from error
    made = data.credential_data
    assert made is not None
    if Passkey.objects.filter(credential_id=made.credential_id).exists():
        raise PasskeyRefused(gettext("This passkey is here already."))
    return Passkey(
        operator=operator,
        name=name,
        host=name_of(host),
        credential_id=made.credential_id,
        credential=bytes(made),
        counter=data.counter,
    )


def ask_to_prove(host: str, operator: Operator | None = None) -> tuple[str, dict[str, Any]]:
    """As `ask_to_make`. `operator`: None where the passkey itself is to say who it is."""
    options, state = _server(host).authenticate_begin(_credentials(operator, host), _VERIFIED)
    return json.dumps(dict(options.public_key)), state


def prove(host: str, state: dict[str, Any] | None, answer: str) -> Passkey:
    """The passkey that was used. Raises PasskeyRefused."""
    if state is None:
        raise PasskeyRefused(gettext("Nothing was asked of the browser, or too long ago. Try again."))
    parsed = _parsed(answer)
    try:
        response = AuthenticationResponse.from_dict(parsed)
        row = Passkey.objects.select_related("operator").get(credential_id=response.raw_id, host=name_of(host))
        _server(host).authenticate_complete(state, [AttestedCredentialData(bytes(row.credential))], parsed)
    except (ValueError, KeyError, TypeError, Passkey.DoesNotExist) as error:
        raise PasskeyRefused(gettext("This passkey is not known here, or its answer does not hold.")) from error
    counter = response.response.authenticator_data.counter
    # A counter that does not grow is a copy's (WebAuthn level 3, section 6.1.1); those that do not count send 0.
    if (counter or row.counter) and counter <= row.counter:
        raise PasskeyRefused(gettext("This passkey was copied: its counter went back. Remove it, and make a new one."))
    row.counter = counter
    return row


def _parsed(answer: str) -> dict[str, Any]:
    if len(answer) > MAX_ANSWER:
        raise PasskeyRefused(gettext("The browser's answer is too long."))
    try:
        found = json.loads(answer)
    except ValueError as error:
        raise PasskeyRefused(gettext("The browser sent no answer.")) from error
    if not isinstance(found, dict):
        raise PasskeyRefused(gettext("The browser sent no answer."))
    return found
