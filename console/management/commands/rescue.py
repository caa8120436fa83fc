"""`manage.py rescue NAME`: the way back in, for whoever holds the host."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.models import Operator
from console.rescue import rescue
from identity.core.commands import command


class Command(BaseCommand):
    help = (
        "Give an operator access again, whatever was lost: a new one-time password, no second factor, enabled, an "
        "owner. His sessions end; it is recorded."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["name"]
        operator = Operator.objects.filter(username=name).first()
        if operator is None:
            known = ", ".join(Operator.objects.values_list("username", flat=True)) or f"none: {command('prepare')}"
            raise CommandError(f"There is no operator {name!r}. There are: {known}.")
        password = rescue(operator, "rescue")
        self.stdout.write(
            f"{name} is an owner again, with the one-time password: {password}\n"
            "It is good for one login, at which another one is chosen. The second factors are removed: set up new ones."
        )
