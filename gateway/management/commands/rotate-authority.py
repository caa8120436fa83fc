"""`manage.py rotate-authority`: another authority for nodes and console, while all of them go on."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway import rotation
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
            rotation.begin("rotate-authority")
        except EnrolmentError as error:
            raise CommandError(f"{error} {self._waiting()}") from error
        self.stdout.write(
            "A new authority signs from now on. Bundles that were made before are worth nothing: make new ones.\n"
            + self._waiting()
        )

    def _waiting(self) -> str:
        behind = rotation.left_behind()
        if not behind:
            return "No node needs the old one: the courier drops it by itself."
        return (
            f"The old one is believed until these have a certificate of the new one: {', '.join(behind)}. "
            f"{command('doctor')} names who is left."
        )

    def _drop(self, *, force: bool) -> None:
        try:
            cut_off = rotation.drop_old("rotate-authority", giving_up=rotation.left_behind() if force else ())
        except EnrolmentError as error:
            more = " If that is what you want: --drop-old --force." if rotation.left_behind() else ""
            raise CommandError(f"{error}{more}") from error
        self.stdout.write("The old authority is dropped.")
        if cut_off:
            self.stdout.write(f"Cut off until they are enrolled anew: {', '.join(cut_off)}.")
