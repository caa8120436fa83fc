"""Where the console may call for what a row names: an operator who types a URL is not let in wherever the console is.

Knows addresses and names; who resolves and connects is `gateway.outgoing`.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.addresses import Address, Network, parse_address, parse_network

# Where clouds tell a machine its own secrets, beside the link-local ones.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an address of IPv4


@dataclass(frozen=True, slots=True)
class Destinations:
    """What is listed; nothing means: anywhere but at `is_close`.

    Attributes:
        hosts: names, in lower case.
        domains: with a leading dot: every name below it.
        networks: every address in them, even those that are never called otherwise.
    """

    hosts: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Destinations":
        """`crl.example.com`, `.example.com`, `10.1.0.0/16`, `192.0.2.7`. Raises ValueError."""
        hosts, domains, networks = set(), [], []
        for text in (each.strip().lower() for each in texts):
            if "/" in text or _is_address(text):
                networks.append(parse_network(text))
            elif not text.strip(".-*") or not all(part.replace("-", "").isalnum() for part in text[1:].split(".")):
                raise ValueError(f"{text!r} is no host, no .domain and no network")
            elif text.startswith("."):
                domains.append(text)
            else:
                hosts.add(text)
        return cls(frozenset(hosts), tuple(domains), tuple(networks))

    def names(self, host: str) -> bool:
        """Whether the host is let through by its name; all are where nothing is listed."""
        host = host.lower().rstrip(".")
        listed = self.hosts or self.domains or self.networks
        return not listed or host in self.hosts or host.endswith(self.domains)

    def why_not(self, host: str, address: str) -> str:
        """Why this address of the host is not called; "" where it is."""
        found = _plain(parse_address(address))
        if any(found in network for network in self.networks):
            return ""
        if not self.names(host):
            return f"{host} ({found}) is not in the list of where the console may call (REVOCATION_FROM)"
        if is_close(found):
            return f"{host} means {found}, an address that the console does not call unless REVOCATION_FROM lists it"
        return ""


def is_close(address: Address) -> bool:
    """The machine itself, its link, where clouds tell secrets; and what is no host at all."""
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and address not in _NAT64)
        or address in _METADATA
        or (address.version == 4 and int(address) >> 24 == 0)
    )


def _plain(address: Address) -> Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
