"""`manage.py relay --node NAME`: run one node until SIGTERM."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway.compile import UnknownNode
from gateway.core.addresses import parse_bind
from gateway.feed import Feed, Options
from gateway.models import Enrolment
from gateway.relay.handshake import MAX_WORKERS


class Command(BaseCommand):
    help = "Run one node: its ports, its tunnels. SIGTERM makes it finish what is in flight and stop."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--node", required=True, help="name of a configured node")
        parser.add_argument(
            "--workers", type=int, default=settings.POSTERN_WORKERS,
            help="processes that share the node's ports (POSTERN_WORKERS; now %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--status", metavar="HOST:PORT",
            help="where /metrics, /healthz and /readyz are (POSTERN_STATUS); unset: nowhere",
        )  # fmt: skip
        parser.add_argument(
            "--access-log", metavar="FILE",
            help="a line of JSON for each request, to a file or to - (POSTERN_ACCESS_LOG); unset: none",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        node = options["node"]
        if Enrolment.objects.enrolled().filter(node__name=node).exists():
            raise CommandError(f"Node {node} is enrolled: it runs on a machine of its own. Disown it to run it here.")
        if not 1 <= options["workers"] <= MAX_WORKERS:
            raise CommandError(f"--workers (POSTERN_WORKERS): give a number from 1 to {MAX_WORKERS}.")
        status_address = options["status"] or settings.POSTERN_STATUS.get(node, "")
        if status_address:
            try:
                parse_bind(status_address)
            except ValueError as error:
                raise CommandError(f"--status (POSTERN_STATUS): {error}") from error
        access_log = options["access_log"] or settings.POSTERN_ACCESS_LOG.replace("{node}", node)
        try:
            status = Feed(
                node, settings.POSTERN_STATE_DIR, Options(options["workers"], status_address, access_log)
            ).run()
        except UnknownNode as error:
            raise CommandError(str(error)) from error
        if status:
            sys.exit(status if status > 0 else 1)
