"""`manage.py import-csv KIND FILE`: what the console's page Import does, at once."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from console.jobs import refused_rows
from gateway.bulk import sheets
from gateway.bulk.imports import IMPORTERS, Action, Importer, Plan, RowError, import_rows
from gateway.bulk.sheets import SheetError

TOLD = 20  # refused rows that are told


class Command(BaseCommand):
    help = "Import users, groups or certificates from a CSV file; certificates also from a ZIP or a folder of files."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=sorted(IMPORTERS))
        parser.add_argument("file", metavar="FILE")
        parser.add_argument("--dry-run", action="store_true", help="tell what it would do, and change nothing")
        parser.add_argument("--good-rows", action="store_true", help="leave out the rows that are refused")
        parser.add_argument("--refused", metavar="FILE", help="write the rows that are refused there")

    def handle(self, *args: Any, **options: Any) -> None:
        importer, path = IMPORTERS[options["kind"]](), Path(options["file"])
        try:
            plan = _plan(importer, path)
            self._tell(plan)
            if options["refused"] and plan.refused:
                Path(options["refused"]).write_text(refused_rows(plan, importer), encoding="utf-8", newline="")
            if options["dry_run"]:
                self.stdout.write("Nothing was changed.")
                return
            message = f"{importer.kind} imported from {path.name}"
            only_good = options["good_rows"]
            revision = import_rows(plan, importer, actor="import-csv", message=message, only_good=only_good)
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read or written: {error.strerror}.") from error
        except (SheetError, RowError) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(f"Nothing was imported: {' '.join(error.messages)}") from error
        except DatabaseError as error:
            raise CommandError(f"Nothing was imported: {error}") from error
        self.stdout.write(f"Revision {revision}." if revision else "Nothing to change.")

    def _tell(self, plan: Plan) -> None:
        for outcome in [each for each in plan.shown if each.action is Action.REFUSE][:TOLD]:
            self.stderr.write(f"row {outcome.number}, {outcome.name or 'no name'}: {outcome.words}")
        words = {"add": "to add", "change": "to change", "same": "as they are", "refuse": "refused"}
        self.stdout.write(", ".join(f"{plan.counts[Action(action)]} {text}" for action, text in words.items()))


def _plan(importer: Importer, path: Path) -> Plan:
    if path.is_dir():
        if importer.kind != "certificates":
            raise SheetError("A folder can hold certificates only; give a CSV file.")
        return importer.plan(sheets.of_folder(path))
    with path.open("rb") as file:
        return importer.plan(sheets.read(file, importer.columns, importer.needed))
