"""`manage.py revert-unconfirmed`: takes back what nobody confirmed in time. `serve` runs it beside the console."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections

from gateway.unconfirmed import take_back_due

PAUSE = 1.0  # seconds between two looks


class Command(BaseCommand):
    help = "Take back, by changes of their own, the changes that were to be confirmed and were not. Runs until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="look once, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        while True:
            try:
                for line in take_back_due():
                    self.stdout.write(line)
            except DatabaseError as error:
                # It may be away for a while; what is due stays due.
                self.stderr.write(f"The database cannot be used now: {error}")
            if options["once"]:
                return
            close_old_connections()
            time.sleep(PAUSE)
