"""What breaks, and what callers are told; what changes while it runs."""

import base64
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.relay.installation import PATIENCE, Answer, Installation, read_answer

Fresh = Callable[..., Installation]


def test_a_mapping_takes_effect_while_it_runs_and_drops_no_connection(fresh: Fresh) -> None:
    installation = fresh()
    with installation.connection("ext", "stranger") as sock:
        stream = sock.makefile("rb")

        def ask() -> Answer:
            sock.sendall(b"GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return read_answer(stream)

        assert ask().json["reason"] == "certificate_unmapped"
        stored = next(c for c in installation.topology["certificates"] if c["name"] == "stranger")
        stored["user"] = "alice"
        installation.apply()
        installation.until(lambda: ask().status == 200, "the mapping is in force")
        del stored["user"]
        installation.apply()
        installation.until(lambda: ask().status == 403, "the mapping is out of force")


def test_an_internal_node_that_is_killed_comes_back(fresh: Fresh) -> None:
    installation = fresh()
    installation.stop("inside", signal.SIGKILL)
    answer = installation.request("ext", "/orders", "alice")
    assert answer.status in (502, 503)
    assert answer.json["reason"] in ("tunnel_lost", "no_internal_connection")
    installation.start("inside")
    installation.ready()
    assert installation.request("ext", "/orders", "alice").status == 200


def test_an_edge_that_is_killed_is_dialled_again(fresh: Fresh) -> None:
    installation = fresh()
    installation.stop("edge", signal.SIGKILL)
    installation.start("edge")
    installation.ready()
    assert installation.request("ext", "/orders", "alice").status == 200


def test_nobody_registered_is_told_with_when_to_try_again(fresh: Fresh) -> None:
    installation = fresh()
    assert installation.stop("inside") == 0
    answer = installation.request("ext", "/orders", "alice")
    assert (answer.status, answer.json["reason"]) == (503, "no_internal_connection")
    assert answer.headers["retry-after"]


def test_the_tunnel_is_cut_in_the_middle_of_a_request_and_nothing_runs_twice(fresh: Fresh, backend: Any) -> None:
    installation = fresh()
    before = len(backend.seen)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(installation.request("ext", "/submit/hang", "alice")))
    asking.start()
    installation.until(lambda: len(backend.seen) > before, "the backend was asked")
    installation.stop("inside", signal.SIGKILL)
    asking.join(PATIENCE)
    assert (answers[0].status, answers[0].json["reason"]) == (502, "tunnel_lost")
    assert len(backend.seen) == before + 1


@pytest.mark.parametrize("node", ["edge", "inside"])
def test_a_stop_finishes_what_is_in_flight(fresh: Fresh, backend: Any, node: str) -> None:
    installation = fresh(lambda t: t["services"][2].update(timeout="20s"))
    backend.release.clear()
    before = len(backend.seen)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(installation.request("ext", "/submit/slow", "alice")))
    original, gate = backend.answer, threading.Event()

    def slowly(handler: Any) -> None:
        gate.wait(30)
        original(handler)

    backend.answer = slowly
    try:
        asking.start()
        installation.until(lambda: len(backend.seen) > before, "the backend was asked")
        stopping = threading.Thread(target=lambda: statuses.append(installation.stop(node)))
        statuses: list[int] = []
        stopping.start()
        gate.set()
        asking.join(PATIENCE)
        stopping.join(PATIENCE)
    finally:
        del backend.answer
    assert answers and answers[0].status == 200
    assert statuses == [0]


def test_a_registration_that_is_blocked_loses_its_tunnels(fresh: Fresh) -> None:
    installation = fresh()
    installation.topology["registrations"][0]["enabled"] = False
    installation.apply()
    installation.until(lambda: installation.state("edge")["tunnels"] == [], "the tunnels are closed")
    assert installation.request("ext", "/orders", "alice").status == 503


def test_a_channel_asserts_only_what_it_may(fresh: Fresh) -> None:
    limits = {"truststores": ["servers"], "groups": ["Gateways"]}
    installation = fresh(lambda t: t["registrations"][0].update(may_assert=limits))
    answer = installation.request("ext", "/orders", "alice")
    assert (answer.status, answer.json["reason"]) == (403, "assertion_not_permitted")
    by_password = installation.request("ext", "/orders", basic="batch:correct horse battery")
    assert by_password.json["user"] == "batch"
    assert installation.request("https", "/orders", "alice").json["user"] == "alice", "called directly nothing changes"


def test_a_test_is_not_taken_where_the_registration_does_not_allow_it(fresh: Fresh) -> None:
    from gateway.relay.control import call

    installation = fresh(lambda t: t["registrations"][0].pop("allow_test"))
    message = {"op": "invoke", "port": "ext", "method": "GET", "target": "/orders",
               "certificate": base64.b64encode(installation.pki["alice"].der).decode()}  # fmt: skip
    result = call(installation.state_dir, "edge", message, timeout=30)
    assert (result["status"], result["reason"]) == (403, "assertion_not_permitted")
    assert len(result["lanes"]) == 1, "the inside tells nothing of itself"


