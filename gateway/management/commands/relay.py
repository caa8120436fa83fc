"""`manage.py relay --node NAME`: run one node until SIGTERM."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway.compile import UnknownNode
from gateway.feed import Feed


class Command(BaseCommand):
    help = "Run one node: its ports, its tunnels. SIGTERM makes it finish what is in flight and stop."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--node", required=True, help="name of a configured node")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            status = Feed(options["node"], settings.POSTERN_STATE_DIR).run()
        except UnknownNode as error:
            raise CommandError(str(error)) from error
        if status:
            sys.exit(status if status > 0 else 1)
