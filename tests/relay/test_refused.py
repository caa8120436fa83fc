"""What nodes refused is fetched, joined by its trace, shown in the console, and mapped or blocked from there."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.models import Refusal
from console.refusals import Collector
from gateway.relay.control import call
from identity.models import Certificate
from tests.factories import NodeFactory, OperatorFactory
from tests.relay.installation import Installation


def told(forum: Installation, node: str, cursor: dict[str, int] | None = None) -> dict[str, dict[str, Any]]:
    """By kind, of the node's one worker."""
    sources = call(forum.state_dir, node, {"op": "refused_since", "cursor": cursor or {}})["sources"]
    return {source["kind"]: source for source in sources}


def test_a_node_tells_what_it_refused_since_with_what_was_shown(forum: Installation) -> None:
    before = told(forum, "edge")["request"]
    cursor = {before["source"]: before["entries"][-1]["number"] if before["entries"] else 0}
    for _ in range(2):
        assert forum.request("ext", "/orders?token=hush", "stranger").status == 403
    assert forum.request("ext", "/orders", "alice").status == 200
    source = told(forum, "edge", cursor)["request"]
    assert [each["reason"] for each in source["entries"]] == ["certificate_unmapped"] * 2
    assert (source["more"], source["missed"]) == (False, 0)
    last = source["entries"][-1]
    assert (last["certificate"], len(last["chain"])) == (forum.pki["stranger"].certificate.sha256, 1)
    assert (last["path"], last["port"], last["inner"]) == ("/orders", "ext", False)
    assert "hush" not in str(source), "a query is nobody's business"
    inside = told(forum, "inside")["request"]["entries"][-1]
    assert (inside["trace_id"], inside["inner"], inside["chain"]) == (last["trace_id"], True, [])
    assert told(forum, "edge", {source["source"]: last["number"]})["request"]["entries"] == []
    by_trace = call(forum.state_dir, "inside", {"op": "trace", "trace_id": last["trace_id"]})
    assert by_trace == {"lanes": inside["lanes"]} and inside["lanes"]


def test_what_could_not_be_read_as_a_request_is_told_too(forum: Installation) -> None:
    with forum.connection("ext") as sock:
        sock.sendall(b"GET /orders HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert b"400" in sock.recv(4096)
    last = told(forum, "edge")["request"]["entries"][-1]
    assert (last["reason"], last["status"], last["lanes"]) == ("request_malformed", 400, [])


@pytest.fixture
def console(forum: Installation, client: Client, settings: Any, db: None) -> Client:
    settings.POSTERN_STATE_DIR = forum.state_dir
    for name in ("edge", "inside", "asleep"):
        NodeFactory(name=name, role="edge" if name == "edge" else "internal")
    client.force_login(OperatorFactory(role="security"))
    return client


def test_two_consoles_keep_each_refusal_once_and_both_nodes_words_on_it(forum: Installation, console: Client) -> None:
    answer = forum.request("ext", "/orders", "stranger")
    trace_id = answer.json["trace_id"]
    one, other = Collector(), Collector()
    one.turn()
    other.turn()
    edge, inside = Refusal.objects.filter(trace_id=trace_id).order_by("inner")
    assert (edge.head, inside.head, edge.cause) == (True, False, "certificate_unmapped")
    assert one.turn() == 0, "what was read is not read again"
    found = console.get(reverse("refusals"), {"q": trace_id}, follow=True)
    text = found.content.decode()
    assert found.redirect_chain == [(reverse("refusals-detail", args=[trace_id]), 302)]
    assert "inside refused at the check “mapping”" in text and "passed through" in text
    assert "Look at the certificate, and map it" in text


def test_the_console_shows_certificates_and_blocks(forum: Installation, console: Client) -> None:
    forum.request("ext", "/orders", "stranger")
    Collector().turn()
    page = console.get(reverse("certificates-refused"))
    text = page.content.decode()
    assert "CN=stranger, O=Partner Two" in text and "The certificate is trusted, and mapped to nobody." in text
    row = next(each for each in page.context["rows"] if each["stranger"].last.subject.startswith("CN=stranger"))
    pem = row["stranger"].shown.pem
    assert console.post(reverse("certificates-add"), {"certificate": pem}).context["preview"].certificate == (
        forum.pki["stranger"].certificate
    )
    console.post(reverse("certificates-block-pem"), {"pem": pem})
    assert Certificate.objects.get().blocked
    page = console.get(reverse("certificates-refused"))
    row = next(each for each in page.context["rows"] if each["stranger"].last.subject.startswith("CN=stranger"))
    assert row["blocked"]
