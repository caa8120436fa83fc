"""`manage.py operator-password NAME`: for an operator who lost theirs."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console import operators
from console.models import Operator


class Command(BaseCommand):
    help = "Give an operator of the console a new one-time password, and print it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["name"]
        operator = Operator.objects.filter(username=name).first()
        if operator is None:
            known = ", ".join(Operator.objects.values_list("username", flat=True)) or "none"
            raise CommandError(f"There is no operator {name!r}. There are: {known}.")
        password = operators.renew_password(operator, "operator-password")
        self.stdout.write(
            f"New one-time password of {name}: {password}\nIt is good for one login, at which another one is chosen."
        )
        if not operator.is_active:
            self.stderr.write(f"{name} is disabled and cannot log in; another owner can enable the account.")
