"""`manage.py restore FILE`."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.backup import archive, rows
from gateway.audit import record_restored
from identity.models import sealing


class Command(BaseCommand):
    help = "Fill an empty database from FILE, which `backup` wrote: all of it, or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="- reads standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["file"] == "-":
                head = rows.load(archive.read(sys.stdin.buffer, sealing.vault()))
            else:
                with Path(options["file"]).open("rb") as file:
                    head = rows.load(archive.read(file, sealing.vault()))
        except (archive.ArchiveError, rows.NotEmpty, OSError) as error:
            raise CommandError(f"Nothing was restored: {error}") from error
        facts = {"revision": head["revision"], "created": head["created"]}
        revision = record_restored("restore", f"restored from the backup of {head['created']}", facts)
        self.stdout.write(
            f"Restored: revision {head['revision']}, as of {head['created']}. It goes on with {revision}, which is "
            "newer than whatever nodes have."
        )
