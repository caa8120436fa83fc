"""Gather what the console says, for translators, and compile what they wrote: `python -m tools.messages`.

Needs GNU gettext. `locale/LANGUAGE/LC_MESSAGES/django.po` is what is edited; the `.mo` beside it is what runs, and lies
in the repository, so that neither a checkout nor a wheel needs gettext.
"""

import subprocess
import sys
from pathlib import Path

import django
from django.core.management import call_command
from django.core.management.commands import makemessages

from gateway.core.reasons import REASONS

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locale"
# Folders that say nothing to readers of pages.
LEFT_OUT = [".venv/*", "tests/*", "tools/*", "build/*", "dist/*", "staticfiles/*", "var/*", "docs/*", "static/*"]


# The table of reasons knows no Django: while messages are gathered, its texts stand here as calls that are found.
REASONS_READ = ROOT / "reasons_to_translate.py"


class Command(makemessages.Command):
    msgmerge_options = [*makemessages.Command.msgmerge_options, "--no-fuzzy-matching"]


def gather(languages: list[str]) -> None:
    """Without line numbers: each change of a line elsewhere would change these files too."""
    texts = dict.fromkeys(text for info in REASONS.values() for text in (info.title, info.words, info.remedy))
    REASONS_READ.write_text("".join(f"gettext_noop({text!r})\n" for text in texts))
    try:
        call_command(
            Command(), locale=languages, ignore_patterns=LEFT_OUT, no_location=True, no_wrap=True, no_obsolete=True
        )
    finally:
        REASONS_READ.unlink()


def compile_all() -> None:
    for path in sorted(LOCALE.glob("*/LC_MESSAGES/django.po")):
        command = ["msgfmt", "--check-format", "-o", str(path.with_suffix(".mo")), str(path)]
        subprocess.run(command, check=True)  # noqa: S603


def main() -> None:
    django.setup()
    gather(sys.argv[1:] or sorted(path.name for path in LOCALE.iterdir()))
    compile_all()


if __name__ == "__main__":
    main()
