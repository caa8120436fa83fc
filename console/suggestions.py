"""One change that would let a refused request through, as a link: it opens the form with that change filled in.

Whoever follows it sees what is filled in, can ask what would change for whom, and saves or does not. A link changes
nothing, whoever made it: what it may fill in is listed here, and each value is looked up or checked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import Model
from django.utils.translation import gettext

from console.kept import ShownCertificate
from console.nouns import url_of
from gateway.core.addresses import parse_address
from gateway.core.paths import is_normal
from gateway.models import API, Port, Registration, Service
from gateway.models.services import METHODS
from identity.core import files
from identity.core.certificates import CertificateError, pem_of
from identity.models import ACL, Group, Truststore, User
from identity.models.groups import ANONYMOUS, EVERYBODY
from identity.models.users import DEFAULT

SHOWN = 3  # groups that are offered for one change
Link = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a link fills in: `initial`, values of the form's fields; `words`, told above them."""

    words: str
    initial: dict[str, Any]


# --- reading ---


def suggested(row: Model, query: Mapping[str, str]) -> Suggestion | None:
    """What the address of a row's page asks to be filled in; None where that is nothing that can be."""
    for name, value in query.items():
        found = _FILLED.get((type(row), name))
        if found is not None and (suggestion := found(row, value[:4096])) is not None:
            return suggestion
    return None


def _allow(row: ACL, name: str) -> Suggestion | None:
    group = Group.objects.filter(name=name).first()
    if group is None or row.predefined:
        return None
    return Suggestion(
        gettext("Group {group} is set to allowed.").format(group=group), {f"group_{group.pk.hex}": "allowed"}
    )


def _join(row: User, name: str) -> Suggestion | None:
    group = Group.objects.filter(name=name).exclude(name__in=[EVERYBODY, ANONYMOUS]).first()
    if group is None or row.name == DEFAULT:
        return None
    return Suggestion(gettext("Group {group} is ticked.").format(group=group), {"groups": [*row.groups.all(), group]})


def _enable(row: User | Registration, value: str) -> Suggestion | None:
    return Suggestion(gettext("Enabled is ticked."), {"enabled": True}) if not row.enabled else None


def _show(row: Port, path: str) -> Suggestion | None:
    if not _is_path(path):
        return None
    return Suggestion(
        gettext("{path} is added to what this port shows.").format(path=path),
        {"service_allow": _with(row.service_access["allow"], path)},
    )


def _admit(row: Port, address: str) -> Suggestion | None:
    try:
        address = str(parse_address(address))
    except ValueError:
        return None
    return Suggestion(
        gettext("{address} is added to the networks that may call.").format(address=address),
        {"ip_allow": _with(row.ip_access["allow"], address)},
    )


def _carry(row: Registration, path: str) -> Suggestion | None:
    if not row.paths or not _is_path(path):
        return None
    return Suggestion(
        gettext("{path} is added to what the channel may carry.").format(path=path), {"paths": _with(row.paths, path)}
    )


def _method(row: Service | API, method: str) -> Suggestion | None:
    if method not in METHODS or not row.methods:
        return None
    return Suggestion(
        gettext("{method} is ticked among the methods.").format(method=method), {"methods": _with(row.methods, method)}
    )


def _trust(row: Truststore, sha256: str) -> Suggestion | None:
    shown = ShownCertificate.objects.filter(pk=sha256).first()
    try:
        chain = files.chain_from(shown.pem.encode()) if shown else ()
    except CertificateError:
        return None
    if not chain:
        return None
    authorities = [each for each in chain[1:] if each.is_authority]
    if not authorities:
        return Suggestion(
            gettext(
                "{title} came without its authority, {issuer}. Get that from its holder by a way that "
                "you trust, and add it below."
            ).format(title=chain[0].title, issuer=chain[0].issuer),
            {},
        )
    top = authorities[-1]
    return Suggestion(
        gettext(
            "{title} is filled in below, as the caller of {title2} sent it. It would be believed for "
            "everything that it has issued and will issue: compare its fingerprint with its holder by another way, "
            "SHA-256 {sha256}."
        ).format(title=top.title, title2=chain[0].title, sha256=top.sha256),
        {"add": pem_of([top])},
    )


_FILLED: dict[tuple[type[Model], str], Callable[[Any, str], Suggestion | None]] = {
    (ACL, "allow"): _allow,
    (User, "join"): _join,
    (User, "enable"): _enable,
    (Registration, "enable"): _enable,
    (Port, "show"): _show,
    (Port, "admit"): _admit,
    (Registration, "carry"): _carry,
    (Service, "method"): _method,
    (API, "method"): _method,
    (Truststore, "trust"): _trust,
}


def _with(values: list[str], value: str) -> list[str]:
    return values if value in values else [*values, value]


def _is_path(path: str) -> bool:
    return path.startswith("/") and is_normal(path)


# --- offering ---


def link(label: str, row: Model, **values: str) -> Link:
    return label, f"{url_of(row)}?{urlencode(values)}"


def to_admit(acl: ACL | None, user: User | None) -> list[Link]:
    """Of a user whom an ACL does not let in: each of his groups that it could allow, each that he could join."""
    if acl is None or user is None:
        return []
    allowed, denied = set(acl.allowed.all()), set(acl.denied.all())
    own = set(user.groups.all())
    if denied & own:  # denied beats allowed: it takes another decision than one more group
        return []
    found = []
    if user.name != DEFAULT:
        joinable = sorted((group for group in allowed if group.name not in (EVERYBODY, ANONYMOUS)), key=str)
        found += [
            link(gettext("Put {user} into group {group}").format(user=user, group=group), user, join=group.name)
            for group in joinable[:SHOWN]
        ]
    if not acl.predefined:
        found += [
            link(gettext("Add group {g} to ACL {acl}").format(g=g, acl=acl), acl, allow=g.name)
            for g in sorted(own, key=str)[:SHOWN]
        ]
    return found
