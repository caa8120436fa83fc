"""Markup that is planted wherever text can be stored stays text, on every page that there is."""

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db.models import CharField, Model, TextField
from django.test import Client
from django.utils import timezone

from console.models import Job, JobState, Operator, Passkey, Refusal, RunState, SavedTest, TestResult, TestRun, Token
from gateway.audit import change_set
from gateway.models import Node, NodeStatus
from gateway.topology.entries import SECTIONS
from identity.models import RevocationFetch, RevocationSource, Truststore
from tests import factories
from tests.console.conftest import PASSWORD
from tests.console.crawling import pages
from tests.console.refused import lane, refused_request, saved_test
from tests.minting import mint

MARK = "planted"
# Ends an attribute in either kind of quotes, a script, a comment, a title and a text area.
PAYLOAD = (
    f"'\"></script></title></textarea>--><img src={MARK} onerror=x>"  # 64 letters at most: a name of X.509 holds it
)
LINK = f"javascript:{MARK}"


class Page(HTMLParser):
    """What of a page was made by what was planted: elements, event handlers, addresses that are scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.made: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            value = (value or "").strip()
            if (name == "src" and value == MARK) or name.startswith("on"):
                self.made.append(f"<{tag} {name}={value}>")
            if name in ("href", "src", "action", "formaction") and value.lower().startswith(("javascript:", "data:")):
                self.made.append(f"<{tag} {name}={value}>")


def plant(rows: Any, but: set[str] = frozenset(), **more: str) -> None:  # type: ignore[assignment]
    """Into every column that holds free text, past what forms would refuse: what is stored is not trusted."""
    free = {
        field.name: PAYLOAD[: field.max_length or len(PAYLOAD)]
        for field in rows.model._meta.concrete_fields
        if isinstance(field, CharField | TextField) and field.name in FREE - but and not field.choices
    }
    rows.update(**free | more)


FREE = {"description", "full_name", "message", "filename", "problem", "words", "subject", "issuer", "path", "method",
        "user", "username", "error", "alternative_names", "body", "refused", "peer", "cause"}  # fmt: skip


@pytest.fixture
def planted(world: dict[str, Model], as_role: Callable[[str], Client]) -> Client:
    for model in SECTIONS.values():
        plant(model._default_manager.all(), but={"path", "username", "issuer"})
    with change_set("tests", PAYLOAD):
        shown = mint("CN=x", factories.partner_ca())
        factories.CertificateFactory(name="odd", minted=mint(f"CN={_escaped(PAYLOAD)},O={_escaped(PAYLOAD)}"))
        store = Truststore.objects.get(name="partners")
        source = RevocationSource.objects.create(truststore=store, url=f"http://crl.example/{shown.certificate.sha256}")
    RevocationFetch.objects.create(source=source, error=PAYLOAD)
    NodeStatus.objects.create(node=Node.objects.first(), since=timezone.now(), problem=PAYLOAD, courier=PAYLOAD)
    refused_request(lanes=[lane(user=PAYLOAD, steps=[{"check": PAYLOAD, "passed": False, "found": PAYLOAD,
                                                      "against": PAYLOAD}])])  # fmt: skip
    refused_request(kind="handshake", proven=True, certificate=shown.certificate.sha256)
    plant(Refusal.objects.all())
    job = Job.objects.create(kind="users", filename="x", actor=PAYLOAD, state=JobState.CHECKED)
    job.shown = [{"row": 1, "action": "refuse", "name": PAYLOAD, "words": PAYLOAD}]
    job.save()
    plant(Job.objects.all())
    test = saved_test(headers=[[PAYLOAD, PAYLOAD]])
    plant(SavedTest.objects.all(), path=f"/{PAYLOAD}")
    run = TestRun.objects.create(actor=PAYLOAD, revision=1, state=RunState.DONE)
    TestResult.objects.create(run=run, test=test, name=PAYLOAD, passed=False, words=PAYLOAD, reason=PAYLOAD[:64])
    client = Client(HTTP_USER_AGENT=PAYLOAD)
    Operator.objects.create_operator("olga", PASSWORD, "owner")
    assert client.post("/login/", {"username": "olga", "password": PASSWORD}).status_code == 302
    operator = Operator.objects.get(username="olga")
    Passkey.objects.create(operator=operator, name=PAYLOAD[:100], host=PAYLOAD, credential_id=b"1", credential=b"2")
    Token.objects.create(operator=operator, name=PAYLOAD[:100], scopes=["view"], digest="1", expires_at=timezone.now())
    Operator.objects.update(full_name=PAYLOAD)
    return client


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in '"<>,+;=\\#' else each for each in text)


def test_nothing_that_is_stored_becomes_markup(planted: Client, world: dict[str, Any]) -> None:
    looked_at, seen = 0, 0
    for url in pages(world):
        answer = planted.get(url)
        if answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
            text = answer.content.decode()
            looked_at, seen = looked_at + 1, seen + (MARK in text)
            assert not Page(text).made, url
    assert looked_at > 60
    assert seen > 30, "most of what was planted is not shown"


@pytest.mark.parametrize(
    "url",
    [
        "/search/?q={}",
        "/users/?q={}",
        "/users/?sort={}&show={}&page={}",
        "/changes/?q={}&kind={}&actor={}",
        "/refusals/?q={}&reason={}&port={}",
        "/expiry/?kind={}&q={}",
        "/invoke/?port={}&path={}&username={}&credential={}",
        "/services/add/?node={}&path={}&description={}&backend={}",
        "/login/?next={}",
        "/login/passkey/?next={}",
        "/confirm/?next={}",
        "/import/?kind={}",
        "/choices/users/?q={}",
        "/no/such/{}",
    ],
)
@pytest.mark.parametrize("planted_text", [PAYLOAD, LINK])
def test_nothing_that_an_address_says_becomes_markup(owner: Client, url: str, planted_text: str) -> None:
    from urllib.parse import quote

    for client in (owner, Client()):
        answer = client.get(url.replace("{}", quote(planted_text)))
        assert answer.status_code in (200, 302, 404, 400)
        assert not Page(answer.content.decode()).made
        assert "\n" not in answer.get("Location", "")


def test_what_is_looked_for_would_be_found() -> None:
    assert Page(f"<p title='{PAYLOAD}'>").made
    assert Page(f"<a href='{LINK}'>").made
