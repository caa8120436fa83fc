"""A change reaches connections that are open: the next request on them is decided by what is in force then.

Each connection has asked before, twice, so that its heads and decisions are remembered on every node on the way.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import minting
from tests.relay import simulated
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend, Installation
from tests.relay.test_blocking import Kept, named

Change = Callable[[Installation], None]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[Installation]:
    found = Installation(tmp_path_factory.mktemp("open"), forum_pki(), forum_topology(shared_backend.port))
    try:
        found.start("edge", "inside")
        yield found.ready()
    finally:
        found.close()


def _set(section: str, name: str, **fields: Any) -> Change:
    return lambda installation: named(installation, section, name).update(fields)


def _unmapped(installation: Installation) -> None:
    del named(installation, "certificates", "alice")["user"]


def _by_rule(installation: Installation) -> None:
    _unmapped(installation)
    installation.topology["mapping_rules"] = [
        {"name": "one", "subject": {"O": "Partner One", "CN": "alice"}, "user": "below"}
    ]


def _rules_disagree(installation: Installation) -> None:
    _by_rule(installation)
    installation.topology["mapping_rules"] += [{"name": "two", "san": "dns:*.partner.example", "user": "alice"}]


def _gone(installation: Installation) -> None:
    installation.topology["certificates"] = [
        entry for entry in installation.topology["certificates"] if entry["name"] != "alice"
    ]


def _revoked(installation: Installation) -> None:
    crl = minting.crl_pem(installation.pki["partner-ca"], [installation.pki["alice"]]).decode()
    named(installation, "truststores", "partners")["crls"] = [crl]


def _distrusted(installation: Installation) -> None:
    named(installation, "truststores", "partners")["certificates"] = "pki/server-ca.pem"


BOTH = ("ext", "https")
CHANGES: dict[str, tuple[Change, tuple[int, str], tuple[str, ...]]] = {
    "mapped to another": (_set("certificates", "alice", user="below"), (200, "below"), BOTH),
    "mapped to nobody": (_unmapped, (403, "certificate_unmapped"), BOTH),
    "no longer on file": (_gone, (403, "certificate_unmapped"), BOTH),
    "for another use": (_set("certificates", "alice", usage="verify"), (403, "certificate_unmapped"), BOTH),
    "for other ports": (_set("certificates", "alice", ports=["reg"]), (403, "certificate_unmapped"), BOTH),
    "a rule in its place": (_by_rule, (200, "below"), BOTH),
    "rules that disagree": (_rules_disagree, (403, "mapping_ambiguous"), BOTH),
    "the user's groups": (_set("users", "alice", groups=[]), (403, "acl_denied"), BOTH),
    "the user for other ports": (_set("users", "alice", ports=["reg"]), (403, "certificate_unmapped"), BOTH),
    "the ACL": (_set("acls", "PartnerApi", allowed=["Gateways"]), (403, "acl_denied"), BOTH),
    "the ACL denies": (_set("acls", "PartnerApi", allowed=[], denied=["Partners"]), (403, "acl_denied"), BOTH),
    "the service's ACL": (_set("services", "orders:whoami", execute_acl="Administrators"), (403, "acl_denied"), BOTH),
    "revoked": (_revoked, (403, "certificate_revoked"), BOTH),
    "its authority taken away": (_distrusted, (403, "certificate_untrusted"), BOTH),
    "what the port shows": (
        _set("ports", "dial", service_access={"default": "deny"}), (403, "service_not_on_port"), ("ext",),
    ),
    "what the channel may carry": (
        _set("registrations", "inside-at-reg", paths=["/echo"]), (403, "not_on_channel"), ("ext",),
    ),
    "what the channel may assert": (
        _set("registrations", "inside-at-reg", may_assert={"groups": ["Gateways"]}),
        (403, "assertion_not_permitted"), ("ext",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_the_next_request_is_decided_anew(installation: Installation, what: str) -> None:
    change, expected, ports = CHANGES[what]
    before = copy.deepcopy(installation.topology)
    with contextlib.ExitStack() as stack:
        kept = {port: stack.enter_context(_as_ever(installation, port)) for port in ports}
        for connection in kept.values():
            assert _asked(connection) == _asked(connection) == (200, "alice")
        try:
            change(installation)
            installation.apply()
            for port, connection in kept.items():
                installation.until(lambda connection=connection: _asked(connection) == expected, f"{port}: {expected}")
        finally:
            installation.topology = before
            installation.apply()


@contextlib.contextmanager
def _as_ever(installation: Installation, port: str) -> Iterator[Kept]:
    """A connection on which nothing is left of what the test before has changed."""
    found: list[Kept] = []

    def opened() -> bool:
        with contextlib.ExitStack() as stack:
            try:
                connection = Kept(stack.enter_context(installation.connection(port, "alice")))
                if _asked(connection) != (200, "alice"):
                    return False
            except OSError:  # not believed yet
                return False
            found.append(connection)
            stack.pop_all()
            return True

    try:
        installation.until(opened, f"{port}: as ever")
        yield found[0]
    finally:
        for connection in found:
            connection.sock.close()


def _asked(connection: Kept) -> tuple[int, str]:
    answer = connection.get()
    return answer.status, answer.json["user" if answer.status == 200 else "reason"]


def test_a_certificate_that_ends_while_its_connection_stands(
    fresh: Callable[..., Installation], tmp_path: Path
) -> None:
    """Nothing is configured for it, and nothing comes: time alone."""
    rule = {"name": "short", "subject": {"CN": "short"}, "user": "alice"}
    clock = simulated.Clock(tmp_path)
    installation = fresh(lambda topology: topology.update(mapping_rules=[rule]), **clock.env)
    short = minting.mint("CN=short,O=Partner One", installation.pki["partner-ca"], days=(-1, 1))
    (installation.folder / "pki" / "short.pem").write_text(short.chain_pem)
    (installation.folder / "pki" / "short.key").write_text(short.key_pem)
    with contextlib.ExitStack() as stack:
        kept = {port: Kept(stack.enter_context(installation.connection(port, "short"))) for port in BOTH}
        for connection in kept.values():
            assert _asked(connection) == _asked(connection) == (200, "alice")
        clock.advance(86400.0 + 60)
        for port, connection in kept.items():
            assert _asked(connection) == (403, "certificate_expired"), port
