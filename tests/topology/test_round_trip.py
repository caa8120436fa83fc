"""What is exported and applied again changes nothing, and says all that there is."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.models import ChangeSet
from gateway.topology.apply import apply
from gateway.topology.document import load
from gateway.topology.entries import SECTIONS
from gateway.topology.export import export
from tests import minting
from tests.topology.conftest import File, Topology, exported, small_topology

pytestmark = pytest.mark.django_db

ELSEWHERE = Path("/nowhere")  # an export names no files


def test_an_export_applied_again_changes_nothing_and_holds_no_secret(file: File) -> None:
    file.say()
    text = exported()
    for secret in ("PRIVATE KEY", "correct horse", "scrypt$"):
        assert secret not in text
    assert "Nothing to change" in file.say("--prune", text=text)
    assert exported() == text


def test_an_export_of_nothing_is_a_file() -> None:
    assert exported() == "version: 1\n"


def everything(pki: dict[str, minting.Minted]) -> Topology:
    """Every field of every section, with something else than its default."""
    topology = small_topology()
    entries = {(section, e["name"]): e for section, found in topology.items() if section != "version" for e in found}
    entries["nodes", "edge"]["description"] = "In the DMZ: 'quoted', #1, *2"
    entries["groups", "Staff"]["description"] = "Two\nlines"
    entries["users", "bob"].update(
        groups=["Partners", "Staff"], enabled=False, description="Bob", password="bob's own one", ports=["dial", "ext"]
    )
    entries["acls", "PartnerApi"].update(description="yes")
    crl = minting.crl_pem(pki["partner-ca"]).decode()
    entries["truststores", "partners"].update(
        certificates=["pki/partner-ca.pem", "pki/server-ca.pem"],
        revocation="soft",
        description="null",
        max_intermediates=2,
        crls=[crl, {"url": "http://pki.example/ca.crl", "every": "7200s"}],
    )
    entries["keystores", "server"].update(
        description="shown",
        next={"certificate": "pki/inside-client.pem", "private_key": "pki/inside-client.key",
              "from": "2099-12-31T22:30:00Z"},
    )  # fmt: skip
    entries["certificates", "bob"].update(
        usage="verify", blocked=True, ports=["dial"], logs_in_until="2030-01-31T00:00:00Z", description="1.0"
    )
    topology["mapping_rules"] = [
        {"name": "one", "priority": 7, "issuer": "CN=Partner CA,O=Acme", "subject": {"O": ["Acme"], "OU": ["x", "y"]},
         "san": "dns:*.a.example", "user": "alice", "enabled": False, "ports": ["ext"]},
        {"name": "two", "san": "email:a@b.example", "user_from": "san_email"},
    ]  # fmt: skip
    entries["services", "orders"].update(methods=["GET", "POST"], description="orders")
    topology["services"].append(
        {"name": "back", "node": "inside", "path": "/back", "backend": "http://127.0.0.1:9/x", "execute_acl": "Default",
         "identity_headers": ["jwt", "xfcc"], "timeout": "1500ms", "forward_authorization": True,
         "trailers": ["x-sum"], "description": "back"}
    )  # fmt: skip
    topology["endpoints"] += [
        {"name": "batch", "url": "reverse://reg", "identity": "basic", "username": "bob", "password": "its password",
         "timeout": "2m", "description": "batch"},
        {"name": "direct", "url": "https://inside.example:8443/a", "identity": "certificate", "keystore": "server",
         "truststore": "servers", "forward_authorization": True},
    ]  # fmt: skip
    entries["apis", "orders-api"].update(methods=["PUT"], execute_acl="PartnerApi", description="api")
    entries["ports", "ext"].update(
        enabled=False, accept_basic=True, authenticate=True, explain=True, wait="250ms", trusted_proxies=["10.0.0.0/8"],
        service_access={"default": "allow", "deny": ["/hidden", "orders-api"]}, description="outside",
        ip_access={"default": "deny", "allow": ["192.0.2.0/24"], "deny": ["192.0.2.7"]},
        limits={"requests": 5, "body_timeout": 1.5},
    )  # fmt: skip
    topology["keystores"].append({"name": "named", "certificate": "pki/named.pem", "private_key": "pki/named.key"})
    entries["ports", "ext"]["tls"].update(keystores=["named"], min_version="1.3", ciphers="compatible")
    entries["ports", "dial"].update(connections={"min": 1, "spare": 3, "max": 9})
    entries["ports", "dial"]["tls"]["server_name"] = "localhost"
    entries["ports", "plain"].update(wait="7s", connections={"min": 3, "spare": 2, "max": 64})
    entries["registrations", "inside-at-reg"].update(
        enabled=False, allow_test=True, paths=["/orders", "/status"], next_certificate="pki/alice.pem"
    )
    return topology


def comparable(value: Any, folder: Path, durations: bool = False) -> Any:
    """Files as what is in them, durations as seconds."""
    match value:
        case dict():
            return {key: comparable(item, folder, key in ("wait", "timeout")) for key, item in value.items()}
        case list():
            return [comparable(item, folder) for item in value]
        case str() if value.startswith("pki/"):
            return (folder / value).read_text()
        case str() if durations:
            return (
                float(value[:-2]) / 1000
                if value.endswith("ms")
                else float(value[:-1]) * (60 if value[-1] == "m" else 1)
            )
    return value


def test_every_field_comes_back(tmp_path: Path, pki: dict[str, minting.Minted]) -> None:
    file = File(tmp_path, pki, everything(pki))
    file.say("--prune")
    found = comparable(yaml.safe_load(exported()), tmp_path)
    for section in SECTIONS:
        entries = {entry["name"]: entry for entry in found[section]}
        for entry in file.topology[section]:
            for field, wanted in comparable(entry, tmp_path).items():
                stored = entries[entry["name"]][field]
                if field in ("password", "private_key"):
                    assert list(stored) == ["kept"]
                elif field == "next":
                    assert list(stored.pop("private_key")) == ["kept"]
                    assert stored == {key: value for key, value in wanted.items() if key != "private_key"}
                elif field in ("certificates", "identity_headers"):
                    assert sorted(stored) == sorted([wanted] if isinstance(wanted, str) else wanted)
                elif isinstance(wanted, dict):
                    assert wanted.items() <= stored.items(), (section, entry["name"], field)
                else:
                    assert stored == wanted, (section, entry["name"], field)
    assert "Nothing to change" in file.say("--prune", text=exported())


def test_every_field_that_there_is_was_meant(pki: dict[str, minting.Minted]) -> None:
    """`everything` leaves out no field that an export can write, or a field added later is never tried."""
    topology = everything(pki)
    usual = {"name", "predefined"}
    for section, model in SECTIONS.items():
        columns = {field.name for field in model._meta.get_fields() if field.concrete and getattr(field, "editable", 0)}
        written = {key for entry in topology[section] for key in flat(entry)}
        missing = columns - written - usual - {"id"}
        assert not missing, (section, missing)


def flat(entry: dict[str, Any]) -> Iterator[str]:
    """Fields by the names of their columns: `tls.keystore` is `tls_keystore`."""
    for key, value in entry.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}_{part}" for part in value)
    if "may_assert" in entry:
        yield "limits_assertions"


def test_an_export_rebuilds_what_is_gone(tmp_path: Path, pki: dict[str, minting.Minted]) -> None:
    """With its secrets given again, it needs nothing else."""
    file = File(tmp_path, pki, everything(pki))
    file.say()
    original, content = copy.deepcopy(file.topology), yaml.safe_load(exported())
    file.say("--prune", text="version: 1\n")
    for keystore, key in (("server", "edge-server"), ("named", "named")):
        next(e for e in content["keystores"] if e["name"] == keystore)["private_key"] = f"pki/{key}.key"
    next(e for e in content["keystores"] if e["name"] == "server")["next"]["private_key"] = "pki/inside-client.key"
    next(user for user in content["users"] if user["name"] == "bob")["password"] = "bob's own one"
    next(e for e in content["endpoints"] if e["name"] == "batch")["password"] = "its password"
    file.say(text=yaml.safe_dump(content))
    file.topology = original
    assert "Nothing to change" in file.say("--prune")


# --- laws, over all that can be written -----------------------------------------------------------------

NAMES = ["a", "B-2", "x:y", "u@h", "_", "..."]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
methods = st.lists(st.sampled_from(["GET", "POST", "DELETE"]), unique=True)
networks = st.lists(st.sampled_from(["10.0.0.0/8", "::1", "192.0.2.7"]), unique=True)
durations = st.floats(0.1, 300).map(lambda seconds: round(seconds, 7)) | st.sampled_from(["500ms", "2m", "1.25s"])


def some(names: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=4) if names else st.just([])


def sparse(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields, or none."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Valid files of a few entries, without secrets: hashing and fingerprints take their time on purpose."""

    def entries(names: list[str], fields: st.SearchStrategy[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"name": name} | draw(fields) for name in names]

    groups, users, services = draw(some(NAMES)), draw(some(NAMES)), draw(some(NAMES))
    acls = []
    for name in draw(some(NAMES)):
        allowed = draw(some(groups))
        acls.append({"name": name, "allowed": allowed, "denied": draw(some([g for g in groups if g not in allowed]))})
    sides = draw(st.permutations(services))
    access = {"default": draw(st.sampled_from(["allow", "deny"])), "allow": sides[:1], "deny": sides[1:2]}
    rules = entries(draw(some(NAMES)), sparse(priority=st.integers(0, 10**6), enabled=st.booleans()))
    for rule in rules:
        rule["subject"] = {"O": draw(st.lists(st.sampled_from(["Acme", "Ä & Co", "yes", "1"]), min_size=1, max_size=2))}
        rule |= {"user": draw(st.sampled_from(users))} if users and draw(st.booleans()) else {"user_from": "cn"}
    return {
        "version": 1,
        "nodes": [{"name": "n", "role": draw(st.sampled_from(["edge", "internal", "standalone"]))}],
        "groups": entries(groups, sparse(description=texts)),
        "users": entries(users, sparse(groups=some(groups), enabled=st.booleans(), description=texts)),
        "acls": acls,
        "mapping_rules": rules,
        "services": [
            entry | {"node": "n", "path": f"/{number}", "builtin": "echo"}
            for number, entry in enumerate(
                entries(services, sparse(methods=methods, timeout=durations, description=texts,
                                         execute_acl=st.sampled_from([acl["name"] for acl in acls] or ["Default"])))
            )
        ],
        "ports": [
            entry | {"node": "n", "type": "regular", "bind": f"127.0.0.1:{9000 + number}", "service_access": access}
            for number, entry in enumerate(
                entries(draw(some(NAMES)), sparse(enabled=st.booleans(), wait=durations, trusted_proxies=networks,
                                                  accept_basic=st.booleans(), explain=st.booleans(), description=texts,
                                                  limits=sparse(requests=st.integers(1, 9))))
            )
        ],
    }  # fmt: skip


