"""`manage.py rotate-master-key`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from identity.core.vault import VaultError
from identity.models.sealing import reseal_all


class Command(BaseCommand):
    help = (
        "Seal every stored secret with POSTERN_MASTER_KEY. Before: put the new key there and the old one into "
        "POSTERN_MASTER_KEY_PREVIOUS. After: take the old one out."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = reseal_all()
        except VaultError as error:
            raise CommandError(f"Nothing was changed: {error}") from error
        self.stdout.write(f"{count} sealed anew; every secret is now under the current key.")
