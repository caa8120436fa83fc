"""A PostgreSQL of the tests' own: `python -m tests.postgresql COMMAND …` runs a command beside it.

The cluster lies in a new folder, listens on a socket there and nowhere else, keeps nothing safe against a crash, and
is gone when the command has ended. The command finds it in `DATABASE_URL`; tests make databases of their own there.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ACCOUNT = "postgres"  # PostgreSQL refuses to run as root; Debian's package makes this account
# What is lost in a crash of the machine was a test's.
SETTINGS = {"listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def programs() -> Path:
    """The folder of the newest installed server. Raises FileNotFoundError, saying what to install."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: float(path.parent.parent.name), default=None)
    if newest is None:
        raise FileNotFoundError("PostgreSQL is not installed; as root: apt-get install postgresql")
    return newest.parent


class Cluster:
    """A server of one's own, that can be away for a while."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError, RuntimeError."""
        self._folder, self._data, self._binaries = folder, folder / "data", programs()
        self.url = f"postgresql://{ACCOUNT}@/postgres?host={folder}"
        self._as_account: list[str] = []
        if os.getuid() == 0:
            account = pwd.getpwnam(ACCOUNT)
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._as_account = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        self._run("initdb", "--username", ACCOUNT, "--auth", "trust", "--encoding", "UTF8", "--no-sync")

    def start(self) -> None:
        settings = [f"'-c{name}={value}'" for name, value in SETTINGS.items()]
        options = " ".join([*settings, f"-k '{self._folder}'"])
        self._run("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options)

    def stop(self) -> None:
        """At once, whoever is connected."""
        self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_account, str(self._binaries / program), *arguments, "--pgdata", str(self._data)]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server."""
    folder = Path(tempfile.mkdtemp(prefix="postern-postgresql-"))
    try:
        server = Cluster(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with cluster() as server:
            process = subprocess.Popen(sys.argv[1:], env=os.environ | {"DATABASE_URL": server.url})
            # Ctrl-C and SIGTERM are the command's; ours is to wait for it and to clean up.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            return process.wait()
    except (FileNotFoundError, RuntimeError, KeyError) as error:
        print(f"tests.postgresql: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
