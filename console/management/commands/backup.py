"""`manage.py backup FILE`."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.backup import archive, rows
from identity.models import sealing


class Command(BaseCommand):
    help = (
        "Write the whole installation to FILE, sealed under the master key; other programs go on meanwhile. The master "
        "key is not in it: keep a copy of that apart."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a new file; - writes to standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["file"] == "-":
            archive.write(sys.stdout.buffer, sealing.vault(), rows.dump())
            return
        path = Path(options["file"])
        part = path.with_name(f"{path.name}.part")
        try:
            if path.exists():
                raise FileExistsError(f"{path} is there already; give another name")
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                count = archive.write(file, sealing.vault(), rows.dump())
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)  # whoever sees the name sees all of it
        except OSError as error:
            raise CommandError(f"No backup was written: {error}.") from error
        finally:
            part.unlink(missing_ok=True)
        self.stdout.write(f"{count:,} lines, {path.stat().st_size:,} bytes: {path}")
