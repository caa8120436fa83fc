"""`manage.py rotate-authority`: another authority for nodes and console, while all of them go on."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway import enrolments
from gateway.core.enrolment import EnrolmentError
from identity.core.commands import command


class Command(BaseCommand):
    help = (
        "Exchange the authority by which console and nodes know each other: nodes are told of the new one and renew "
        "from it. The old one is dropped by itself when no node's certificate is from it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--drop-old", action="store_true", help="drop the old one now, and begin no new exchange")
        parser.add_argument("--force", action="store_true", help="with --drop-old: even where nodes are cut off by it")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["force"] and not options["drop_old"]:
            raise CommandError("--force goes with --drop-old alone.")
        if options["drop_old"]:
            self._drop(force=options["force"])
            return
        try:
            enrolments.rotate_authority("rotate-authority")
        except EnrolmentError as error:
            raise CommandError(f"{error} {self._waiting()}") from error
        self.stdout.write(
            "A new authority signs from now on. Bundles that were made before are worth nothing: make new ones.\n"
            + self._waiting()
        )

    def _waiting(self) -> str:
        behind = enrolments.left_behind()
        if not behind:
            return "No node needs the old one: the courier drops it by itself."
        return (
            f"The old one is believed until these have a certificate of the new one: {', '.join(behind)}. "
            f"{command('doctor')} names who is left."
        )

    def _drop(self, *, force: bool) -> None:
        behind = enrolments.left_behind()
        if behind and not force:
            raise CommandError(
                f"Cut off would be: {', '.join(behind)}. They would serve on by what they have, and each would have to "
                "be enrolled anew. If that is what you want: --drop-old --force."
            )
        if not enrolments.drop_old_authority("rotate-authority"):
            raise CommandError("There is no old authority.")
        self.stdout.write("The old authority is dropped.")
        if behind:
            self.stdout.write(f"Cut off until they are enrolled anew: {', '.join(behind)}.")
