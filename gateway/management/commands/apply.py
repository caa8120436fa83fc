"""`manage.py apply [--prune] [--dry-run] FILE`."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway.topology.apply import apply, describe
from gateway.topology.document import TopologyError, load


class Command(BaseCommand):
    help = "Make the stored configuration equal to FILE: all of it, or nothing. Without --prune nothing is deleted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="YAML; - reads standard input")
        parser.add_argument("--prune", action="store_true", help="delete what FILE lacks, but for what is predefined")
        parser.add_argument("--dry-run", action="store_true", help="tell what would change, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        file: str = options["file"]
        try:
            if file == "-":
                text, folder = sys.stdin.read(), Path.cwd()
            else:
                text, folder = Path(file).read_text(encoding="utf-8"), Path(file).resolve().parent
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        try:
            applied = apply(load(text, folder), prune=options["prune"], dry_run=options["dry_run"])
        except TopologyError as error:
            for problem in error.problems:
                self.stderr.write(str(problem))
            count = len(error.problems)
            raise CommandError(f"Nothing was changed: {count} {'error' if count == 1 else 'errors'}.") from error
        for warning in applied.warnings:
            self.stderr.write(f"warning: {warning}")
        for change in applied.changes:
            for line in describe(change):
                self.stdout.write(line)
        if options["dry_run"]:
            self.stdout.write(f"{len(applied.changes)} would change; nothing was changed.")
        elif applied.revision is None:
            self.stdout.write("Nothing to change.")
        else:
            self.stdout.write(f"{len(applied.changes)} changed: revision {applied.revision}.")
