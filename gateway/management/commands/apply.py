"""`manage.py apply [--prune] [--dry-run] FILE`."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from gateway.topology.apply import apply
from gateway.topology.document import Topology, TopologyError, load
from gateway.topology.plan import describe
from identity.core.commands import command


class Command(BaseCommand):
    help = "Make the stored configuration equal to FILE: all of it, or nothing. Without --prune nothing is deleted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="YAML; - reads standard input")
        parser.add_argument("--prune", action="store_true", help="delete what FILE lacks, but for what is predefined")
        parser.add_argument("--dry-run", action="store_true", help="tell what would change, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        file, prune, dry_run = str(options["file"]), bool(options["prune"]), bool(options["dry_run"])
        source = "standard input" if file == "-" else Path(file).name
        message = f"{source} applied{', what it lacks deleted' if prune else ''}"
        try:
            applied = apply(_read(file), prune=prune, dry_run=dry_run, message=message)
        except TopologyError as error:
            for problem in error.problems:
                self.stderr.write(str(problem))
            count = len(error.problems)
            raise CommandError(f"Nothing was changed: {count} {'error' if count == 1 else 'errors'}.") from error
        except DatabaseError as error:
            said = str(error).partition("\n")[0]  # what PostgreSQL adds points into the query
            raise CommandError(
                f"Nothing was changed: {said}. Is the database migrated ({command('prepare')})?"
            ) from error
        for warning in applied.warnings:
            self.stderr.write(f"warning: {warning}")
        for change in applied.changes:
            for line in describe(change):
                self.stdout.write(line)
        if dry_run:
            self.stdout.write(f"{len(applied.changes)} would change; nothing was changed.")
        elif applied.revision is None:
            self.stdout.write("Nothing to change.")
        else:
            self.stdout.write(f"{len(applied.changes)} changed: revision {applied.revision}.")


def _read(file: str) -> Topology:
    """Raises TopologyError; CommandError where there is nothing to read."""
    try:
        if file == "-":
            return load(sys.stdin.read(), Path.cwd())
        path = Path(file)
        return load(path.read_text(encoding="utf-8"), path.resolve().parent)
    except OSError as error:
        raise CommandError(f"Nothing was changed: {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"Nothing was changed: {file} is no text in UTF-8 (byte {error.start + 1}).") from error
