"""The kinds of objects as the console calls and groups them; the same kinds as the configuration file's sections."""

from django.db.models import Model
from django.urls import reverse
from django.utils.translation import gettext, gettext_lazy

from gateway.topology.entries import KIND_OF

TITLES = {
    "nodes": gettext_lazy("Nodes"),
    "ports": gettext_lazy("Ports"),
    "services": gettext_lazy("Services"),
    "apis": gettext_lazy("APIs"),
    "endpoints": gettext_lazy("Endpoints"),
    "registrations": gettext_lazy("Registrations"),
    "users": gettext_lazy("Users"),
    "groups": gettext_lazy("Groups"),
    "acls": gettext_lazy("ACLs"),
    "certificates": gettext_lazy("Certificates"),
    "mapping_rules": gettext_lazy("Mapping rules"),
    "truststores": gettext_lazy("Truststores"),
    "keystores": gettext_lazy("Keystores"),
}
SINGULAR = {
    "nodes": gettext_lazy("node"),
    "ports": gettext_lazy("port"),
    "services": gettext_lazy("service"),
    "apis": gettext_lazy("API"),
    "endpoints": gettext_lazy("endpoint"),
    "registrations": gettext_lazy("registration"),
    "users": gettext_lazy("user"),
    "groups": gettext_lazy("group"),
    "acls": gettext_lazy("ACL"),
    "certificates": gettext_lazy("certificate"),
    "mapping_rules": gettext_lazy("mapping rule"),
    "truststores": gettext_lazy("truststore"),
    "keystores": gettext_lazy("keystore"),
}
# Whole sentences, for languages give nouns a gender.
ADDING = {
    "nodes": gettext_lazy("Add a node"),
    "ports": gettext_lazy("Add a port"),
    "services": gettext_lazy("Add a service"),
    "apis": gettext_lazy("Add an API"),
    "endpoints": gettext_lazy("Add an endpoint"),
    "registrations": gettext_lazy("Add a registration"),
    "users": gettext_lazy("Add a user"),
    "groups": gettext_lazy("Add a group"),
    "acls": gettext_lazy("Add an ACL"),
    "certificates": gettext_lazy("Add a certificate"),
    "mapping_rules": gettext_lazy("Add a mapping rule"),
    "truststores": gettext_lazy("Add a truststore"),
    "keystores": gettext_lazy("Add a keystore"),
}
ADDING_PORT = {
    "regular": gettext_lazy("Add a regular port"),
    "external": gettext_lazy("Add an external port"),
    "registration": gettext_lazy("Add a registration port"),
    "internal": gettext_lazy("Add an internal port"),
}
NONE_YET = {
    "nodes": gettext_lazy("There is no node yet"),
    "ports": gettext_lazy("There is no port yet"),
    "services": gettext_lazy("There is no service yet"),
    "apis": gettext_lazy("There is no API yet"),
    "endpoints": gettext_lazy("There is no endpoint yet"),
    "registrations": gettext_lazy("There is no registration yet"),
    "users": gettext_lazy("There is no user yet"),
    "groups": gettext_lazy("There is no group yet"),
    "acls": gettext_lazy("There is no ACL yet"),
    "certificates": gettext_lazy("There is no certificate yet"),
    "mapping_rules": gettext_lazy("There is no mapping rule yet"),
    "truststores": gettext_lazy("There is no truststore yet"),
    "keystores": gettext_lazy("There is no keystore yet"),
}
# Title of a part of the navigation → its links: (label, name of the URL).
GROUPS: list[tuple[str, list[tuple[str, str]]]] = [
    (
        "",
        [
            (gettext_lazy("Overview"), "overview"),
            (gettext_lazy("Refusals"), "refusals"),
            (gettext_lazy("Test invoke"), "invoke"),
            (gettext_lazy("Saved tests"), "tests"),
            (gettext_lazy("Expiry"), "expiry"),
        ],
    ),
    (
        gettext_lazy("Who"),
        [(TITLES[kind], f"{kind}-list") for kind in ("users", "groups", "acls", "certificates", "mapping_rules")]
        + [(gettext_lazy("Import"), "imports")],
    ),
    (
        gettext_lazy("Where"),
        [
            (TITLES[kind], f"{kind}-list")
            for kind in ("nodes", "ports", "services", "apis", "endpoints", "registrations")
        ],
    ),
    (gettext_lazy("Trust"), [(TITLES[kind], f"{kind}-list") for kind in ("truststores", "keystores")]),
    (
        gettext_lazy("Console"),
        [
            (gettext_lazy("Changes"), "changes"),
            (gettext_lazy("Operators"), "operators"),
            (gettext_lazy("My account"), "account"),
        ],
    ),
]
# What it takes to see a link, where that is not the permission to view. None: a login.
PERMISSION_OF_LINK: dict[str, str | None] = {
    "invoke": "test_invoke",
    "imports": "change_identity",
    "operators": "change_operators",
    "account": None,
}
GATEWAY = ("nodes", "ports", "services", "apis", "endpoints", "registrations")


def permission_of(kind: str) -> str:
    """What it takes to change objects of this kind."""
    return "change_gateway" if kind in GATEWAY else "change_identity"


def url_of(row: Model) -> str | None:
    """The page of an object; None where it has none of its own."""
    kind = KIND_OF.get(type(row))
    return reverse(f"{kind}-edit", args=[row.pk]) if kind else None


def label_of(row: Model) -> str:
    """As pages call it, in the reader's language."""
    kind = KIND_OF.get(type(row))
    noun = SINGULAR[kind] if kind else row._meta.verbose_name
    return gettext("{noun} {name}").format(noun=noun, name=row)


def recorded(row: Model) -> str:
    """As the audit log calls it: the same in every language."""
    return f"{row._meta.verbose_name} {row}"
