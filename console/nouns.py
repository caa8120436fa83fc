"""The kinds of objects as the console calls and groups them; the same kinds as the configuration file's sections."""

from django.db.models import Model
from django.urls import reverse

from gateway.topology.entries import KIND_OF, SECTIONS

TITLES = {
    "nodes": "Nodes",
    "ports": "Ports",
    "services": "Services",
    "apis": "APIs",
    "endpoints": "Endpoints",
    "registrations": "Registrations",
    "users": "Users",
    "groups": "Groups",
    "acls": "ACLs",
    "certificates": "Certificates",
    "mapping_rules": "Mapping rules",
    "truststores": "Truststores",
    "keystores": "Keystores",
}
# Title of a part of the navigation → its links: (label, name of the URL).
GROUPS: list[tuple[str, list[tuple[str, str]]]] = [
    ("", [("Overview", "overview"), ("Refusals", "refusals"), ("Test invoke", "invoke"), ("Saved tests", "tests"),
          ("Expiry", "expiry")]),
    ("Who", [(TITLES[kind], f"{kind}-list") for kind in ("users", "groups", "acls", "certificates", "mapping_rules")]
     + [("Import", "imports")]),
    ("Where", [(TITLES[kind], f"{kind}-list")
               for kind in ("nodes", "ports", "services", "apis", "endpoints", "registrations")]),
    ("Trust", [(TITLES[kind], f"{kind}-list") for kind in ("truststores", "keystores")]),
    ("Console", [("Changes", "changes"), ("Operators", "operators"), ("My account", "account")]),
]  # fmt: skip
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
    kind = KIND_OF.get(type(row))
    return f"{SECTIONS[kind]._meta.verbose_name} {row}" if kind else f"{row._meta.verbose_name} {row}"
