"""One installation, the forum's, for all tests that only ask; and a fresh one for those that break things."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.minting import Minted, authority, mint
from tests.ports import free_port
from tests.relay.installation import Backend, Installation


def forum_pki() -> dict[str, Minted]:
    partners, servers = authority("CN=Partner CA,O=Acme"), authority("CN=Server CA,O=Acme")
    sub = authority("CN=Partner Sub CA,O=Acme", partners)
    here = ["dns:localhost", "ip:127.0.0.1"]
    return {
        "partner-ca": partners,
        "server-ca": servers,
        "edge-server": mint("CN=localhost,O=Acme", servers, purpose="server", san=here),
        "inside-server": mint("CN=localhost,O=Acme,OU=Inside", servers, purpose="server", san=here),
        "inside-client": mint("CN=inside,O=Acme", servers),
        "edge-client": mint("CN=api-gateway,O=Acme", partners),
        "alice": mint("CN=alice,O=Partner One", partners, san=["dns:alice.partner.example"]),
        "below": mint("CN=below,O=Partner One", sub),
        "stranger": mint("CN=stranger,O=Partner Two", partners),
        "rogue": mint("CN=alice,O=Partner One", authority("CN=Partner CA,O=Acme")),
    }


def forum_topology(backend: int) -> dict[str, Any]:
    """The case that this project exists for: `domain` knows it as the forum thread."""
    ext, reg, https = (f"127.0.0.1:{free_port()}" for _ in range(3))
    reverse = "reverse://reg/orders"
    service = {"node": "inside", "execute_acl": "PartnerApi"}
    return {
        "version": 1,
        "nodes": [{"name": "edge", "role": "edge"}, {"name": "inside", "role": "internal"}],
        "truststores": [{"name": "partners", "certificates": "pki/partner-ca.pem"},
                        {"name": "servers", "certificates": "pki/server-ca.pem"}],
        "keystores": [{"name": n, "certificate": f"pki/{n}.pem", "private_key": f"pki/{n}.key"}
                      for n in ("edge-server", "inside-server", "inside-client", "edge-client")],
        "groups": [{"name": "Partners"}, {"name": "Gateways"}],
        "users": [{"name": "alice", "groups": ["Partners"]}, {"name": "below", "groups": ["Partners"]},
                  {"name": "api_gateway", "groups": ["Gateways"]},
                  {"name": "batch", "groups": ["Gateways"], "password": "correct horse battery"}],
        "acls": [{"name": "PartnerApi", "allowed": ["Partners", "Gateways"]}],
        "certificates": [{"name": "alice", "certificate": "pki/alice.pem", "user": "alice"},
                         {"name": "below", "certificate": "pki/below.pem", "user": "below"},
                         {"name": "stranger", "certificate": "pki/stranger.pem"},
                         {"name": "gateway", "certificate": "pki/edge-client.pem", "user": "api_gateway"}],
        "services": [
            service | {"name": "orders:whoami", "path": "/orders", "builtin": "whoami"},
            service | {"name": "orders:echo", "path": "/echo", "builtin": "echo"},
            service | {"name": "orders:submit", "path": "/submit", "backend": f"http://127.0.0.1:{backend}",
                       "identity_headers": ["client-cert", "user", "xfcc"], "timeout": "2s"},
            service | {"name": "open:whoami", "path": "/open", "builtin": "whoami", "execute_acl": "Anonymous"},
        ],
        "endpoints": [
            {"name": "direct", "url": f"https://{https}/orders", "keystore": "edge-client", "truststore": "servers"},
            {"name": "certificate", "url": reverse, "identity": "certificate", "keystore": "edge-client"},
            {"name": "basic", "url": reverse, "identity": "basic", "username": "batch",
             "password": "correct horse battery"},
            {"name": "caller", "url": reverse},
            {"name": "anonymous", "url": reverse, "identity": "anonymous"},
        ],
        "apis": [{"name": n, "node": "edge", "path": f"/gateway/{n}", "endpoint": n}
                 for n in ("direct", "certificate", "basic", "caller", "anonymous")],
        "ports": [
            {"name": "ext", "node": "edge", "type": "external", "bind": ext, "client_auth": "request",
             "tls": {"keystore": "edge-server", "truststore": "partners"}, "registration_port": "reg", "wait": "1s",
             "service_access": {"default": "allow"}},
            {"name": "reg", "node": "edge", "type": "registration", "bind": reg,
             "tls": {"keystore": "edge-server", "truststore": "servers"}},
            {"name": "dial", "node": "inside", "type": "internal", "client_auth": "request",
             "connect": [{"address": reg, "registration": "inside-at-reg"}], "client_truststore": "partners",
             "tls": {"keystore": "inside-client", "truststore": "servers", "server_name": "localhost"},
             "service_access": {"default": "allow"}, "connections": {"min": 2, "spare": 2, "max": 16}},
            {"name": "https", "node": "inside", "type": "regular", "bind": https, "client_auth": "request",
             "tls": {"keystore": "inside-server", "truststore": "partners"}, "service_access": {"default": "allow"}},
        ],
        "registrations": [{"name": "inside-at-reg", "port": "reg", "node": "inside", "allow_test": True,
                           "certificate": "pki/inside-client.pem"}],
    }  # fmt: skip


@pytest.fixture(scope="session")
def shared_backend() -> Iterator[Backend]:
    running = Backend()
    yield running
    running.close()


@pytest.fixture
def backend(shared_backend: Backend) -> Iterator[Backend]:
    """What hangs in it hangs until this test lets it go, or is over; whatever the tests before did."""
    yield shared_backend
    shared_backend.release.set()
    shared_backend.release.clear()


@pytest.fixture(scope="session")
def forum(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[Installation]:
    """Both nodes run, and are registered. Nothing may be changed in it."""
    installation = Installation(tmp_path_factory.mktemp("forum"), forum_pki(), forum_topology(shared_backend.port))
    try:
        installation.start("edge", "inside")
        yield installation.ready()
    finally:
        installation.close()


@pytest.fixture
def fresh(tmp_path: Path, backend: Backend) -> Iterator[Callable[..., Installation]]:
    """Makes an installation of this test's own, all nodes running."""
    made: list[Installation] = []

    def make(change: Callable[[dict[str, Any]], None] = lambda topology: None, **env: str) -> Installation:
        topology = forum_topology(backend.port)
        change(topology)
        installation = Installation(tmp_path, forum_pki(), topology)
        installation.env |= env
        made.append(installation)
        installation.start(*(node["name"] for node in topology["nodes"]))
        return installation.ready()

    yield make
    for installation in made:
        installation.close()
