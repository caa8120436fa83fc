"""What is wrong with this installation, and what to do about it: `manage.py doctor`.

Each check looks at one thing and yields what it found. None changes anything, and none shows a secret.
"""

import os
import shutil
import socket
import stat
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from console.attention import NodeState, ask_nodes, expiries
from console.free_ports import obstacle
from console.nodes import enrolled
from gateway import rotation
from gateway.audit import current_revision
from gateway.core.addresses import parse_bind, parse_url, split_host_port
from gateway.models import Dial, Endpoint, Node, Port, Service
from gateway.relay import openssl
from gateway.topology.oddities import crowded_requests
from identity.core.commands import command
from identity.core.vault import VaultError
from identity.models import sealing

REACH = 2.0  # seconds that an address has to take a connection
AT_ONCE = 16  # addresses that are tried at the same time
CLOCK_WARN, CLOCK_BAD = 5.0, 30.0  # seconds; an assertion lives for 60, and 5 are granted
ROOM = 512 * 1024 * 1024  # bytes that should be free where the database lies


_WITHOUT_HTTPS = ("security.W004", "security.W008", "security.W012", "security.W016")


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: ok, warn, bad. `remedy`: what to do, a sentence; "" where nothing is to be done."""

    kind: str
    subject: str
    words: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """All findings, check by check; a database that cannot be asked ends it early."""
    yield from _settings()
    yield from _files()
    problem = yield from _database()
    if problem:
        return
    nodes = ask_nodes(Node.objects.all())
    for check in (_secrets, _authority, _expiring, _certificate_requests):
        yield from check()
    for asked in (_nodes, _clocks, _ports, _reachability):
        yield from asked(nodes)


# --- this host ---


def _certificate_requests() -> Iterator[Finding]:
    """Whether ports can say whose certificates they ask for."""
    if problem := openssl.problem():
        yield Finding("warn", "TLS", f"ports ask for certificates without naming any authority: {problem}.",
                      "Clients that choose by it, such as webMethods Integration Server, send none: use a CPython of "
                      "3.11 to 3.14 that is linked with the system's OpenSSL.")  # fmt: skip
    for words in crowded_requests():
        yield Finding("warn", "TLS", words, "Split the truststore, and give each part a port of its own.")


def _settings() -> Iterator[Finding]:
    found = [each for each in checks.run_checks(include_deployment_checks=True) if not each.is_silenced()]
    if not settings.CONSOLE_HTTPS:
        found = [each for each in found if each.id not in _WITHOUT_HTTPS]
        yield Finding("warn", "settings", "the console speaks HTTP, which is for this host alone.",
                      "For others to reach it put TLS in front of it, and set CONSOLE_HTTPS.")  # fmt: skip
    elif not settings.CONSOLE_TRUSTED_PROXIES:
        yield Finding("warn", "settings", "all operators seem to come from one address, that of the proxy.",
                      "Have it set X-Forwarded-For, and name it in CONSOLE_TRUSTED_PROXIES.")  # fmt: skip
    for each in found:
        kind = "bad" if each.level >= checks.ERROR else "warn"
        yield Finding(kind, "settings", each.msg, each.hint or "")
    if not found:
        yield Finding("ok", "settings", "Django's checks for deployment find nothing.")


def _files() -> Iterator[Finding]:
    """What only this account may read."""
    private = [Path(settings.POSTERN_ENV_FILE), Path(settings.POSTERN_STATE_DIR)]
    if connection.vendor == "sqlite":
        private.append(Path(settings.DATABASES["default"]["NAME"]))
    for path in private:
        try:
            status = path.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            wanted = "700" if path.is_dir() else "600"
            yield Finding("bad", str(path), f"other accounts may use it (mode {mode:o}).", f"chmod {wanted} {path}")
        elif status.st_uid not in (os.getuid(), 0):
            yield Finding("warn", str(path), f"it belongs to another account (number {status.st_uid}).",
                          "Run this as the account that the console runs as.")  # fmt: skip
        else:
            yield Finding("ok", str(path), "only this account may read it.")


def _database() -> Generator[Finding, None, bool]:
    """Returns whether the database is of no use."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA quick_check(1)")
                said = str(cursor.fetchone()[0])
            if said != "ok":
                yield Finding("bad", "database", f"SQLite finds it damaged: {said}", "Restore the last backup.")
    except DatabaseError as error:
        yield Finding("bad", "database", f"cannot be asked: {str(error).partition(chr(10))[0]}",
                      "See that DATABASE_URL is right and the server runs.")  # fmt: skip
        return True
    if plan:
        yield Finding("bad", "database", f"{len(plan)} migrations are not applied.", command("prepare"))
        return True
    free = shutil.disk_usage(settings.HOME_DIR if settings.HOME_DIR.exists() else Path.cwd()).free
    if free < ROOM:
        yield Finding("warn", "disk", f"{free / 2**20:.0f} MiB are free where {settings.HOME_DIR} lies.", "Make room.")
    yield Finding("ok", "database", f"{connection.vendor}, up to date, revision {current_revision()}.")
    return False


