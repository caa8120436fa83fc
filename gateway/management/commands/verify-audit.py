"""`manage.py verify-audit`: whether the audit log is whole."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from gateway import chain
from gateway.chain import End

REMEMBERED = "audit-end"  # in POSTERN_STATE_DIR


class Command(BaseCommand):
    help = (
        "Prove that no record of the audit log was changed, exchanged, put in or taken out. Where it ended the last "
        "time is remembered in the state folder, outside the database, so that an older copy of it is found out."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--end",
            action="append",
            default=[],
            metavar="NUMBER:HASH",
            help="where the chain ended once, as this command or the console's log said; may be repeated",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = Path(settings.POSTERN_STATE_DIR) / REMEMBERED
        try:
            remembered = [End.of(text) for text in [*options["end"], *_read(path)]]
        except ValueError as error:
            raise CommandError(f"{error} Given with --end, or in {path}.") from error
        with transaction.atomic():
            verdict = chain.verify(remembered)
        if verdict.problem:
            good = f" In order up to change {verdict.end}." if verdict.end else ""
            raise CommandError(f"The audit log is not whole. {verdict.problem}{good}")
        if verdict.end is None:
            self.stdout.write("The audit log is empty.")
            return
        _write(path, verdict.end)
        self.stdout.write(f"The audit log is whole: {verdict.length:,} changes, the last is {verdict.end}")


def _read(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _write(path: Path, end: End) -> None:
    """The whole file or the old one, never half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"{end}\n")
    fresh.replace(path)
