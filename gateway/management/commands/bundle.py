"""`manage.py bundle --node NAME`: what a node on a machine of its own is enrolled with, once."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway import enrolments
from gateway.core.addresses import split_host_port
from gateway.core.enrolment import EnrolmentError
from gateway.models import Node


class Command(BaseCommand):
    help = "Print a bundle, with which a node is enrolled on its own machine: postern-node enrol --state DIR BUNDLE"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--node", required=True, help="name of a configured node")
        parser.add_argument(
            "--address", default="", metavar="HOST:PORT",
            help="of an edge: where the console reaches its registration port, if not where internal nodes do",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        node = Node.objects.filter(name=options["node"]).first()
        if node is None:
            raise CommandError(f"There is no node {options['node']!r}.")
        try:
            if options["address"]:
                split_host_port(options["address"])
            bundle = enrolments.offer(node, "bundle", None, address=options["address"])
        except (EnrolmentError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(bundle.text())
