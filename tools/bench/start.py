"""How soon a node with its own state folder serves, and what memory it takes, by the number of certificates.

python -m tools.bench.start
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from gateway.core.delivery import sign, verify
from gateway.relay.statefolder import Identity, StateFolder
from identity.core import authority
from identity.core.authority import Pair
from identity.core.certificates import from_der
from tools.bench.decision import SIZES, document
from tools.bench.minting import mint

TRIES = 3
ANSWER = 20.0  # seconds


def main() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = mint("ca", key.public_key(), "ca", key, authority=True)
    mapped = from_der(mint("mapped", key.public_key(), "ca", key))
    print(f"{'certificates, rules, users, ACLs':36}{'serves after':>14}{'memory':>10}")
    for sizes in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            whole = document(sizes, root, mapped)
            number = free_port()
            whole["ports"]["https"] |= {"number": number, "client_auth": "password", "truststore": ""}
            prepare(Path(folder), whole)
            found = [start(folder, number) for _ in range(TRIES)]
        print(f"{sizes!s:36}{min(seconds for seconds, _ in found):12.2f} s{max(kib for _, kib in found) >> 10:6} MiB")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(path: Path, whole: dict[str, Any]) -> None:
    """An enrolled node, with its configuration as a console gave it."""
    now = authority.utc_now()
    ours = authority.new_authority(now)
    console, key = authority.certify_console(ours, now), authority.new_key()
    certificate = authority.certify_node(ours, authority.request(key, "inside"), "inside", now)
    folder = StateFolder(path)
    folder.prepare()
    folder.save_identity(Identity("inside", "internal", certificate, ours.certificate, key))
    body = json.dumps(whole).encode()
    given = sign(console, node="inside", revision=whole["revision"], stands_on="", body=body, now=time.time())
    folder.hold(given, verify(given, (Pair(ours.certificate, "").parsed,), "inside")).commit()


def start(folder: str, number: int) -> tuple[float, int]:
    """Seconds until its port answers, and KiB at most."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.relay.cli", "run", "--state", folder], stderr=subprocess.DEVNULL
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", number), 1).close()
            break
        except OSError:
            assert time.perf_counter() - began < ANSWER and process.poll() is None
            time.sleep(0.005)
    seconds = time.perf_counter() - began
    process.send_signal(signal.SIGTERM)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return seconds, usage.ru_maxrss


if __name__ == "__main__":
    main()