def test_a_new_port_opens_and_a_removed_one_closes(fresh: Fresh) -> None:
    from tests.ports import free_port

    installation = fresh()
    more = {"name": "strict", "node": "edge", "type": "external", "bind": f"127.0.0.1:{free_port()}",
            "tls": {"keystore": "edge-server", "truststore": "partners"}, "client_auth": "require",
            "registration_port": "reg", "service_access": {"default": "deny", "allow": ["/open"]}}  # fmt: skip
    installation.topology["ports"].append(more)
    installation.apply()
    installation.until(lambda: installation._opens(more), "the port opens")
    assert installation.request("strict", "/open", "alice").status == 200
    assert installation.request("strict", "/orders", "alice").json["reason"] == "service_not_on_port"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        installation.request("strict", "/open")
    installation.topology["ports"].remove(more)
    installation.apply()
    installation.until(lambda: not installation._opens(more), "the port closes")


def test_a_relay_whose_feed_dies_stops(fresh: Fresh) -> None:
    installation = fresh()
    installation.nodes["inside"].kill()  # the parent alone; the relay itself is another process
    installation.until(lambda: installation.state("edge")["tunnels"] == [], "the orphan stops")


def members(installation: Installation) -> int:
    return len(installation.state("edge")["tunnels"])


def internal_only(topology: dict[str, Any]) -> None:
    """A node that listens nowhere can run twice on one machine."""
    topology["ports"] = [port for port in topology["ports"] if port["name"] != "https"]
    topology["apis"] = [api for api in topology["apis"] if api["name"] != "direct"]
    topology["endpoints"] = [endpoint for endpoint in topology["endpoints"] if endpoint["name"] != "direct"]


def test_a_silent_node_is_passed_over_and_what_it_had_is_told(fresh: Fresh, backend: Any) -> None:
    installation = fresh(internal_only)
    twin = installation.start_twin("inside")
    installation.until(lambda: members(installation) == 2, "both are registered")
    os.killpg(twin.pid, signal.SIGSTOP)
    try:
        answers = [installation.request("ext", "/orders", "alice") for _ in range(12)]
        installation.until(lambda: members(installation) == 1, "the silent one is given up")
    finally:
        os.killpg(twin.pid, signal.SIGCONT)
    lost = [answer for answer in answers if answer.status != 200]
    assert all((answer.status, answer.json["reason"]) == (502, "tunnel_lost") for answer in lost)
    assert len(lost) <= 2, "who came in the meantime, one after the other; nobody afterwards"
    installation.until(lambda: members(installation) == 2, "it comes back by itself")


def test_a_restart_under_load_loses_nothing_where_two_share_the_work(fresh: Fresh) -> None:
    installation = fresh(internal_only)
    installation.start_twin("inside")
    installation.until(lambda: members(installation) == 2, "both are registered")
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with installation.connection("ext", "alice") as sock:
                stream = sock.makefile("rb")
                for _ in range(20):
                    sock.sendall(b"GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    statuses.append(read_answer(stream).status)

    workers = [threading.Thread(target=ask) for _ in range(3)]
    for worker in workers:
        worker.start()
    for name in ("inside-twin", "inside"):
        before = len(statuses)
        assert installation.stop(name) == 0
        installation.until(lambda before=before: len(statuses) > before + 50, "the other one goes on")
        if name == "inside-twin":
            installation.start_twin("inside")
            installation.until(lambda: members(installation) == 2, "it is registered again")
    over.set()
    for worker in workers:
        worker.join()
    assert set(statuses) == {200} and len(statuses) > 100


def test_after_a_change_that_cannot_be_in_force_the_next_one_is(fresh: Fresh) -> None:
    """A difference stands on what is in force, not on what was sent."""
    installation = fresh()
    ports = {port["name"]: port for port in installation.topology["ports"]}
    free, before = ports["ext"]["bind"], installation.state("edge")["revision"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports["ext"]["bind"] = f"127.0.0.1:{taken.getsockname()[1]}"
        ports["ext"]["wait"] = "2s"
        installation.apply()
        installation.until(lambda: "is refused" in (installation.folder / "edge.log").read_text(), "it is refused")
        assert installation.state("edge")["revision"] == before
    ports["ext"]["bind"] = free
    assert installation.request("ext", "/orders", "alice").status == 200, "where the port was, it still is"
    ports["ext"]["service_access"] = {"default": "deny"}
    installation.apply()
    installation.until(lambda: installation.state("edge")["revision"] > before, "the next change is in force")
    assert installation.request("ext", "/orders", "alice").json["reason"] == "service_not_on_port"
