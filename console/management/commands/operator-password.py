"""`manage.py operator-password NAME`: a new one-time password for an operator who lost his."""

import secrets
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.authentication import forget_failures
from console.models import Operator
from gateway.audit import record_operators


class Command(BaseCommand):
    help = "Give an operator a new generated password, and print it once. Also ends a lockout."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        operator = Operator.objects.filter(username=options["name"]).first()
        if operator is None:
            known = ", ".join(Operator.objects.values_list("username", flat=True)) or "none yet"
            raise CommandError(f"There is no operator {options['name']!r}; there are: {known}.")
        password = secrets.token_urlsafe(12)
        operator.set_password(password)
        operator.is_active = True
        operator.save()
        forget_failures(operator.username)
        entry = {"name": operator.username, "password": "reset on the host"}
        record_operators("operator-password", None, operator.username, {"name": operator.username}, entry)
        self.stdout.write(f"New password of {operator}: {password}")
