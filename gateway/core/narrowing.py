"""What a document says of users, certificates and rules that count at ports of other nodes alone: as little as will do.

A node decides by what is left as it would by all of it. So whom it has to refuse stays there by name: a certificate
that is for other ports logs in nobody here, by no rule either, and a user of other ports is somebody, whom a rule may
find in a certificate's name. What goes is whom they mean elsewhere. Knows neither rows nor nodes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.difference import Document

Section = dict[str, Any]
Ports = frozenset[str]


class Narrowing:
    """Keeps what it made, since nodes share most of their sections, and a change leaves most of them as they were."""

    def __init__(self) -> None:
        self._limited: dict[str, tuple[Section, list[str]]] = {}
        self._made: dict[tuple[str, Ports], tuple[Section, Section]] = {}

    def of(self, document: Document, usable: Mapping[str, Ports]) -> Document:
        """`usable`: of each section whose entries may be for some ports only, those where one can count."""
        narrowed: Document = {}
        for name, ports in usable.items():
            section = document[name]
            known = self._made.get((name, ports))
            if known is None or known[0] is not section:
                known = self._made[name, ports] = section, _narrowed(name, section, self._limits(name, section), ports)
            narrowed[name] = known[1]
        return document | narrowed

    def _limits(self, name: str, section: Section) -> list[str]:
        """Of a section that is the same for all nodes, the entries that are for some ports only."""
        known = self._limited.get(name)
        if known is None or known[0] is not section:
            known = self._limited[name] = section, [each for each, entry in section.items() if "ports" in entry]
        return known[1]


def _narrowed(name: str, section: Section, limited: Iterable[str], ports: Ports) -> Section:
    foreign = [each for each in limited if ports.isdisjoint(section[each]["ports"])]
    if not foreign:
        return section
    made = dict(section)
    for each in foreign:
        entry = section[each]
        if name == "mapping_rules":
            del made[each]
        elif name == "users":
            made[each] = {"groups": [], "enabled": entry["enabled"], "ports": entry["ports"]}
        else:
            made[each] = entry | {"user": None}
    return made
