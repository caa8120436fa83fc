"""`manage.py fetch-crls`: revocation lists from the URLs of the truststores."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from django.utils import timezone

from gateway import revocation
from identity.models import RevocationSource

LOOK = 15.0  # seconds between two looks at what is due


class Command(BaseCommand):
    help = "Fetch the revocation lists of all truststores that name URLs, now; with --watch whenever they are due."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--watch", action="store_true", help="go on until SIGTERM, as `serve` does")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["watch"]:
            self._watch()
        failed = 0
        for source in RevocationSource.objects.select_related("truststore", "fetch"):
            changed = revocation.fetch(source, timezone.now())
            source.refresh_from_db()
            error = source.last.error
            failed += bool(error)
            words = error or ("a new list" if changed else "no other list than before")
            self.stdout.write(f"{source.truststore}: {source.url}: {words}")
        if failed:
            raise CommandError(f"{failed} could not be fetched.")

    def _watch(self) -> None:
        while True:
            for source in revocation.due(timezone.now()):
                revocation.fetch(source, timezone.now())
            close_old_connections()
            time.sleep(LOOK)
