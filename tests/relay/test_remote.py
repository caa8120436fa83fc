"""Nodes on machines of their own: enrolment, delivery, and everything that may be missing or broken meanwhile."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.relay.control import call
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend
from tests.relay.remote import RemoteInstallation

Make = Callable[..., RemoteInstallation]


@pytest.fixture
def make(tmp_path: Path, backend: Backend) -> Iterator[Make]:
    """Makes the forum's installation on three machines, nothing running yet."""
    made: list[RemoteInstallation] = []

    def one(change: Callable[[dict[str, Any]], None] = lambda topology: None) -> RemoteInstallation:
        topology = forum_topology(backend.port)
        change(topology)
        made.append(RemoteInstallation(tmp_path, forum_pki(), topology))
        return made[-1]

    yield one
    for installation in made:
        installation.close()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[RemoteInstallation]:
    """Edge and internal node are enrolled and linked. Nothing may be changed in it."""
    installation = RemoteInstallation(tmp_path_factory.mktemp("apart"), forum_pki(), forum_topology(backend.port))
    try:
        yield installation.enrol_and_run("edge", "inside")
    finally:
        installation.close()


def test_the_forum_s_case_works_across_machines(apart: RemoteInstallation) -> None:
    assert apart.request("ext", "/orders", "alice").json["user"] == "alice"
    assert apart.request("ext", "/gateway/certificate", "alice").json["user"] == "api_gateway"
    assert apart.request("ext", "/orders", "stranger").json["reason"] == "certificate_unmapped"


def test_a_test_invoke_travels_like_everything_else(apart: RemoteInstallation) -> None:
    alice = base64.b64encode(apart.pki["alice"].der).decode()
    message = {"op": "invoke", "port": "ext", "method": "GET", "target": "/orders", "certificate": alice, "timeout": 10}
    answer = call(apart.state_dir, "edge", message, timeout=15)
    assert answer["status"] == 200
    assert [lane["node"] for lane in answer["lanes"]] == ["edge", "inside"]


def test_a_change_is_in_force_on_both(apart: RemoteInstallation) -> None:
    assert apart.revision("edge") == apart.revision("inside")
