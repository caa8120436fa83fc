"""`manage.py serve`: the console and the nodes, under one supervisor."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import environ
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from console.demo import seed
from console.free_ports import obstacle
from console.models import Operator
from console.readiness import Readiness
from console.supervisor import Program, Supervisor
from gateway.core.addresses import join_host_port, parse_bind
from gateway.models import Enrolment, Node, Port
from gateway.relay.control import MAX_PATH, ControlError, call, socket_path
from identity.core.commands import command

WORKERS, THREADS = 2, 4  # of gunicorn
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask what listens everywhere


class Command(BaseCommand):
    help = "Run the console and the configured nodes until Ctrl-C or SIGTERM; start again what dies."

    def add_arguments(self, parser: ArgumentParser) -> None:
        bind = environ.FileAwareEnv().str("CONSOLE_BIND", default="127.0.0.1:8000")
        parser.add_argument("--bind", default=bind, help="where the console listens (CONSOLE_BIND; now %(default)s)")
        parser.add_argument("--node", action="append", metavar="NAME", help="run this node alone; may be repeated")
        parser.add_argument("--no-console", action="store_true", help="run nodes alone")
        parser.add_argument("--no-nodes", action="store_true", help="run the console alone: all nodes are elsewhere")
        parser.add_argument("--access-log", action="store_true", help="a line for each request to the console")

    def handle(self, *args: Any, **options: Any) -> None:
        _check_migrations()
        if options["no_nodes"] and (options["no_console"] or options["node"]):
            raise CommandError(
                "--no-nodes goes with neither --no-console nor --node: nothing, or a node, would be left."
            )
        nodes = {} if options["no_nodes"] else _nodes(options["node"])
        console = None if options["no_console"] else _address(options["bind"])
        # Where all nodes are elsewhere the first of them is still to be enrolled, and it is the courier who does that.
        courier = console is not None and (options["no_nodes"] or _has_remote_nodes())
        if console is None and not nodes:
            raise CommandError("There is nothing to run: no node is configured, and --no-console leaves out the rest.")
        _check_addresses(nodes, console)
        programs = [_command(node, "relay", "--node", node) for node in nodes]
        if courier:
            programs.append(_command("courier", "courier"))
        if console is not None:
            programs += [_gunicorn(console, options["access_log"]), _command("worker", "worker")]
        supervisor = Supervisor(programs, sys.stdout.buffer)
        about = _about(nodes, console, elsewhere=options["no_nodes"])
        connections.close_all()

        def announce(took: float) -> None:
            supervisor.say(f"ready after {took:.1f} s")
            supervisor.say(about)

        ready = Readiness(
            {node: [port.name for port in ports] for node, ports in nodes.items()},
            None if console is None else (ANYWHERE.get(console[0], console[0]), console[1]),
            settings.POSTERN_STATE_DIR,
            supervisor.say,
            announce,
        )
        sys.stdout.flush()
        supervisor.run(ready)


def _check_migrations() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CommandError(f"The database is not up to date. Run: {command('prepare')}")


def _nodes(wanted: list[str] | None) -> dict[str, list[Port]]:
    """Each node that is to run, with its ports that listen."""
    known = {node.name: node for node in Node.objects.all()}
    elsewhere = set(Enrolment.objects.enrolled().values_list("node__name", flat=True))
    for name in wanted or ():
        if name not in known:
            raise CommandError(f"There is no node {name!r}. Configured: {', '.join(known) or 'none'}.")
        if name in elsewhere:
            raise CommandError(f"Node {name} is enrolled: it runs on a machine of its own. Disown it to run it here.")
    return {name: list(node.ports.listening()) for name, node in known.items()
            if (not wanted or name in wanted) and name not in elsewhere}  # fmt: skip


def _has_remote_nodes() -> bool:
    return bool(settings.CONSOLE_NODES_BIND) or Enrolment.objects.remote().exists()


def _address(bind: str) -> tuple[str, int]:
    try:
        return parse_bind(bind)
    except ValueError as error:
        raise CommandError(f"--bind (CONSOLE_BIND): {error}") from error


def _check_addresses(nodes: dict[str, list[Port]], console: tuple[str, int] | None) -> None:
    """Raises CommandError where something would keep a node or the console from starting."""
    for node, ports in nodes.items():
        path = socket_path(Path(settings.POSTERN_STATE_DIR), node)
        if len(os.fsencode(path)) > MAX_PATH:
            raise CommandError(f"{path} is too long for a socket: set POSTERN_STATE_DIR to a shorter path.")
        _check_not_running(node)
        for port in ports:
            if problem := obstacle(*parse_bind(port.bind)):
                raise CommandError(
                    f"Port {port.name} of node {node} cannot listen at {port.bind}: {problem}. Stop that program, or "
                    f"move the port: `{command('export')} > postern.yaml`, change its `bind` there and the `connect` "
                    f"of those who dial it, `{command('apply')} postern.yaml`."
                )
    if console is not None and (problem := obstacle(*console)):
        raise CommandError(
            f"The console cannot listen at {join_host_port(*console)}: {problem}. Stop that program, or give "
            "another address: CONSOLE_BIND=127.0.0.1:8001 in the environment, or in var/postern.env."
        )


def _check_not_running(node: str) -> None:
    try:
        call(settings.POSTERN_STATE_DIR, node, {"op": "state"}, timeout=1.0)
    except ControlError:
        return
    raise CommandError(f"Node {node} runs already. Stop it first: Ctrl-C where it runs, or SIGTERM to its process.")


def _command(name: str, *words: str) -> Program:
    return Program(name, (sys.executable, "-u", "-m", "console", *words))


def _gunicorn(address: tuple[str, int], access_log: bool) -> Program:
    options = {
        "--bind": join_host_port(*address),
        "--workers": str(WORKERS),
        "--worker-class": "gthread",
        "--threads": str(THREADS),
        "--log-level": "warning",
        "--graceful-timeout": "10",
    }
    words = [word for option in options.items() for word in option]
    if access_log:
        words += ["--access-logfile", "-"]
    return Program("console", (sys.executable, "-u", "-m", "gunicorn", "--no-control-socket", *words, "console.wsgi"))


def _typed(words: str) -> str:
    """One of our commands, to be copied where this one was typed."""
    line = command(words)
    return f"{os.path.relpath(sys.executable)} {line}" if line.startswith("manage.py") else line


def _about(nodes: dict[str, list[Port]], console: tuple[str, int] | None, *, elsewhere: bool) -> str:
    """What to do now."""
    lines = []
    if console is not None:
        host = ANYWHERE.get(console[0], console[0])
        operator = Operator.objects.filter(is_active=True).order_by("pk").first()
        here = join_host_port(host, console[1])
        url = settings.CONSOLE_URL  # who opens the proxy's back door has no HTTPS, and is told so by nobody
        lines.append(f"Console: {url}/ (it listens at {here})" if url else f"Console: http://{here}/")
        if operator is not None:
            lines.append(f"Log in as {operator}. Password lost: {_typed(f'operator-password {operator}')}")
    if not nodes and not elsewhere:
        lines.append("No node is configured yet: add one in the console, then start again.")
    elif nodes and (curl := seed.curl_line()):
        lines.append(f"Try: {curl}")
    return "\n".join(lines)
