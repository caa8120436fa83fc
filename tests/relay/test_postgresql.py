"""Nodes that are fed from PostgreSQL: told of a change that another process made, also after the server was away."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.revisions import CHANNEL
from tests import databases
from tests.ports import free_port
from tests.postgresql import Cluster, cluster
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend, Installation
from tests.relay.remote import RemoteInstallation

pytestmark = pytest.mark.timeout(240)  # several processes are started, one after the other


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A server that may be stopped, and that installations of this test use."""
    with cluster() as server:
        monkeypatch.setenv("DATABASE_URL", server.url)
        databases._template.cache_clear()  # it lies in another server
        yield server
        databases._template.cache_clear()


def listeners(installation: Installation) -> int:
    with psycopg.connect(installation.env["DATABASE_URL"]) as connection:
        told = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE query = %s", [f"LISTEN {CHANNEL}"])
        (count,) = told.fetchone() or (0,)
        return int(count)


def maps_stranger_to(installation: Installation, user: str) -> None:
    """By a process of its own, as another console would."""
    stored = next(row for row in installation.topology["certificates"] if row["name"] == "stranger")
    stored["user"] = user
    installation.apply()


def runs_as(installation: Installation, user: str) -> bool:
    return installation.request("ext", "/orders", "stranger").json.get("user") == user


@pytest.mark.parametrize(
    "kind", [Installation, RemoteInstallation], ids=["beside-the-console", "on-their-own-machines"]
)
def test_a_change_by_another_process_reaches_nodes_also_after_the_server_was_away(
    own: Cluster, backend: Backend, kind: type[Installation]
) -> None:
    with tempfile.TemporaryDirectory(prefix="postern-") as folder:  # paths short enough for sockets
        installation = kind(Path(folder), forum_pki(), forum_topology(backend.port))
        try:
            if isinstance(installation, RemoteInstallation):
                installation.enrol_and_run("edge", "inside")
                waiting = 1  # the courier
            else:
                installation.start("edge", "inside")
                installation.ready()
                waiting = 2  # each node's feed
            installation.until(lambda: listeners(installation) == waiting, "who feeds listens")
            maps_stranger_to(installation, "alice")
            installation.until(lambda: runs_as(installation, "alice"), "the change is in force")
            own.stop()
            for _ in range(3):
                assert runs_as(installation, "alice"), "nodes need no database"
            own.start()
            installation.until(lambda: listeners(installation) == waiting, "who feeds listens again")
            maps_stranger_to(installation, "below")
            installation.until(lambda: runs_as(installation, "below"), "and hears of the next change")
        finally:
            installation.close()


def test_two_consoles_write_at_once_over_one_database_and_nothing_is_lost(own: Cluster, backend: Backend) -> None:
    """Both couriers feed; whichever tells a node first, both its changes are in force."""
    with tempfile.TemporaryDirectory(prefix="postern-") as folder:
        installation = RemoteInstallation(Path(folder), forum_pki(), forum_topology(backend.port))
        try:
            installation.enrol_and_run("edge", "inside")
            links = f"127.0.0.1:{free_port()}"
            installation.start_courier(POSTERN_STATE_DIR=str(Path(folder) / "other"), CONSOLE_NODES_BIND=links)
            installation.until(lambda: listeners(installation) == 2, "both consoles listen")
            running = [installation.begin("shell", "-v0", "-c", _ADD.format(name)) for name in ("one", "two")]
            for process in running:
                said, _ = process.communicate(timeout=60)
                assert process.returncode == 0, said
            for name in ("one", "two"):
                installation.until(
                    lambda name=name: installation.request("https", f"/{name}", "alice").status == 200,
                    f"{name} is served",
                )
        finally:
            installation.close()


_ADD = """
from gateway.audit import change_set
from gateway.models import Node, Service
from identity.models import ACL
with change_set("tests", "a service of {0}"):
    Service.objects.create(name="of-{0}", node=Node.objects.get(name="inside"), path="/{0}", builtin="whoami",
                           execute_acl=ACL.objects.get(name="PartnerApi"))
"""
