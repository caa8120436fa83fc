"""`manage.py courier`: carry configuration to the nodes on other machines, until SIGTERM."""

import asyncio
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway.core.addresses import parse_bind
from gateway.courier import Courier


class Command(BaseCommand):
    help = "Carry configuration to the nodes on other machines, and their state back, until SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bind", default=settings.CONSOLE_NODES_BIND, metavar="HOST:PORT",
            help="where internal nodes come (CONSOLE_NODES_BIND; now %(default)s); unset: nowhere",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        bind = options["bind"]
        if bind:
            try:
                parse_bind(bind)
            except ValueError as error:
                raise CommandError(f"--bind (CONSOLE_NODES_BIND): {error}") from error
        try:
            asyncio.run(_run(bind))
        except OSError as error:
            raise CommandError(f"{bind} cannot be listened at: {error.strerror or error}") from error


async def _run(bind: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await Courier(bind, settings.POSTERN_STATE_DIR).run(stopping)