def _secrets() -> Iterator[Finding]:
    opened = old = 0
    for model in sealing.sealed_models():
        for row in model._default_manager.iterator():
            for column in model.SEALED:  # type: ignore[attr-defined]
                value = bytes(getattr(row, column) or b"")
                try:
                    opened += bool(value and sealing.open_sealed(row, column))
                    old += bool(value) and not sealing.vault().is_current(value)
                except VaultError as error:
                    yield Finding("bad", f"{model._meta.verbose_name} {row}", str(error),
                                  "Give the key back that sealed it, or store the secret anew.")  # fmt: skip
    if old:
        yield Finding(
            "warn", "master key", f"{old} secrets are still under a former key.", command("rotate-master-key")
        )
    elif settings.POSTERN_MASTER_KEY_PREVIOUS:
        yield Finding("warn", "master key", "no secret needs POSTERN_MASTER_KEY_PREVIOUS any more.", "Take it out.")
    yield Finding("ok", "master key", f"{opened} stored secrets open.")


def _authority() -> Iterator[Finding]:
    """Whether the exchange of the nodes' authority waits for somebody."""
    if behind := rotation.left_behind():
        yield Finding("warn", "authority of nodes", f"is being exchanged; still by the old one: {', '.join(behind)}.",
                      "Link or disown them, or give up on them: "
                      f"{command('rotate-authority')} --drop-old --force.")  # fmt: skip


def _expiring() -> Iterator[Finding]:
    found = False
    for concern in expiries(timezone.now()):
        found = True
        yield Finding(concern.kind, "certificates", concern.text, concern.hint)
    if not found:
        yield Finding("ok", "certificates", "none ends within 30 days.")


# --- nodes ---


def _nodes(states: list[NodeState]) -> Iterator[Finding]:
    revision, elsewhere = current_revision(), enrolled()
    for state in states:
        subject = f"node {state.node}"
        if state.told is None:
            remedy = (
                "postern-node status on its machine tells more."
                if state.node.name in elsewhere
                else "Start it, where it is to run here; enrol it, where it is not."
            )
            yield Finding("warn", subject, state.problem, remedy)
        elif state.told["revision"] != revision:
            yield Finding("warn", subject, f"works by revision {state.told['revision']}, and {revision} is the last.",
                          "Its log tells why, where this stays.")  # fmt: skip
        else:
            yield Finding("ok", subject, f"runs, and revision {revision} is in force.")


def _clocks(states: list[NodeState]) -> Iterator[Finding]:
    for state in states:
        if state.told is None or "clock" not in state.told:
            continue
        ahead = state.told["clock"] - time.time()
        if abs(ahead) < CLOCK_WARN:
            yield Finding("ok", f"clock of node {state.node}", "agrees with this host's.")
            continue
        kind = "bad" if abs(ahead) >= CLOCK_BAD else "warn"
        words = (
            f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's: certificates are judged by it."
        )
        yield Finding(kind, f"clock of node {state.node}", words, "Have both hosts keep time by NTP.")


def _ports(states: list[NodeState]) -> Iterator[Finding]:
    elsewhere = enrolled()
    for state in states:
        for port in Port.objects.filter(node=state.node, enabled=True).exclude(bind=""):
            subject = f"port {port}"
            if state.told is not None:
                if state.ports.get(port.name, {}).get("listening"):
                    yield Finding("ok", subject, f"listens at {port.bind}.")
                else:
                    words, remedy = f"does not listen at {port.bind}.", f"The log of node {state.node} tells why."
                    yield Finding("bad", subject, words, remedy)
            elif state.node.name in elsewhere:
                continue
            elif problem := obstacle(*parse_bind(port.bind)):
                yield Finding(
                    "warn", subject, f"{port.bind}: {problem}.", "That matters where the node is to run here."
                )


def _reachability(states: list[NodeState]) -> Iterator[Finding]:
    """Whether what the nodes of this host call takes a connection; of others nothing can be said from here."""
    here = [state.node for state in states if state.told is not None and not state.told.get("remote")]
    wanted: dict[tuple[str, int], list[str]] = {}

    def note(host: str, number: int, who: str) -> None:
        wanted.setdefault((host, number), []).append(who)

    for dial in Dial.objects.filter(port__node__in=here, port__enabled=True).select_related("port"):
        note(*split_host_port(dial.address), f"port {dial.port}")
    for service in Service.objects.filter(node__in=here).exclude(backend=""):
        url = parse_url(service.backend, ("http", "https"))
        note(url.host, url.port, f"service {service}")
    for endpoint in Endpoint.objects.filter(apis__node__in=here, url__startswith="https:").distinct():
        url = parse_url(endpoint.url, ("https",))
        note(url.host, url.port, f"endpoint {endpoint}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (host, number), problem in zip(wanted, pool.map(_reach, wanted), strict=True):
            users = ", ".join(wanted[host, number])
            if problem:
                yield Finding(
                    "bad",
                    f"{host}:{number}",
                    f"{problem} ({users}).",
                    "See that it runs, and that no firewall is in the way.",
                )
            else:
                yield Finding("ok", f"{host}:{number}", f"takes a connection ({users}).")


def _reach(address: tuple[str, int]) -> str:
    """What keeps us from `address`; "" when nothing does."""
    try:
        with closing(socket.create_connection(address, REACH)):
            return ""
    except TimeoutError:
        return f"no answer within {REACH:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
