"""Addresses as the configuration writes them: binds, networks, URLs."""

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from gateway.core.paths import is_normal
from identity.core.names import is_name

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


def split_host_port(text: str, *, what: str = "address") -> tuple[str, int]:
    """`127.0.0.1:8443`, `[::1]:8443`, `gateway.example:8444` → host without brackets, port number.

    Raises:
        ValueError: says what would be right.
    """
    host, separator, number = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not separator or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 65535:
        raise ValueError(f"{text!r} needs a port number, like 127.0.0.1:8443 or [::1]:8443")
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ValueError(f"{text!r}: only an IPv6 address stands in brackets") from error
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, like [::1]:8443")
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{text!r} is no {what}; write it like 127.0.0.1:8443 or host.example:8443")
    return host, int(number)


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_bind(text: str) -> tuple[str, int]:
    """As `split_host_port`, for an address to listen at: an IP address, or `localhost`."""
    host, port = split_host_port(text, what="address to listen at")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise ValueError(f"{text!r}: listen at an IP address, like 0.0.0.0:8443, not at a name") from error
    return host, port


@lru_cache(maxsize=4096)
def parse_network(text: str) -> Network:
    """A CIDR range or one address; host bits set are refused, for they are a slip more often than a wish."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no network; write it like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7") from error


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """An address of a peer, an IPv4 one that came mapped into IPv6 as the IPv4 that it is."""
    address = ipaddress.ip_address(text.split("%", 1)[0])
    return getattr(address, "ipv4_mapped", None) or address


@dataclass(frozen=True, slots=True)
class EndpointURL:
    """`https://host:port/base` or `reverse://REGISTRATION-PORT/base`; `base` is "" or a normal path."""

    scheme: Literal["http", "https", "reverse"]
    host: str
    port: int
    base: str

    @property
    def authority(self) -> str:
        default = {"http": 80, "https": 443}.get(self.scheme)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (default, 0) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """To whom a password would be sent."""
        return f"{self.scheme}://{self.authority}"


def parse_url(text: str, schemes: tuple[str, ...]) -> EndpointURL:
    """Raises ValueError, saying what would be right, unless `text` is a URL of one of `schemes`."""
    try:
        parts = urlsplit(text)
        number = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {error}") from error
    shapes = " or ".join(
        {"reverse": "reverse://REGISTRATION-PORT/path"}.get(s, f"{s}://host:port/path") for s in schemes
    )
    if parts.scheme not in schemes:
        raise ValueError(f"{text!r}: write it like {shapes}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL here holds no user and no password")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"{text!r} has a query or a fragment; the request brings its own query")
    if parts.path and not is_normal(parts.path):
        raise ValueError(f"{text!r}: its path is not in normal form (no dot segments, no double or encoded slashes)")
    if parts.scheme == "reverse":
        # urlsplit lowers the case of host names; a port's name keeps its own.
        name = text[len("reverse://") :].split("/", 1)[0]
        if not is_name(name):
            raise ValueError(f"{text!r}: after reverse:// comes the name of a registration port")
        return EndpointURL("reverse", name, 0, parts.path)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{text!r} names no host; write it like {shapes}") from None
    default = 443 if parts.scheme == "https" else 80
    return EndpointURL("https" if parts.scheme == "https" else "http", host, number or default, parts.path)


def behind_proxies(address: Address, forwarded_for: Iterable[str], trusted: Collection[Network]) -> Address:
    """The nearest address that is no trusted proxy, in `X-Forwarded-For` read from the right. Raises ValueError."""
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and any(address in network for network in trusted):
        address = parse_address(hops.pop())
    return address
