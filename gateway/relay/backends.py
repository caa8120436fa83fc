"""Pools of connections to what a node calls: to backends of services, and to endpoints."""

import ssl

from gateway.core.snapshot import Endpoint, Service, Snapshot
from gateway.relay.cork import Cork
from gateway.relay.tls import client_context
from gateway.relay.upstream import BackendPool


class Backends:
    """A pool is made when it is first asked for. Services of one backend share one; an endpoint has its own."""

    def __init__(self, cork: Cork) -> None:
        self._cork = cork
        self._services: dict[tuple[str, str, int], BackendPool] = {}
        self._endpoints: dict[str, tuple[Endpoint, BackendPool]] = {}
        self._trusting_system: ssl.SSLContext | None = None

    def of_service(self, service: Service) -> BackendPool:
        key = _key(service)
        assert key is not None
        pool = self._services.get(key)
        if pool is None:
            scheme, host, port = key
            context = self._system() if scheme == "https" else None
            pool = self._services[key] = BackendPool(host, port, context, self._cork)
        return pool

    def of_endpoint(self, endpoint: Endpoint) -> BackendPool:
        known = self._endpoints.get(endpoint.name)
        if known is None or known[0] is not endpoint:
            context = client_context(endpoint.keystore, endpoint.truststore)
            known = endpoint, BackendPool(endpoint.url.host, endpoint.url.port, context, self._cork)
            self._endpoints[endpoint.name] = known
        return known[1]

    def swap(self, snapshot: Snapshot) -> None:
        """Close what the snapshot has no longer, or has otherwise."""
        for name, (endpoint, pool) in list(self._endpoints.items()):
            if snapshot.endpoints.get(name) is not endpoint:
                pool.close()
                del self._endpoints[name]
        live = {key for service in snapshot.services.values() if (key := _key(service))}
        for key in [key for key in self._services if key not in live]:
            self._services.pop(key).close()

    def sweep(self, now: float) -> None:
        """`now`: loop time, seconds."""
        for pool in self._all():
            pool.sweep(now)

    def close(self) -> None:
        for pool in self._all():
            pool.close()

    def _all(self) -> list[BackendPool]:
        return [*self._services.values(), *(pool for _, pool in self._endpoints.values())]

    def _system(self) -> ssl.SSLContext:
        if self._trusting_system is None:
            self._trusting_system = client_context(None, None)
        return self._trusting_system


def _key(service: Service) -> tuple[str, str, int] | None:
    url = service.backend
    return (url.scheme, url.host, url.port) if url else None
