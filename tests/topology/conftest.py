"""Configuration files in a folder with their certificates, and the command that applies them."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from gateway.audit import current_revision
from gateway.models import ChangeSet
from tests import minting
from tests.relay.conftest import forum_pki, forum_topology

Topology = dict[str, Any]


@pytest.fixture(scope="session")
def pki() -> dict[str, minting.Minted]:
    return forum_pki() | {
        "locked": minting.mint("CN=locked"),
        "named": minting.mint("CN=named", san=("dns:named.example",), purpose="server"),
        "old": minting.mint("CN=old", days=(-30, -1)),
        "bob": minting.mint("CN=bob,O=Partner Two"),
    }


class File:
    """A configuration file. `say` applies it and gives what was printed; `errors`, what it was refused for."""

    def __init__(self, folder: Path, pki: dict[str, minting.Minted], topology: Topology) -> None:
        self.folder, self.pki, self.topology = folder, pki, topology
        (folder / "pki").mkdir()
        for name, minted in pki.items():
            (folder / "pki" / f"{name}.pem").write_text(minted.chain_pem)
            (folder / "pki" / f"{name}.key").write_text(minted.key_pem)

    def entry(self, section: str, name: str) -> dict[str, Any]:
        return next(entry for entry in self.topology[section] if entry["name"] == name)

    def write(self, text: str | None = None) -> str:
        path = self.folder / "topology.yaml"
        path.write_text(yaml.safe_dump(self.topology, sort_keys=False) if text is None else text)
        return str(path)

    def run(self, *options: str, text: str | None = None) -> tuple[str, str]:
        """What was printed on standard output and on standard error."""
        out, err = StringIO(), StringIO()
        call_command("apply", *options, self.write(text), stdout=out, stderr=err)
        return out.getvalue(), err.getvalue()

    def say(self, *options: str, text: str | None = None) -> str:
        return "".join(self.run(*options, text=text))

    def errors(self, *options: str, text: str | None = None) -> str:
        """What apply complains of, one problem a line; nothing was changed."""
        before, out, err = (current_revision(), ChangeSet.objects.count()), StringIO(), StringIO()
        with pytest.raises(CommandError, match="Nothing was changed"):
            call_command("apply", *options, self.write(text), stdout=out, stderr=err)
        assert (current_revision(), ChangeSet.objects.count()) == before
        assert out.getvalue() == ""
        return err.getvalue()


def exported() -> str:
    out = StringIO()
    call_command("export", stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path, pki: dict[str, minting.Minted]) -> File:
    """The forum's case, whole."""
    return File(tmp_path, pki, forum_topology(9))


@pytest.fixture
def small(tmp_path: Path, pki: dict[str, minting.Minted]) -> File:
    """A little of most kinds; no password, for hashing one takes its time."""
    return File(tmp_path, pki, small_topology())


def small_topology() -> Topology:
    return {
        "version": 1,
        "nodes": [{"name": "edge", "role": "edge"}, {"name": "inside", "role": "internal"}],
        "groups": [{"name": "Partners"}, {"name": "Staff"}],
        "users": [{"name": "alice", "groups": ["Partners"]}, {"name": "bob"}],
        "acls": [{"name": "PartnerApi", "allowed": ["Partners"], "denied": ["Staff"]}],
        "truststores": [{"name": "partners", "certificates": "pki/partner-ca.pem"},
                        {"name": "servers", "certificates": "pki/server-ca.pem"}],
        "keystores": [{"name": "server", "certificate": "pki/edge-server.pem", "private_key": "pki/edge-server.key"}],
        "certificates": [{"name": "alice", "certificate": "pki/alice.pem", "user": "alice"},
                         {"name": "bob", "certificate": "pki/bob.pem", "user": "bob"}],
        "services": [{"name": "orders", "node": "inside", "path": "/orders", "builtin": "whoami",
                      "execute_acl": "PartnerApi"},
                     {"name": "status", "node": "inside", "path": "/status", "builtin": "whoami"}],
        "endpoints": [{"name": "caller", "url": "reverse://reg/orders"}],
        "apis": [{"name": "orders-api", "node": "edge", "path": "/gateway/orders", "endpoint": "caller"}],
        "ports": [
            {"name": "ext", "node": "edge", "type": "external", "bind": "127.0.0.1:8443", "client_auth": "request",
             "tls": {"keystore": "server", "truststore": "partners"}, "registration_port": "reg",
             "service_access": {"default": "allow"}},
            {"name": "reg", "node": "edge", "type": "registration", "bind": "127.0.0.1:8444",
             "tls": {"keystore": "server", "truststore": "servers"}},
            {"name": "dial", "node": "inside", "type": "internal", "client_auth": "request",
             "connect": [{"address": "127.0.0.1:8444", "registration": "inside-at-reg"}],
             "tls": {"keystore": "server", "truststore": "servers"}, "client_truststore": "partners",
             "service_access": {"default": "deny", "allow": ["orders"]}},
            {"name": "plain", "node": "inside", "type": "regular", "bind": "127.0.0.1:8080"},
        ],
        "registrations": [{"name": "inside-at-reg", "port": "reg", "node": "inside",
                           "certificate": "pki/inside-client.pem",
                           "may_assert": {"truststores": ["partners"], "groups": ["Partners"]}}],
    }  # fmt: skip


Change = Callable[[File], object]
