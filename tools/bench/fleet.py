"""Twenty nodes on machines of their own, as far as one machine can play twenty: how soon a change is in force on all.

    python -m tools.bench.fleet

Counted from the moment that somebody makes it; in force is what the console is told by each node.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.minting import authority, mint
from tests.relay.remote import RemoteInstallation
from tools.bench.relay import QUIET, ROOT, free_port
from tools.bench.table import Row, at_most, rendered

NODES = 20
SECONDS = 5
CHANGES = 5
SIZES = (100, 100, 100, 100)
PATIENCE = 60.0  # seconds after which it is given up
PAUSE = 0.05  # seconds between two looks at all


def topology(names: list[str]) -> dict[str, Any]:
    tls = {"keystore": "server", "truststore": "all"}
    return {
        "version": 1,
        "nodes": [{"name": name, "role": "internal"} for name in names],
        "truststores": [{"name": "all", "certificates": "pki/ca.pem"}],
        "keystores": [{"name": "server", "certificate": "pki/server.pem", "private_key": "pki/server.key"}],
        "ports": [{"name": f"port-{name}", "node": name, "type": "regular", "bind": f"127.0.0.1:{free_port()}",
                   "tls": tls, "client_auth": "require", "service_access": {"default": "allow"}} for name in names],
        "registrations": [],
    }  # fmt: skip


def wait_for(installation: RemoteInstallation, names: list[str], revision: int) -> None:
    """Until it, or a later one, is in force on all."""
    end = time.monotonic() + PATIENCE
    left = set(names)
    while left:
        left = {name for name in left if (installation.revision(name) or -1) < revision}
        if time.monotonic() > end:
            sys.exit(f"revision {revision} never came to {', '.join(sorted(left))}\n{installation.logs()}")
        time.sleep(PAUSE)


def measure() -> list[Row]:
    names = [f"n{number:02}" for number in range(NODES)]
    root = authority("CN=ca")
    pki = {"ca": root, "server": mint("CN=server", root, purpose="server", san=["dns:localhost"])}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postern-")))
        installation = RemoteInstallation(folder, pki, topology(names))
        stack.callback(installation.close)
        changer = subprocess.Popen([sys.executable, "-m", "tools.bench.populate", *map(str, SIZES)], cwd=ROOT,
                                   env=installation.env | QUIET, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True)  # fmt: skip
        stack.callback(changer.communicate)
        assert changer.stdin is not None and changer.stdout is not None and changer.stdout.readline() == "filled\n"
        installation.start_courier()
        installation.enrol_all(*names)
        installation.run(*names)
        wait_for(installation, names, 0)
        revision = max(installation.revision(name) or 0 for name in names)
        taken = []
        for number in range(1, CHANGES + 1):
            began = time.perf_counter()
            changer.stdin.write("\n")
            changer.stdin.flush()
            wait_for(installation, names, revision + number)
            taken.append(time.perf_counter() - began)
    told = f" (the latest of {CHANGES}; the soonest {min(taken):.2f})"
    return [at_most(f"a change is in force on {NODES} nodes after", SECONDS, max(taken), "s", told)]


def main() -> None:
    print(rendered(measure()))


if __name__ == "__main__":
    main()
