"""Where an installation lies, and its secrets: `postern init` writes them to a file unless it is there.

Knows no Django: without these values the settings cannot be loaded.
"""

import base64
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from console.free_ports import free_port

PACKAGE = Path(__file__).resolve().parent
# In a checkout everything lies beside the packages; what is installed brings templates and static files in this one.
IN_CHECKOUT = (PACKAGE.parent / "manage.py").is_file()
RESOURCES = PACKAGE.parent if IN_CHECKOUT else PACKAGE
INSTALLED_HOME = Path("/var/lib/postern")
CONSOLE_PORT = 8000
_NEEDED = ("SECRET_KEY", "POSTERN_MASTER_KEY")


class KeysLost(Exception):
    """There is a database, and the keys that open what is sealed in it are gone."""


def home(environ: Mapping[str, str]) -> Path:
    """The folder of database, keys and state, unless each is told to lie elsewhere."""
    return Path(environ.get("POSTERN_HOME") or (PACKAGE.parent / "var" if IN_CHECKOUT else INSTALLED_HOME))


def ensure(folder: Path, environ: Mapping[str, str]) -> Path | None:
    """The file that was written; None where there was nothing to do.

    Args:
        folder: the installation's home.
        environ: what is set already goes before the file, and is not asked for in it.
    Raises:
        KeysLost
    """
    path = Path(environ.get("POSTERN_ENV_FILE") or folder / "postern.env")
    if path.exists() or all(environ.get(name) or environ.get(f"{name}_FILE") for name in _NEEDED):
        return None
    database = folder / "db.sqlite3"
    if database.exists() and not environ.get("DATABASE_URL"):
        raise KeysLost(
            f"{database} is there, and {path}, which holds the keys to it, is not. Put the file back from your "
            f"copy; or move the database away to begin anew."
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [
        "# Whoever has these keys can open the stored secrets; whoever loses them loses the secrets.",
        "# Keep a copy apart from the database. Every setting: docs/settings.md",
        f"SECRET_KEY={secrets.token_urlsafe(48)}",
        f"POSTERN_MASTER_KEY={new_key()}",
        f"CONSOLE_BIND=127.0.0.1:{free_port(CONSOLE_PORT)}",
    ]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    return path


def new_key() -> str:
    """For POSTERN_MASTER_KEY: 32 random bytes, base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def main() -> int:
    try:
        written = ensure(home(os.environ), os.environ)
    except (KeysLost, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if written:
        print(f"Keys made: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
