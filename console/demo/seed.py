"""The demo: mints its certificates, writes its configuration file and applies it as `manage.py apply` would."""

import io
import os
import secrets
import shlex
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from django.conf import settings
from django.core.management import CommandError, call_command

from console.demo.minting import Minted, Purpose, authority, leaf
from console.free_ports import free_port
from gateway.audit import current_revision
from gateway.core.addresses import split_host_port
from gateway.models import Node, Port

PORTS = {"ext": 8443, "reg": 8444, "inside_https": 8445}
LOCAL = ("localhost", "127.0.0.1", "::1")


def folder() -> Path:
    """Where the demo's files lie: beside the nodes' state, `var/demo` unless that was moved."""
    return Path(settings.POSTERN_STATE_DIR).parent / "demo"


def is_wanted() -> bool:
    """Whether nothing was ever configured here."""
    return current_revision() == 0 and not Node.objects.exists()


def seed() -> Path:
    """Write all files of the demo and apply its configuration; the configuration file.

    What an earlier attempt left in the folder is written over: without its database it is worth nothing.
    """
    target = folder()
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, minted in _mint(datetime.now(UTC)).items():
        _write(target / f"{name}.pem", minted.pem)
        _write(target / f"{name}.key", minted.key_pem)
    template = Template((Path(__file__).parent / "topology.yaml").read_text(encoding="utf-8"))
    text = template.substitute(_addresses(), batch_password=secrets.token_urlsafe(16))
    file = target / "topology.yaml"
    _write(file, text.encode())
    # What it warns of (a certificate has expired: on purpose) is no news here; what it refuses is.
    problems = io.StringIO()
    try:
        call_command("apply", str(file), stdout=io.StringIO(), stderr=problems)
    except CommandError as error:
        raise CommandError(f"The demo could not be made. {problems.getvalue()}{error}") from error
    return file


def curl_line() -> str | None:
    """A call that works as it stands, from the folder that it is printed in; None where there is no demo."""
    port = Port.objects.filter(name="ext").first()
    ca, certificate, key = (folder() / name for name in ("server-ca.pem", "alice.pem", "alice.key"))
    if port is None or not all(path.is_file() for path in (ca, certificate, key)):
        return None
    _, number = split_host_port(port.bind)
    options = (("--cacert", ca), ("--cert", certificate), ("--key", key))
    words = " ".join(f"{option} {shlex.quote(_from_here(path))}" for option, path in options)
    return f"curl {words} https://localhost:{number}/orders"


def _from_here(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _addresses() -> dict[str, str]:
    numbers: dict[str, int] = {}
    for name, wanted in PORTS.items():
        numbers[name] = free_port(wanted, taken=frozenset(numbers.values()))
    return {name: f"127.0.0.1:{number}" for name, number in numbers.items()}


def _mint(now: datetime) -> dict[str, Minted]:
    partners = authority("CN=Partner CA,O=Postern demo", now)
    servers = authority("CN=Server CA,O=Postern demo", now)
    client, server = Purpose.CLIENT, Purpose.SERVER
    return {
        "partner-ca": partners,
        "server-ca": servers,
        "edge-server": leaf(servers, "CN=localhost,O=Postern demo", server, now, hosts=LOCAL),
        "inside-server": leaf(servers, "CN=localhost,O=Postern demo", server, now, hosts=LOCAL),
        "inside-client": leaf(servers, "CN=inside,O=Postern demo", client, now),
        "edge-client": leaf(partners, "CN=api-gateway,O=Postern demo", client, now),
        "alice": leaf(partners, "CN=alice,O=Partner One", client, now, hosts=("alice.partner-one.example",)),
        "stranger": leaf(partners, "CN=stranger,O=Partner Two", client, now),
        "bob": leaf(partners, "CN=bob,O=Partner Three", client, now, days=(-400, -35)),
        "carol": leaf(partners, "CN=carol,O=Partner Four", client, now, days=(-350, 15)),
        "dave": leaf(partners, "CN=dave,O=Partner Five", client, now),
        "newcomer": leaf(partners, "CN=newcomer,O=Partner Six", client, now),
    }


def _write(path: Path, content: bytes) -> None:
    """For this account alone, from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
