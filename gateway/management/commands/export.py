"""`manage.py export`."""

from typing import Any

from django.core.management.base import BaseCommand

from gateway.topology.export import export


class Command(BaseCommand):
    help = "Write the whole configuration as YAML. It holds no secret; applied again it changes nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(export(), ending="")
