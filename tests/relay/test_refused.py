"""Whom nodes refused is seen in the console, and mapped or blocked from there."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from gateway.relay.control import call
from identity.models import Certificate
from tests.factories import NodeFactory, OperatorFactory
from tests.relay.installation import Installation


def refused(forum: Installation, node: str) -> dict[str, dict[str, Any]]:
    """By the port where it was last."""
    return {each["port"]: each for each in call(forum.state_dir, node, {"op": "refusals"})["refused"]}


def test_a_node_remembers_what_it_refused_with_its_chain(forum: Installation) -> None:
    for _ in range(2):
        assert forum.request("ext", "/orders", "stranger").status == 403
    told = refused(forum, "edge")["ext"]
    assert (told["reason"], told["count"] >= 2, len(told["chain"])) == ("certificate_unmapped", True, 1)
    assert forum.request("ext", "/orders", "alice").status == 200
    assert len(refused(forum, "edge")) == 1, "who is let in is not among them"
    assert refused(forum, "inside") == {}, "what came through a tunnel is told by the edge, which saw the handshake"


@pytest.mark.django_db
def test_the_console_shows_them_and_blocks(forum: Installation, client: Client, settings: Any) -> None:
    forum.request("ext", "/orders", "stranger")
    settings.POSTERN_STATE_DIR = forum.state_dir
    NodeFactory(name="edge")
    NodeFactory(name="asleep")
    client.force_login(OperatorFactory(role="security"))
    page = client.get(reverse("certificates-refused"))
    text = page.content.decode()
    assert "CN=stranger, O=Partner Two" in text and "The certificate is trusted, and mapped to nobody." in text
    assert "No answer from asleep" in text
    (row,) = page.context["rows"]
    assert client.post(reverse("certificates-add"), {"certificate": row.pem}).context["preview"].certificate == (
        forum.pki["stranger"].certificate
    )
    client.post(reverse("certificates-block-pem"), {"pem": row.pem})
    assert Certificate.objects.get().blocked
    assert "Block now…" not in client.get(reverse("certificates-refused")).content.decode()
