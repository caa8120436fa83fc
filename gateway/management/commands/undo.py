"""`manage.py undo NUMBER`: a change set taken back by a new one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway.models import ChangeSet
from gateway.topology.plan import describe
from gateway.topology.undo import CannotUndo, undo


class Command(BaseCommand):
    help = "Undo a change of the configuration by a new one; refused where later changes stand on it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int, metavar="NUMBER", help="of the change, as page Changes shows it")
        parser.add_argument("--dry-run", action="store_true", help="only say what it would do")

    def handle(self, *args: Any, **options: Any) -> None:
        made = ChangeSet.objects.filter(pk=options["number"]).first()
        if made is None:
            raise CommandError(f"There is no change {options['number']}.")
        try:
            recorder = undo(made, "undo", dry_run=options["dry_run"])
        except CannotUndo as error:
            raise CommandError("\n".join(["Nothing was changed.", *error.reasons])) from error
        for change in recorder.changes:
            self.stdout.write("\n".join(describe(change)))
        done = "Would be undone." if options["dry_run"] else f"Undone; this is revision {recorder.revision}."
        self.stdout.write(done)
