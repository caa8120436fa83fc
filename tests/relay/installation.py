"""A whole installation for tests: its own database, configuration file, node processes and a backend."""

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.databases import new_database
from tests.minting import Minted

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 40.0  # seconds that anything may take on a busy machine; how soon it is there is for tools.bench to measure


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


class Backend:
    """An HTTP server that notes what it is sent; `answer` may be replaced. `listening`: a socket of its own."""

    def __init__(self, listening: socket.socket | None = None) -> None:
        self.seen: list[dict[str, Any]] = []
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                size = 0
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while count := int(self.rfile.readline().split(b";")[0], 16):
                        size += len(self.rfile.read(count))
                        self.rfile.readline()
                    self.rfile.readline()
                while size < length:
                    piece = self.rfile.read(min(65536, length - size))
                    if not piece:  # whoever sent it is gone
                        self.close_connection = True
                        return
                    size += len(piece)
                outer.seen.append({"method": self.command, "path": self.path, "size": size,
                                   "headers": [(k.lower(), v) for k, v in self.headers.items()]})  # fmt: skip
                outer.answer(self)

            do_GET = do_POST = do_PUT = do_HEAD = do

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=listening is None)
        if listening is not None:
            self.server.socket.close()
            self.server.socket, self.server.server_address = listening, listening.getsockname()
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # tests cut connections on purpose
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @staticmethod
    def say(handler: Any, body: bytes, status: int = 200) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def answer(self, handler: Any) -> None:
        """By the path: /hang waits for `release`, /cut ends early, /short lies about its length, else an answer."""
        if "/hang" in handler.path:
            self.release.wait(PATIENCE)
            handler.close_connection = True
        elif "/short" in handler.path:
            handler.send_response(200)
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(b"only this")
            handler.close_connection = True
        elif "/cut" in handler.path:
            handler.close_connection = True
        elif "/large" in handler.path:
            self.say(handler, b"x" * 20_000_000)
        else:
            self.say(handler, json.dumps(self.seen[-1]).encode())

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@dataclass
class Installation:
    """`pki`: name → minted, written as NAME.pem and NAME.key before the configuration is applied."""

    folder: Path
    pki: dict[str, Minted]
    topology: dict[str, Any]
    nodes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = self.folder / "pki"
        keys.mkdir()
        for name, minted in self.pki.items():
            (keys / f"{name}.pem").write_text(minted.chain_pem)
            (keys / f"{name}.key").write_text(minted.key_pem)
        self.env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "console.settings",
            "DATABASE_URL": new_database(self.folder, migrated=True),
            "SECRET_KEY": "only-for-tests-" + "x" * 40,
            "POSTERN_MASTER_KEY": base64.urlsafe_b64encode(b"t" * 32).decode(),
            "POSTERN_STATE_DIR": str(self.folder / "state"),
        }
        self.apply()

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command that runs beside others; what it says comes as one."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def apply(self) -> None:
        file = self.folder / "topology.yaml"
        file.write_text(yaml.safe_dump(self.topology, sort_keys=False))
        self.manage("apply", "--prune", str(file))

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def start(self, *names: str, options: tuple[str, ...] = ()) -> None:
        """`options`: of the command `relay`."""
        for name in names:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.nodes[name] = subprocess.Popen(
                    [sys.executable, "manage.py", "relay", "--node", name, *options], cwd=ROOT, env=self.env,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        for port in self.topology["ports"]:
            if port["node"] in names and "bind" in port:
                self.until(lambda port=port: self._opens(port), f"port {port['name']} opens")

    def start_worker(self) -> None:
        """What the console does by itself."""
        with (self.folder / "worker.log").open("ab") as log:
            self.nodes["worker"] = subprocess.Popen(
                [sys.executable, "manage.py", "worker"], cwd=ROOT, env=self.env, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def start_twin(self, name: str) -> "subprocess.Popen[bytes]":
        """Another process of a node, as on another machine: it shares the work."""
        env = self.env | {"POSTERN_STATE_DIR": str(self.folder / "twin")}
        twin = f"{name}-twin"
        with (self.folder / f"{twin}.log").open("ab") as log:
            self.nodes[twin] = subprocess.Popen(
                [sys.executable, "manage.py", "relay", "--node", name], cwd=ROOT, env=env, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self.nodes[twin]

    def _opens(self, port: dict[str, Any]) -> bool:
        host, _, number = port["bind"].rpartition(":")
        try:
            socket.create_connection((host, int(number)), 1).close()
        except OSError:
            return False
        return True

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for a condition; fail, with the nodes' logs, where it does not come true."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, f"not within {PATIENCE} s: {what}\n{self.logs()}"
            threading.Event().wait(0.05)

    def logs(self) -> str:
        return "".join(f"[{f.name}]\n{f.read_text()[-2000:]}\n" for f in self.folder.glob("*.log"))

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.nodes.pop(name)
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        return process.wait(PATIENCE)

    def close(self) -> None:
        for name in list(self.nodes):
            self.stop(name)

    def address(self, port: str) -> tuple[str, int]:
        bind = next(p["bind"] for p in self.topology["ports"] if p["name"] == port)
        host, _, number = bind.rpartition(":")
        return host, int(number)

    def context(self, who: str | None = None) -> ssl.SSLContext:
        """Of a client that shows the certificate `who`, and asks for none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if who:
            context.load_cert_chain(self.folder / "pki" / f"{who}.pem", self.folder / "pki" / f"{who}.key")
        return context

    @contextlib.contextmanager
    def connection(self, port: str, who: str | None = None) -> Iterator[ssl.SSLSocket]:
        """A TLS connection of a client that shows the certificate `who`."""
        context = self.context(who)
        with socket.create_connection(self.address(port), PATIENCE) as plain:
            plain.settimeout(PATIENCE)
            # A connection that is cut is none that ended.
            with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
                yield sock

    def request(
        self, port: str, target: str, who: str | None = None, *, method: str = "GET", body: bytes = b"",
        headers: dict[str, str] | None = None, basic: str | None = None,
    ) -> Answer:  # fmt: skip
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if basic:
            lines.append("Authorization: Basic " + base64.b64encode(basic.encode()).decode())
        if body:
            lines.append(f"Content-Length: {len(body)}")
        with self.connection(port, who) as sock:
            sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            return read_answer(sock.makefile("rb"), method)

    def state(self, node: str) -> dict[str, Any]:
        from gateway.relay.control import call

        return call(self.state_dir, node, {"op": "state"}, timeout=PATIENCE)

    def ready(self) -> "Installation":
        """Every registration has a tunnel."""
        edges = [
            node["name"] for node in self.topology["nodes"] if node["role"] == "edge" and node["name"] in self.nodes
        ]
        wanted = {r["name"] for r in self.topology["registrations"]}
        self.until(
            lambda: wanted <= {name for edge in edges for name in self._registered(edge)}, "every node registers"
        )
        return self

    def _registered(self, edge: str) -> set[str]:
        """At an edge; none while it starts, or while the one before it stops."""
        from gateway.relay.control import ControlError

        try:
            return {tunnel["registration"] for tunnel in self.state(edge)["tunnels"]}
        except ControlError:
            return set()


def read_answer(stream: Any, method: str = "GET") -> Answer:
    """One answer. Raises ConnectionError where it ends before it should."""
    line = stream.readline()
    if not line:
        raise ConnectionError("no answer")
    status = int(line.split()[1])
    headers: dict[str, str] = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if status == 100:
        return read_answer(stream, method)
    body = b""
    if method == "HEAD" or status in (204, 304):
        pass
    elif "content-length" in headers:
        body = stream.read(int(headers["content-length"]))
        if len(body) < int(headers["content-length"]):
            raise ConnectionError("the body was cut")
    elif headers.get("transfer-encoding") == "chunked":
        while True:
            size = stream.readline()
            if not size:
                raise ConnectionError("the body was cut")
            count = int(size, 16)
            body += stream.read(count)
            stream.readline()
            if not count:
                break
    else:
        body = stream.read()
    return Answer(status, headers, body)
