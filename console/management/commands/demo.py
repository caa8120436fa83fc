"""`manage.py demo`: on an empty installation, the forum case to try, and the first operator."""

import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from console.models import Operator, Role
from gateway.demo import seed
from gateway.models import Node, Port


class Command(BaseCommand):
    help = "Seed an empty installation with a demonstration. Does nothing where there is something already."

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = settings.BASE_DIR / "var" / "demo"
        parser.add_argument("--folder", type=Path, default=default, help="where certificates and keys are written")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if not Node.objects.exists():
            seed(folder)
        if not Operator.objects.exists():
            password = secrets.token_urlsafe(12)
            Operator.objects.create_operator("admin", password, Role.OWNER)
            self.stdout.write(f"First operator: admin, one-time password: {password}   (change it under My account)")
        else:
            self.stdout.write("Operator: admin (a lost password: manage.py operator-password admin)")
        port = Port.objects.filter(name="ext").first()
        pki = folder / "pki"
        if port is not None and (pki / "alice.key").exists():
            number = port.bind.rpartition(":")[2]
            self.stdout.write(
                f"Try: curl --cacert {pki}/server-ca.pem --cert {pki}/alice.pem --key {pki}/alice.key "
                f"https://localhost:{number}/orders"
            )
