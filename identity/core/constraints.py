"""Name constraints (RFC 5280, section 4.2.1.10): whether the names of a certificate are ones its issuers may certify.

Every form is decided here: host names, addresses, mailboxes, URIs and directory names; a constraint on a form that
is not understood (other names, registered identifiers) keeps out every certificate that has a name of it. A common
name that looks like a host name counts as one in a client's certificate that has no `dns` name; mailboxes in the
subject always count.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from identity.core import names
from identity.core.certificates import Certificate
from identity.core.names import DistinguishedName

MAX_COMPARISONS = 65_536  # names times constraints of one path; beyond it only costs time

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST_OR_WILDCARD = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_MAX_HOST = 253  # characters

Name = tuple[str, Any]  # form and value


def constraints_of(certificate: Certificate) -> x509.NameConstraints | None:
    found = certificate.extension(x509.NameConstraints)
    return found.value if found is not None else None


def names_of(certificate: Certificate, *, client: bool) -> list[Name]:
    """All that constraints speak of. `client`: whether it is the one at the end of the path."""
    found: list[Name] = []
    alternative = certificate.extension(x509.SubjectAlternativeName)
    if alternative is not None:
        found += [_name(each) for each in alternative.value]
    if certificate.subject.rdns:
        found.append(("directory", certificate.subject))
    found += [("email", value) for value in certificate.subject.values("emailAddress")]
    if client and not any(form == "dns" for form, _ in found):
        common = certificate.subject.values("CN")
        found += [("dns", value) for value in common if "." in value and _is_host(value, wildcard=True)]
    return found


def _name(general: x509.GeneralName) -> Name:
    match general:
        case x509.DNSName(value=value):
            return "dns", value
        case x509.IPAddress(value=value):
            return "ip", value
        case x509.RFC822Name(value=value):
            return "email", value
        case x509.UniformResourceIdentifier(value=value):
            return "uri", value
        case x509.DirectoryName(value=value):
            return "directory", names.from_x509(value)
    return type(general).__name__, general


def violation(found: Iterable[Name], constraints: x509.NameConstraints) -> str | None:
    """The first name that `constraints` do not admit, in words; None where they admit all.

    Raises:
        ValueError: a constraint, or a name that it speaks of, is malformed; the message says which.
    """
    permitted = [_name(each) for each in constraints.permitted_subtrees or ()]
    excluded = [_name(each) for each in constraints.excluded_subtrees or ()]
    for form, subtree in (*permitted, *excluded):
        if form in _FORMS:
            _FORMS[form].check_subtree(subtree)
    for form, name in found:
        out, within = [s for f, s in excluded if f == form], [s for f, s in permitted if f == form]
        if not out and not within:
            continue
        if form not in _FORMS:
            raise ValueError(f"name constraints on a form of name that is not understood here ({form})")
        rules = _FORMS[form]
        rules.check_name(name)
        if any(rules.excludes(name, subtree) for subtree in out):
            return f"{form} name {name} is excluded"
        if within and not any(rules.admits(name, subtree) for subtree in within):
            return f"{form} name {name} is not permitted"
    return None


def comparisons(found: list[Name], constraints: x509.NameConstraints) -> int:
    subtrees = len(constraints.permitted_subtrees or ()) + len(constraints.excluded_subtrees or ())
    return max(1, len(found)) * subtrees


# --- one form each ---


def _is_host(value: str, *, wildcard: bool = False) -> bool:
    pattern = _HOST_OR_WILDCARD if wildcard else _HOST
    return len(value) <= _MAX_HOST and pattern.fullmatch(value) is not None


def _below(host: str, domain: str) -> bool:
    """Whether `host` is `domain` or lies below it; in lower case, both."""
    return not domain or host == domain or host.endswith(f".{domain}")


def _check_dns_subtree(subtree: str) -> None:
    if subtree and not _is_host(subtree):
        raise ValueError(f"{subtree!r} is no domain that dns names could be held against")


def _check_dns(name: str) -> None:
    if not _is_host(name, wildcard=True):
        raise ValueError(f"{name!r} is no host name")


def _dns_admits(name: str, subtree: str) -> bool:
    return _below(name.lower(), subtree.lower())


def _dns_excludes(name: str, subtree: str) -> bool:
    """A wildcard stands for hosts too, of which one may be the excluded one (CVE-2025-61727)."""
    wildcard, _, rest = name.lower().partition(".")
    return _dns_admits(name, subtree) or (wildcard == "*" and subtree.lower().partition(".")[2] == rest)


def _check_ip_subtree(subtree: object) -> None:
    if not isinstance(subtree, ipaddress.IPv4Network | ipaddress.IPv6Network):
        raise ValueError(f"{subtree} is no network that addresses could be held against")


def _check_ip(name: object) -> None:
    if not isinstance(name, ipaddress.IPv4Address | ipaddress.IPv6Address):
        raise ValueError(f"{name} is no address")


def _ip_within(name: Any, subtree: Any) -> bool:
    return name.version == subtree.version and name in subtree


def _mailbox(value: str) -> tuple[str, str]:
    local, at, host = value.rpartition("@")
    if not at or not local or "@" in local or not _is_host(host) or not local.isprintable() or " " in local:
        raise ValueError(f"{value!r} is no mailbox")
    return local, host.lower()


def _check_email_subtree(subtree: str) -> None:
    if "@" in subtree:
        _mailbox(subtree)
    elif not _is_host(subtree.removeprefix(".")):
        raise ValueError(f"{subtree!r} is nothing that mailboxes could be held against")


def _email_within(name: str, subtree: str) -> bool:
    """A mailbox, a host's mailboxes, or, with a leading dot, those of all hosts of a domain."""
    local, host = _mailbox(name)
    if "@" in subtree:
        return (local, host) == _mailbox(subtree)
    return _host_within(host, subtree)


