"""`manage.py prepare [--demo]`: what has to be there before `serve`. Run again, it changes nothing that is there."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from console import operators
from console.demo import seed
from console.models import Operator, Role

FIRST = "admin"


class Command(BaseCommand):
    help = "Bring the database up to date, collect static files, make the first operator."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="where nothing is configured yet: configure the demo")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        if options["demo"] and seed.is_wanted():
            self.stdout.write(f"Demo configured: {seed.seed()}")
        if not Operator.objects.exists():
            self._make_first_operator()

    def _make_first_operator(self) -> None:
        password = operators.create(FIRST, Role.OWNER, "prepare")
        self.stdout.write(
            f"First operator: {FIRST}, one-time password: {password}\n"
            "It is shown this once, and good for one login: there you choose your own."
        )
