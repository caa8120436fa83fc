"""Revocation lists from URLs: over real HTTP, into a real database, onto pages and into what nodes decide by."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone

from console import attention
from gateway import revocation
from gateway.audit import change_set
from gateway.core.destinations import Destinations
from gateway.models import ChangeSet
from identity.core.files import MAX_CRL
from identity.models import RevocationFetch, RevocationList, RevocationSource, Truststore
from tests.factories import TruststoreFactory, partner_ca, server_ca
from tests.identity.forging import list_of
from tests.minting import Minted, authority, crl, mint

pytestmark = pytest.mark.django_db
Answer = Callable[[BaseHTTPRequestHandler], None]


class Publisher:
    """Where an authority publishes its lists. `answer` may be replaced."""

    def __init__(self) -> None:
        self.body, self.asked = b"", 0
        self.answer: Answer = self.say
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.answer(self)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/ca.crl"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def say(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    found = Publisher()
    yield found
    found.close()


def source(url: str, *anchors: Minted, **more: Any) -> RevocationSource:
    store = TruststoreFactory(anchors=list(anchors) or [partner_ca()], **more)
    with change_set("tests", "a source"):
        found = RevocationSource(truststore=store, url=url)
        found.full_clean()
        found.save()
    return found


def fetched(made: RevocationSource) -> tuple[bool | None, str]:
    """Whether there was another list, and what was wrong."""
    changed = revocation.fetch(RevocationSource.objects.get(pk=made.pk), timezone.now())
    return changed, RevocationFetch.objects.get(source=made).error


def test_a_list_is_taken_recorded_once_and_decides(publisher: Publisher) -> None:
    from console.certificate_preview import truststore_value
    from identity.core import chains

    leaf = mint("CN=x", partner_ca())
    made = source(publisher.url)
    publisher.body = crl(partner_ca(), [leaf])
    before = ChangeSet.objects.count()
    assert fetched(made) == (True, "")
    change = ChangeSet.objects.latest("id")
    assert (change.actor, ChangeSet.objects.count()) == ("crl-fetch", before + 1)
    recorded = change.changes.get()
    assert (recorded.kind, recorded.name) == ("truststores", made.truststore.name)
    assert publisher.url in recorded.after["fetched"]
    assert fetched(made) == (False, "")
    assert ChangeSet.objects.count() == before + 1, "the same list again is no change"
    store = truststore_value(Truststore.objects.get())
    verdict = chains.judge(leaf.certificate, (), store, timezone.now().timestamp())
    assert verdict.reason == "certificate_revoked"


@pytest.mark.parametrize(("revocation", "reason"), [("hard", "revocation_unknown"), ("soft", None)])
def test_as_long_as_none_has_ever_come_hard_refuses(publisher: Publisher, revocation: str, reason: str | None) -> None:
    from console.certificate_preview import truststore_value
    from identity.core import chains

    leaf = mint("CN=x", partner_ca())
    made = source(publisher.url, revocation=revocation)

    def judged() -> str | None:
        store = truststore_value(Truststore.objects.get())
        return chains.judge(leaf.certificate, (), store, timezone.now().timestamp()).reason

    assert judged() == reason
    publisher.body = crl(partner_ca())
    fetched(made)
    assert judged() is None


def test_pem_is_taken_too(publisher: Publisher) -> None:
    publisher.body = x509.load_der_x509_crl(crl(partner_ca())).public_bytes(Encoding.PEM)
    assert fetched(source(publisher.url)) == (True, "")


def test_a_newer_list_takes_the_place_of_an_older_one_and_never_the_other_way(publisher: Publisher) -> None:
    made = source(publisher.url)
    older, newer = crl(partner_ca(), days=(-3, 7)), crl(partner_ca(), days=(-2, 7))
    publisher.body = newer
    assert fetched(made) == (True, "")
    publisher.body = older
    changed, error = fetched(made)
    assert not changed
    assert "older than the one that is here" in error
    assert bytes(RevocationList.objects.get().der) == newer
    publisher.body = crl(partner_ca())
    assert fetched(made) == (True, "")


def test_a_list_that_was_uploaded_is_not_put_back_in_time_either(publisher: Publisher) -> None:
    made = source(publisher.url)
    with change_set("tests", "an upload"):
        row = RevocationList(truststore=made.truststore, der=crl(partner_ca(), days=(-1, 7)))
        row.full_clean()
        row.save()
    publisher.body = crl(partner_ca(), days=(-2, 7))
    assert "older than the one that is here" in fetched(made)[1]


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
    handler.end_headers()


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(2 * MAX_CRL // 65_536):
            handler.wfile.write(bytes(65_536))
    except OSError:
        handler.close_connection = True


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"0")


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-x\r\n")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (redirect, "sends us to http://127.0.0.1:1/elsewhere"),
        (missing, "it answers 404"),
        (endless, "more than 16,777,216 bytes"),
        (cut, "it ended after 1 of 1,000 bytes"),
        (no_http, "cannot be fetched"),
    ],
)
def test_what_goes_wrong_is_told_and_changes_nothing(publisher: Publisher, answer: Answer, why: str) -> None:
    made = source(publisher.url)
    publisher.answer = answer
    before = ChangeSet.objects.count()
    changed, error = fetched(made)
    assert not changed
    assert why in error
    assert (ChangeSet.objects.count(), RevocationList.objects.count()) == (before, 0)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "no revocation list"),
        (crl(authority("CN=Partner CA,O=Acme")), "is not signed by it"),
        (crl(authority("CN=Somebody")), "has no authority CN=Somebody"),
        (list_of(partner_ca(), extensions=[(x509.DeltaCRLIndicator(1), True)]), "only changes to another"),
    ],
)
def test_a_list_that_may_not_be_taken(publisher: Publisher, body: bytes, why: str) -> None:
    made = source(publisher.url)
    publisher.body = body
    assert why in fetched(made)[1]
    assert not RevocationList.objects.exists()


def test_nobody_there() -> None:
    assert "cannot be reached" in fetched(source("http://127.0.0.1:1/ca.crl"))[1]


def test_whoever_sends_slowly_is_given_up(publisher: Publisher) -> None:
    publisher.body = bytes(200_000)
    times = iter([0.0, 1.0, revocation.LONGEST + 1.0])
    with pytest.raises(revocation.FetchError, match="did not come within 60 s"):
        revocation.download(publisher.url, clock=lambda: next(times, 1000.0))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/x",
        "file:///etc/passwd",
        "ldap://a/b",
        "http://",
        "x",
        "http://user:secret@a.example/",
        "http://a.example/a b",
        "http://a.example:x/",
    ],
)
def test_urls_that_lists_are_not_fetched_from(url: str) -> None:
    with pytest.raises(ValidationError):
        source(url)


# --- where the console may call ---


def listed(settings: Any, *texts: str) -> None:
    settings.REVOCATION_FROM = Destinations.of(texts)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "127.1"])
def test_the_console_itself_is_not_asked(publisher: Publisher, settings: Any, host: str) -> None:
    """However it is written: what it means is looked at, and not how it looks."""
    listed(settings)
    port = publisher.server.server_address[1]
    made = source(f"http://{host}:{port}/ca.crl")
    assert "is not fetched" in fetched(made)[1]
    assert fetched(made)[1].endswith("does not call unless REVOCATION_FROM lists it")
    assert publisher.asked == 0


def test_where_hosts_are_listed_no_other_is_asked(publisher: Publisher, settings: Any) -> None:
    listed(settings, "crl.example.com")
    made = source(publisher.url)
    assert "not in the list of where the console may call" in fetched(made)[1]
    listed(settings, "127.0.0.0/8")
    publisher.body = crl(partner_ca())
    assert fetched(made) == (True, "")


def test_a_name_is_resolved_once_and_what_was_looked_at_is_called(
    publisher: Publisher, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers harmlessly first, and with an inner address to whoever asks again."""
    listed(settings, "127.0.0.2/32")
    answers = [["127.0.0.1", "127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]]
    port = publisher.server.server_address[1]

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    with socket.create_server(("127.0.0.2", port)):  # listens, and answers nothing
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        monkeypatch.setattr(revocation, "STALL", 0.2)
        assert "cannot be fetched: timed out" in fetched(source(f"http://crl.example.com:{port}/ca.crl"))[1]
    assert (publisher.asked, len(answers)) == (0, 2)


def test_over_https_it_is_the_name_that_has_to_be_proved(
    publisher: Publisher, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = mint("CN=localhost", server_ca(), purpose="server", san=["dns:localhost"])
    (tmp_path / "server.pem").write_text(server.pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    publisher.server.socket = context.wrap_socket(publisher.server.socket, server_side=True)
    publisher.body = crl(partner_ca())
    made = source(f"https://localhost:{publisher.server.server_address[1]}/ca.crl")
    assert "CERTIFICATE_VERIFY_FAILED" in fetched(made)[1]
    (tmp_path / "ca.pem").write_text(server_ca().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert fetched(made) == (True, "")


def test_behind_a_proxy_names_are_looked_at(
    publisher: Publisher, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", publisher.url.removesuffix("/ca.crl"))
    monkeypatch.setenv("no_proxy", "")
    publisher.body = crl(partner_ca())
    listed(settings)
    assert fetched(source("http://crl.example.com/ca.crl")) == (True, "")
    assert "does not call" in fetched(source("http://169.254.169.254/latest", partner_ca()))[1]
    listed(settings, ".example.com")
    assert "not in the list" in fetched(source("http://crl.example.org/ca.crl", partner_ca()))[1]
    assert publisher.asked == 1


def test_what_is_due(publisher: Publisher) -> None:
    made = source(publisher.url)
    now = timezone.now()
    assert revocation.due(now) == [made]
    publisher.body = crl(partner_ca())
    assert revocation.fetch(made, now)
    assert revocation.due(now + timedelta(seconds=3599)) == []
    assert revocation.due(now + timedelta(seconds=3600)) == [made]
    RevocationFetch.objects.update(error="it answers 404")
    assert revocation.due(now + timedelta(seconds=revocation.AGAIN)) == [made], "a failure is tried again sooner"


def test_of_two_that_would_fetch_one_does(publisher: Publisher) -> None:
    made = source(publisher.url)
    publisher.body = crl(partner_ca())
    one, other = (RevocationSource.objects.select_related("fetch").get(pk=made.pk) for _ in range(2))
    assert one.last.tried_at is other.last.tried_at is None
    assert revocation.fetch(one, timezone.now()) is True
    assert revocation.fetch(other, timezone.now()) is None
    assert publisher.asked == 1


def test_the_command_fetches_all_and_tells(publisher: Publisher) -> None:
    publisher.body = crl(partner_ca())
    source(publisher.url, name="good")
    out = StringIO()
    call_command("fetch-crls", stdout=out)
    assert out.getvalue() == f"good: {publisher.url}: a new list\n"
    source("http://127.0.0.1:1/x", name="bad")
    with pytest.raises(CommandError, match="1 could not be fetched"):
        call_command("fetch-crls", stdout=out)


def concerns() -> list[tuple[str, str, str]]:
    return [(each.kind, each.text, each.hint) for each in attention._lists(timezone.now())]


def test_the_overview_tells_what_is_not_fetched(publisher: Publisher) -> None:
    made = source(publisher.url, name="partners")
    ((kind, text, hint),) = concerns()
    assert (kind, "is not fetched" in text, "without a list are refused" in hint) == ("bad", True, True)
    publisher.answer = missing
    fetched(made)
    ((kind, text, hint),) = concerns()
    assert (kind, "cannot be fetched" in text, "404" in hint) == ("bad", True, True)
    assert "without a list are refused" in hint
    publisher.answer, publisher.body = publisher.say, crl(partner_ca())
    fetched(made)
    assert concerns() == []
    publisher.body = crl(partner_ca(), days=(-0.5, -0.1))
    fetched(made)
    ((kind, text, hint),) = concerns()
    assert (kind, "ended" in text, "refused" in hint) == ("bad", True, True)
