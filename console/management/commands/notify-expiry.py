"""`manage.py notify-expiry`: tell now what ends; `manage.py worker` does it once an hour."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from console.notices import notify


class Command(BaseCommand):
    help = "Tell by mail and webhook what ends soon; each object once for each number of days (EXPIRY_DAYS)."

    def handle(self, *args: Any, **options: Any) -> None:
        outcome = notify(timezone.now())
        if not outcome:
            raise CommandError("Nobody would hear of it: set EXPIRY_MAIL_TO with EMAIL_URL, or EXPIRY_WEBHOOK.")
        failed = [f"{channel}: {words}" for channel, words in outcome.items() if isinstance(words, str)]
        for channel, count in outcome.items():
            if isinstance(count, int):
                self.stdout.write(f"{channel}: {count} told")
        if failed:
            raise CommandError("; ".join(failed))
