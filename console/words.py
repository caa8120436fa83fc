"""Words that come from where nobody knows Django, and are shown on pages.

Those of closed tables are gathered here for translators, and translated when they are shown (filter `translated`). The
table of reasons is not repeated here: tools/messages.py reads it where it is. What a node says in a sentence of its own
stays as it is: `Said`.
"""

from django.utils.formats import number_format
from django.utils.translation import gettext, gettext_noop


class Said(str):
    """In English, whatever the reader's language is: words of a node, of a parser, of another machine."""


def grouped(number: int | None) -> str:
    """With what the reader's language puts between thousands."""
    return number_format(number or 0, force_grouping=True)


# --- labels of fields, as Django makes them of the names of these ---

LABELS = frozenset(
    (
        gettext_noop("Accept basic"),
        gettext_noop("Active"),
        gettext_noop("Allow test"),
        gettext_noop("Authenticate"),
        gettext_noop("Backend"),
        gettext_noop("Bind"),
        gettext_noop("Body"),
        gettext_noop("Body timeout"),
        gettext_noop("Builtin"),
        gettext_noop("Certificate"),
        gettext_noop("Client auth"),
        gettext_noop("Client truststore"),
        gettext_noop("Code"),
        gettext_noop("Connections"),
        gettext_noop("Connections per address"),
        gettext_noop("Current password"),
        gettext_noop("Description"),
        gettext_noop("Drain timeout"),
        gettext_noop("Enabled"),
        gettext_noop("Endpoint"),
        gettext_noop("Explain"),
        gettext_noop("File"),
        gettext_noop("Forward authorization"),
        gettext_noop("Full name"),
        gettext_noop("Groups"),
        gettext_noop("Handshake timeout"),
        gettext_noop("Header"),
        gettext_noop("Header fields"),
        gettext_noop("Header timeout"),
        gettext_noop("Headers"),
        gettext_noop("Identity"),
        gettext_noop("Identity headers"),
        gettext_noop("Idle timeout"),
        gettext_noop("Issuer"),
        gettext_noop("Keystore"),
        gettext_noop("May assert groups"),
        gettext_noop("May assert truststores"),
        gettext_noop("Method"),
        gettext_noop("Methods"),
        gettext_noop("Name"),
        gettext_noop("New password"),
        gettext_noop("New password again"),
        gettext_noop("Next certificate"),
        gettext_noop("Node"),
        gettext_noop("Password"),
        gettext_noop("Path"),
        gettext_noop("Paths"),
        gettext_noop("Port"),
        gettext_noop("Priority"),
        gettext_noop("Private key"),
        gettext_noop("Registration"),
        gettext_noop("Registration port"),
        gettext_noop("Requests"),
        gettext_noop("Role"),
        gettext_noop("Subject"),
        gettext_noop("Target"),
        gettext_noop("Timeout"),
        gettext_noop("Total timeout"),
        gettext_noop("Trailers"),
        gettext_noop("Trusted proxies"),
        gettext_noop("Truststore"),
        gettext_noop("URL"),
        gettext_noop("Usage"),
        gettext_noop("User"),
        gettext_noop("Username"),
        gettext_noop("Wait"),
    )
)


def label_words(label: object) -> str:
    """A label that Django has made of a field's name, in the reader's language; others are in it already."""
    text = str(label)
    return gettext(text) if text in LABELS else text


# --- checks of a decision (gateway.core.decision, identity.core.mapping) ---

CHECKS = (
    gettext_noop("address"),
    gettext_noop("path"),
    gettext_noop("port access"),
    gettext_noop("authentication"),
    gettext_noop("certificate"),
    gettext_noop("mapping"),
    gettext_noop("password"),
    gettext_noop("user"),
    gettext_noop("ACL"),
    gettext_noop("channel"),
    gettext_noop("assertion"),
    gettext_noop("method"),
    gettext_noop("execution"),
)

# --- states of what runs (console.attention), and trends (console.refusals, console.saved_tests) ---

STATES = (
    gettext_noop("disabled"),
    gettext_noop("unknown"),
    gettext_noop("down"),
    gettext_noop("never connected"),
    gettext_noop("degraded"),
    gettext_noop("healthy"),
    gettext_noop("connected"),
    gettext_noop("not connected"),
    gettext_noop("listening"),
    gettext_noop("not listening"),
)
TRENDS = (
    gettext_noop("new"),
    gettext_noop("more"),
    gettext_noop("fewer"),
    gettext_noop("as before"),
)

# --- how somebody logged in (console.sign_in, console.factors) ---

WAYS_IN = (
    gettext_noop("unknown"),
    gettext_noop("password"),
    gettext_noop("single sign-on"),
    gettext_noop("passkey"),
    gettext_noop("authenticator app"),
    gettext_noop("recovery code"),
)
