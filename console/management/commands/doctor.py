"""`manage.py doctor`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.doctor import examine

MARKS = {"ok": "ok  ", "warn": "WARN", "bad": "BAD "}


class Command(BaseCommand):
    help = (
        "Look at settings, files, keys, certificates, clocks, ports and reachability; say what to do. Changes nothing."
    )

    # What Django would check before anything runs is part of what is told.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--problems", action="store_true", help="leave out what is well")

    def handle(self, *args: Any, **options: Any) -> None:
        bad = 0
        for finding in examine():
            bad += finding.kind == "bad"
            if finding.kind == "ok" and options["problems"]:
                continue
            self.stdout.write(f"{MARKS[finding.kind]} {finding.subject}: {finding.words}")
            if finding.remedy:
                self.stdout.write(f"     → {finding.remedy}")
        if bad:
            raise CommandError(f"{bad} {'thing is' if bad == 1 else 'things are'} wrong.")
