"""`manage.py fetch-crls`: revocation lists from the URLs of the truststores."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from gateway import revocation
from identity.models import RevocationSource


class Command(BaseCommand):
    help = "Fetch the revocation lists of all truststores that name URLs, now; the worker does it when they are due."

    def handle(self, *args: Any, **options: Any) -> None:
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