def _host_within(host: str, subtree: str) -> bool:
    subtree = subtree.lower()
    return host.endswith(subtree) if subtree.startswith(".") else host == subtree


def _uri_host(value: str) -> str:
    """A URI that is constrained must have an authority with a host that is a name."""
    try:
        host = urlsplit(value).hostname or ""
    except ValueError:
        host = ""
    if not _is_host(host) or host.rpartition(".")[2].isdigit():
        raise ValueError(f"{value!r} names no host by name")
    return host.lower()


def _check_uri_subtree(subtree: str) -> None:
    if not _is_host(subtree.removeprefix(".")):
        raise ValueError(f"{subtree!r} is nothing that the hosts of URIs could be held against")


def _uri_within(name: str, subtree: str) -> bool:
    return _host_within(_uri_host(name), subtree)


def _directory_within(name: DistinguishedName, subtree: DistinguishedName) -> bool:
    return name.folded()[: len(subtree.rdns)] == subtree.folded()


def _any(value: object) -> None:
    """Every directory name is one."""


class _Form:
    """How names of one form are held against constraints. The checks raise ValueError."""

    def __init__(
        self,
        check_subtree: Callable[[Any], object],
        check_name: Callable[[Any], object],
        admits: Callable[[Any, Any], bool],
        excludes: Callable[[Any, Any], bool] | None = None,
    ) -> None:
        self.check_subtree, self.check_name = check_subtree, check_name
        self.admits, self.excludes = admits, excludes or admits


_FORMS = {
    "dns": _Form(_check_dns_subtree, _check_dns, _dns_admits, _dns_excludes),
    "ip": _Form(_check_ip_subtree, _check_ip, _ip_within),
    "email": _Form(_check_email_subtree, _mailbox, _email_within),
    "uri": _Form(_check_uri_subtree, _uri_host, _uri_within),
    "directory": _Form(_any, _any, _directory_within),
}
