"""`manage.py disown --node NAME`: what a machine has of the console is worth nothing from now on."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway import enrolments
from gateway.models import Node


class Command(BaseCommand):
    help = "Believe the machine of a node no longer: its certificate and its bundle are worth nothing from now on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--node", required=True, help="name of a configured node")

    def handle(self, *args: Any, **options: Any) -> None:
        node = Node.objects.filter(name=options["node"]).first()
        if node is None:
            raise CommandError(f"There is no node {options['node']!r}.")
        enrolments.disown(node, "disown", None)
        self.stdout.write(
            f"The console speaks with that machine no more. What {node} has, it goes on with: disable its "
            "registrations, and renew the keys that were on it."
        )
