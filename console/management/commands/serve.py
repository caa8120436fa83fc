"""`manage.py serve`: console and nodes under one supervisor, until Ctrl-C."""

import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from console.supervisor import Child, Supervisor, python, say
from gateway.core.addresses import split_host_port
from gateway.models import Node, Port


class Command(BaseCommand):
    help = "Run the console under gunicorn and every node of this machine's database; a child that dies is restarted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="where the console listens")
        parser.add_argument("--node", action="append", help="only this node (may be given several times)")

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = list(Node.objects.order_by("role").values_list("name", flat=True))
        if options["node"]:
            if unknown := set(options["node"]) - set(nodes):
                raise CommandError(f"There is no node {', '.join(sorted(unknown))}.")
            nodes = options["node"]
        self._check_free(options["bind"], nodes)
        manage = str(settings.BASE_DIR / "manage.py")
        children = [Child(node, python(manage, "relay", "--node", node)) for node in nodes]
        gunicorn = ["-m", "gunicorn", "console.wsgi", "--bind", options["bind"], "--workers", "2", "--threads", "8",
                    "--worker-class", "gthread", "--access-logfile", "-", "--chdir", str(settings.BASE_DIR),
                    "--log-level", "warning"]  # fmt: skip
        children.append(Child("console", python(*gunicorn)))
        say(f"console at http://{options['bind']}/   nodes: {', '.join(nodes) or 'none yet'}   Ctrl-C stops all")
        Supervisor(children).run()
        say("stopped")

    def _check_free(self, bind: str, nodes: list[str]) -> None:
        """Whose address is taken is said before anything starts."""
        wanted = {bind: "the console (--bind)"}
        for port in Port.objects.listening().filter(node__name__in=nodes):
            wanted[port.bind] = f"port {port.name} of node {port.node.name}"
        taken = []
        for address, whose in wanted.items():
            host, number = split_host_port(address)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, number))
                except OSError as error:
                    taken.append(f"{address}, for {whose}: {error.strerror}")
        if taken:
            raise CommandError("These addresses cannot be had; is it running already?\n  " + "\n  ".join(taken))
