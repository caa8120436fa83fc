"""How this program's own commands are called here, for messages that name one.

`manage.py COMMAND` in a checkout, `postern COMMAND` where it is installed, or where it was called so. Knows no command.
"""

import sys
from pathlib import Path

_IN_CHECKOUT = (Path(__file__).resolve().parents[2] / "manage.py").is_file()


def command(words: str) -> str:
    """A command of the console's, as an operator types it on its machine."""
    return f"{program(sys.argv[0], _IN_CHECKOUT)} {words}"


def program(called_as: str, in_checkout: bool) -> str:
    return "manage.py" if in_checkout and Path(called_as).name != "postern" else "postern"