@contextmanager
def taken_back() -> Iterator[None]:
    """What an example stores is gone at its end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def apply_text(text: str, **options: Any) -> int | None:
    return apply(load(text, ELSEWHERE), **options).revision


few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@few
@given(topologies())
def test_export_and_apply_are_inverse(topology: Topology) -> None:
    with taken_back():
        apply_text(yaml.safe_dump(topology))
        text = export()
        assert apply_text(text, prune=True) is None
        assert export() == text


@few
@given(topologies(), topologies())
def test_what_was_before_makes_no_difference(one: Topology, other: Topology) -> None:
    with taken_back():
        apply_text(yaml.safe_dump(one), prune=True)
        wanted = export()
        apply_text(yaml.safe_dump(other), prune=True)
        apply_text(yaml.safe_dump(one), prune=True)
        assert export() == wanted
        assert apply_text(yaml.safe_dump(one), prune=True) is None


@few
@given(topologies(), topologies())
def test_a_dry_run_tells_what_then_happens(one: Topology, other: Topology) -> None:
    with taken_back():
        apply_text(yaml.safe_dump(one))
        before = export(), ChangeSet.objects.count()
        file = load(yaml.safe_dump(other), ELSEWHERE)
        planned = apply(copy.deepcopy(file), prune=True, dry_run=True).changes
        assert (export(), ChangeSet.objects.count()) == before
        done = apply(file, prune=True).changes
        assert [(c.action, c.kind, c.name, c.before, c.after) for c in planned] == [
            (c.action, c.kind, c.name, c.before, c.after) for c in done
        ]
