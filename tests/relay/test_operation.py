"""How a node runs, and what can be seen of it: workers, metrics, health, access log."""

import json
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.relay.control import call
from tests.ports import free_port
from tests.relay.conftest import forum_pki, forum_topology
from tests.relay.installation import Backend, Installation


@pytest.fixture
def make(tmp_path: Path, backend: Backend) -> Iterator[Callable[[], Installation]]:
    """An installation with nothing running yet."""
    made: list[Installation] = []

    def one() -> Installation:
        made.append(Installation(tmp_path, forum_pki(), forum_topology(backend.port)))
        return made[-1]

    yield one
    for installation in made:
        installation.close()


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_every_worker_reaches_every_registered_node(make: Callable[[], Installation]) -> None:
    installation = make()
    status = f"127.0.0.1:{free_port()}"
    installation.start("edge", options=("--workers", "3", "--status", status))
    installation.start("inside", options=("--workers", "2"))
    installation.ready()
    installation.until(
        lambda: sum(t["idle"] + t["busy"] for t in installation.state("edge")["tunnels"]) >= 6,
        "either worker inside has a tunnel to each of the three",
    )
    # Which worker a connection comes to is the kernel's choice: of forty, every one gets some.
    for _ in range(40):
        answer = installation.request("ext", "/orders", "alice")
        assert (answer.status, answer.json["user"]) == (200, "alice")
    found = samples(get(status, "/metrics")[1])
    of_orders = 'postern_requests_total{port="ext",reason="",service="",status="200"}'
    installation.until(lambda: samples(get(status, "/metrics")[1])[of_orders] == 40, "all workers' counts are added up")
    assert found['postern_handshakes_total{outcome="done",port="ext"}'] >= 40
    assert installation.stop("edge") == 0


def test_a_worker_that_dies_takes_the_node_down_so_that_it_is_started_again(make: Callable[[], Installation]) -> None:
    installation = make()
    installation.start("edge", options=("--workers", "2"))
    parent = installation.nodes["edge"].pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    assert len(children) == 2
    import os

    os.kill(int(children[1]), signal.SIGKILL)
    assert installation.nodes.pop("edge").wait(20) != 0


def test_metrics_health_and_readiness(make: Callable[[], Installation]) -> None:
    installation = make()
    edge, inside = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    installation.start("inside", options=("--status", inside))
    assert get(inside, "/healthz") == (200, "ok\n")
    code, text = get(inside, "/readyz")
    assert (code, json.loads(text)["ready"]) == (503, False)
    assert "no tunnel to" in json.loads(text)["missing"][0]
    installation.start("edge", options=("--status", edge))
    installation.ready()
    installation.until(lambda: get(inside, "/readyz")[0] == 200, "it is ready once it is registered")
    assert get(edge, "/readyz") == (200, '{"ready": true, "missing": []}\n')
    assert installation.request("ext", "/echo", "alice", method="POST", body=b"x" * 1000).status == 200
    assert installation.request("ext", "/orders", "stranger").status == 403
    failed = 'postern_handshakes_total{outcome="failed",port="ext"}'
    before = samples(get(edge, "/metrics")[1]).get(failed, 0)  # of who asked whether it listens, if somebody did
    with pytest.raises(OSError):
        installation.request("ext", "/orders", "rogue")
    seen = samples(get(edge, "/metrics")[1])
    assert seen['postern_requests_total{port="ext",reason="",service="",status="200"}'] == 1
    assert seen['postern_requests_total{port="ext",reason="certificate_unmapped",service="",status="403"}'] == 1
    assert seen['postern_received_bytes_total{port="ext"}'] == 1000
    assert seen['postern_request_duration_seconds_count{port="ext"}'] == 2
    assert seen[failed] == before + 1
    assert seen['postern_tunnels{port="reg",registration="inside-at-reg",state="idle"}'] >= 2
    ends = [value for name, value in seen.items() if name.startswith('postern_not_after_seconds{kind="server"')]
    assert ends and all(value > time.time() for value in ends)
    assert seen["process_open_fds"] > 0
    of_service = 'postern_requests_total{port="dial",reason="",service="orders:echo",status="200"}'
    assert samples(get(inside, "/metrics")[1])[of_service] == 1
    assert get(edge, "/elsewhere")[0] == 404
    # The internal node is gone: that it has no tunnel is told, where an alert looks for it.
    installation.stop("inside")
    gone = {
        f'postern_tunnels{{port="reg",registration="inside-at-reg",state="{state}"}}': 0 for state in ("idle", "busy")
    }
    installation.until(lambda: gone.items() <= samples(get(edge, "/metrics")[1]).items(), "none is left, and told")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_fails_the_handshake_is_seen(forum: Installation, version: ssl.TLSVersion) -> None:

    def failed() -> list[dict[str, Any]]:
        sources = call(forum.state_dir, "edge", {"op": "refused_since"})["sources"]
        return [each for source in sources if source["kind"] == "handshake" for each in source["entries"]]

    before = len(failed())
    for _ in range(2):  # an address is watched anew, or still, once a handshake from it has failed
        assert forum.request("ext", "/orders", "alice").status == 200
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(forum.folder / "pki/rogue.pem", forum.folder / "pki/rogue.key")
        with (
            pytest.raises(OSError),
            socket.create_connection(forum.address("ext"), 10) as plain,
            context.wrap_socket(plain) as sock,
        ):
            sock.recv(1)
            raise OSError("ended")
    forum.until(lambda: len(failed()) == before + 2, "both are noted")
    last = failed()[-1]
    assert last["port"] == "ext" and "certificate verify failed" in last["words"] and last["peer"] == "127.0.0.1"
    assert last["subject"] == "CN=alice, O=Partner One" and last["reason"] == "certificate_untrusted"
    assert last["certificate"] == forum.pki["rogue"].x509.fingerprint(SHA256()).hex()


def test_the_access_log_tells_who_and_what_and_no_secret(make: Callable[[], Installation]) -> None:
    installation = make()
    log = installation.folder / "access.json"
    installation.start("edge")
    installation.start("inside", options=("--access-log", str(log)))
    installation.ready()
    installation.request("ext", "/orders?token=hidden", "alice")
    refused = installation.request("ext", "/orders", "stranger").json
    installation.request("ext", "/orders", basic="batch:correct horse battery")
    installation.until(lambda: log.exists() and log.read_text().count("\n") == 3, "three lines")
    alice, stranger, batch = map(json.loads, log.read_text().splitlines())
    assert (alice["user"], alice["path"], alice["status"], alice["reason"]) == ("alice", "/orders", 200, None)
    assert alice["certificate"] == installation.pki["alice"].x509.fingerprint(SHA256()).hex()
    assert (stranger["reason"], stranger["trace_id"]) == ("certificate_unmapped", refused["trace_id"])
    assert batch["user"] == "batch"
    assert "hidden" not in log.read_text() and "horse" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o640
    rotated = log.with_suffix(".1")
    log.rename(rotated)
    installation.nodes["inside"].send_signal(signal.SIGHUP)
    installation.until(log.exists, "the file is opened anew")
    installation.request("ext", "/orders", "alice")
    installation.until(lambda: log.read_text().count("\n") == 1, "and written to")


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--workers", "0"), "--workers"), (("--status", "nowhere"), "--status"), (("--status", "a.b:80"), "IP address")],
)
def test_what_cannot_be_is_told_before_anything_starts(
    make: Callable[[], Installation], options: tuple[str, ...], words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        make().manage("relay", "--node", "edge", *options)
