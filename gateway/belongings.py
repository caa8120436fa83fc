"""The rows of nodes: all that each of them has or refers to, read at once for as many nodes as are asked for.

The same few queries for one node and for sixty. What of it a node is told, and in which form, is `gateway.compile`'s.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from gateway.models import API, ClientAuth, Endpoint, Node, Port, Registration, Service
from identity.models import ACL, Certificate, Keystore, Truststore


@dataclass(frozen=True, slots=True)
class Belongings:
    """One node's, in the order of their names.

    Attributes:
        ports: those that are enabled.
        registrations: that are made at its ports, and that its ports dial as.
        dialled: keys of the latter.
        blocked: SHA-256 of the certificates of registrations that are on file as blocked.
        acls, truststores, keystores: whatever the other rows refer to, and the ACLs that every node needs.
        by_name: keystores that were asked for by name.
    """

    node: Node
    ports: list[Port]
    services: list[Service]
    apis: list[API]
    endpoints: list[Endpoint]
    registrations: list[Registration]
    dialled: set[Any]
    blocked: set[str]
    acls: list[ACL]
    truststores: list[Truststore]
    keystores: list[Keystore]
    by_name: dict[str, Keystore]


def truststore_of(port: Port) -> Truststore | None:
    """Whom the port believes in its handshakes, where it asks or dials."""
    return port.tls_truststore if port.client_auth != ClientAuth.PASSWORD or port.connect.all() else None


def belongings(
    nodes: Collection[str] | None, *, acls: Collection[str] = (), keystores: Collection[str] = ()
) -> dict[str, Belongings]:
    """By the node's name; those that there are of `nodes`, or all.

    Args:
        acls: names of those that every node needs.
        keystores: names of those that are asked for besides.
    """
    chosen = Node.objects.all() if nodes is None else Node.objects.filter(name__in=nodes)
    return _Reading(chosen, acls, keystores).belongings()


class _Reading:
    """All rows of the nodes, before they are told apart."""

    def __init__(self, nodes: Any, acls: Collection[str], keystores: Collection[str]) -> None:
        self._nodes = list(nodes)
        self._ports = list(
            Port.objects.filter(node__in=nodes, enabled=True)
            .select_related("tls_keystore", "tls_truststore", "client_truststore", "registration_port")
            .prefetch_related("connect__registration", "tls_keystores")
        )
        self._services = list(Service.objects.filter(node__in=nodes).select_related("execute_acl"))
        self._apis = list(
            API.objects.filter(node__in=nodes).select_related(
                "execute_acl", "endpoint__keystore", "endpoint__truststore", "endpoint__registration_port"
            )
        )
        at, from_here = Q(port__node__in=nodes, port__enabled=True), Q(dials__port__node__in=nodes)
        self._registrations = list(
            Registration.objects.filter(at | (from_here & Q(dials__port__enabled=True)))
            .distinct()
            .select_related("port", "node")
            .prefetch_related("may_assert_truststores", "may_assert_groups")
        )
        known_by = [sha256 for registration in self._registrations for sha256 in registration.admitted]
        blocked = Certificate.objects.filter(blocked=True, sha256__in=known_by)
        self._blocked = set(blocked.values_list("sha256", flat=True))
        self._read_what_they_name(acls, keystores)

    def _read_what_they_name(self, acls: Collection[str], keystores: Collection[str]) -> None:
        guarding = _acls(self._services, self._apis)
        self._acls = list(
            ACL.objects.filter(Q(pk__in=guarding) | Q(name__in=acls)).prefetch_related("allowed", "denied")
        )
        self._common_acls = {row.pk for row in self._acls if row.name in acls}
        endpoints = [api.endpoint for api in self._apis]
        stores = _truststores(self._ports, endpoints, self._registrations)
        self._truststores = list(
            Truststore.objects.filter(pk__in=stores).prefetch_related("certificates", "crls", "crl_sources__crl")
        )
        shown = _keystores(self._ports, endpoints)
        self._keystores = list(Keystore.objects.filter(Q(pk__in=shown) | Q(name__in=keystores)))
        self._by_name = {row.name: row for row in self._keystores if row.name in keystores}

    def belongings(self) -> dict[str, Belongings]:
        return {node.name: self._of(node) for node in self._nodes}

    def _of(self, node: Node) -> Belongings:
        ports = [row for row in self._ports if row.node_id == node.pk]
        services = [row for row in self._services if row.node_id == node.pk]
        apis = [row for row in self._apis if row.node_id == node.pk]
        here = {port.pk for port in ports}
        dialled = {dial.registration_id for port in ports for dial in port.connect.all()}
        registrations = [row for row in self._registrations if row.port_id in here or row.pk in dialled]
        endpoints = list({api.endpoint_id: api.endpoint for api in apis}.values())
        acls = _acls(services, apis) | self._common_acls
        truststores = _truststores(ports, endpoints, [row for row in registrations if row.pk in dialled])
        keystores = _keystores(ports, endpoints)
        return Belongings(
            node,
            ports,
            services,
            apis,
            sorted(endpoints, key=lambda row: row.name),
            registrations,
            dialled,
            self._blocked,
            [row for row in self._acls if row.pk in acls],
            [row for row in self._truststores if row.pk in truststores],
            [row for row in self._keystores if row.pk in keystores],
            self._by_name,
        )


def _acls(services: Iterable[Service], apis: Iterable[API]) -> set[Any]:
    """Keys of those that are named."""
    return ({row.execute_acl_id for row in services} | {row.execute_acl_id for row in apis}) - {None}


def _truststores(ports: Iterable[Port], endpoints: Iterable[Endpoint], dialled: Iterable[Registration]) -> set[Any]:
    """Keys of those that are named."""
    named = (
        *(store for port in ports for store in (truststore_of(port), port.client_truststore)),
        *(endpoint.truststore for endpoint in endpoints),
        *(store for row in dialled for store in row.may_assert_truststores.all()),
    )
    return {store.pk for store in named if store is not None}


def _keystores(ports: Iterable[Port], endpoints: Iterable[Endpoint]) -> set[Any]:
    """Keys of those that are named."""
    named = {keystore.pk for port in ports for keystore in port.tls_keystores.all()}
    return (named | {port.tls_keystore_id for port in ports} | {row.keystore_id for row in endpoints}) - {None}
