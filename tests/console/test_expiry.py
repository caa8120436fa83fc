"""What ends: the page, the metrics, and the messages, each of which comes once."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from console.attention import expiries
from console.models import ExpiryNotice
from console.notices import due_at, notify
from gateway.audit import change_set
from gateway.expiry import Endings, Kind, Wanted
from identity.models import Certificate, RevocationList, RevocationSource
from tests import factories
from tests.factories import partner_ca
from tests.minting import authority, mint

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


@pytest.fixture
def things() -> None:
    """One of each kind, and clients at 2, 8 and 200 days."""
    intermediate = authority("CN=Issuing CA", authority("CN=Root"), days=(-1, 9.5))
    factories.KeystoreFactory(name="edge", minted=mint("CN=edge", intermediate, purpose="server", days=(-1, 50.5)))
    factories.TruststoreFactory(name="partners", anchors=[authority("CN=Old CA", days=(-1, 20.5))])
    alice = factories.UserFactory(name="alice")
    for name, days in (("soon", 2.5), ("near", 8.5), ("far", 200.5)):
        minted = mint(f"CN={name}", partner_ca(), days=(-1, days))
        factories.CertificateFactory(name=name, minted=minted, user=alice, description="Orders")


def names(wanted: Wanted) -> list[str]:
    return [f"{each.name} {each.subject}" for each in Endings(wanted)]


def test_each_member_of_a_chain_is_told(things: None) -> None:
    assert names(Wanted(frozenset({Kind.SERVER}))) == ["edge CN=Issuing CA", "edge CN=edge"]


def test_all_kinds_stand_in_one_order(things: None) -> None:
    found = Endings(Wanted(until=NOW + timedelta(days=100)))
    assert [each.name for each in found] == ["soon", "near", "edge", "partners", "edge"]
    assert [each.name for each in found[1:3]] == ["near", "edge"]
    assert len(found) == 5
    backwards = Endings(Wanted(until=NOW + timedelta(days=100), order="-ends"))
    assert [each.ends for each in backwards] == [each.ends for each in reversed(list(found))]
    assert [each.name for each in Endings(Wanted(order="name"))][:3] == ["edge", "edge", "far"]


def test_the_page_counts_lists_and_filters(things: None, as_role: Any) -> None:
    viewer: Client = as_role("viewer")
    page = viewer.get("/expiry/")
    assert [each.name for each in page.context["page"]] == ["soon", "near", "edge", "partners", "edge"]
    counts = {kind: dict(found) for kind, _, found in page.context["table"]}
    assert counts["client"] == {"ended": 0, "3": 1, "10": 1, "30": 0, "60": 0, "later": 1}
    assert counts["server"] == {"ended": 0, "3": 0, "10": 1, "30": 0, "60": 1, "later": 0}
    later = viewer.get("/expiry/?kind=client&show=later")
    assert [each.name for each in later.context["page"]] == ["far"]
    assert [each.name for each in viewer.get("/expiry/?q=orders&show=all").context["page"]] == ["soon", "near", "far"]
    assert viewer.get("/expiry/?kind=x&show=y&sort=z&page=-1").status_code == 200


def test_its_queries_do_not_grow(things: None, as_role: Any, django_assert_max_num_queries: Any) -> None:
    viewer: Client = as_role("viewer")
    with django_assert_max_num_queries(20):
        assert viewer.get("/expiry/").status_code == 200


def test_the_metrics_are_for_who_has_the_token(things: None, client: Client, settings: Any) -> None:
    assert client.get("/metrics").status_code == 404
    settings.CONSOLE_METRICS_TOKEN = "a token"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer a toke"}).status_code == 401
    text = client.get("/metrics", headers={"Authorization": "Bearer a token"}).content.decode()
    (line,) = [line for line in text.splitlines() if 'name="soon"' in line]
    assert line.startswith('postern_not_after_seconds{kind="client",')
    assert float(line.rpartition(" ")[2]) == Certificate.objects.get(name="soon").not_after.timestamp()
    assert 'postern_endings{kind="client",state="3"} 1.0' in text


# --- messages ---


def test_a_mail_comes_once_for_each_threshold(things: None, settings: Any) -> None:
    settings.EXPIRY_MAIL_TO = ["ops@example.org"]
    assert notify(NOW) == {"mail": 5}
    (message,) = mail.outbox
    assert message.subject == "Postern: 5 end soon"
    assert "certificate soon (alice): CN=soon, Orders" in message.body
    headings = [line for line in message.body.splitlines() if line.endswith(":")]
    assert headings == ["Within 3 days:", "Within 10 days:", "Within 30 days:", "Within 60 days:"]
    assert notify(NOW) == {"mail": 0}, "it was told"
    assert notify(NOW + timedelta(days=6)) == {"mail": 2}  # one is over, one within 3 days now
    (_, message) = mail.outbox
    assert message.subject == "Postern: 1 has ended, 1 ends soon"
    assert message.body.startswith("Over:\n  ")


def test_a_renewal_is_told_by_itself(settings: Any) -> None:
    settings.EXPIRY_MAIL_TO = ["ops@example.org"]
    row = factories.KeystoreFactory(minted=mint("CN=edge", purpose="server", days=(-1, 5)))
    assert notify(NOW) == {"mail": 1}
    renewed = mint("CN=edge", purpose="server", days=(-1, 6))
    with change_set("tests", "renewed"):
        row.set_pair((renewed.certificate,), renewed.key)
        row.save()
    assert notify(NOW) == {"mail": 1}


def test_what_another_process_tells_is_not_told_again(things: None, settings: Any) -> None:
    """Another has claimed it and lives: nothing is left. It died: its claims come back after a while."""
    settings.EXPIRY_MAIL_TO = ["ops@example.org"]
    notify(NOW)
    ExpiryNotice.objects.update(sent_at=None)
    mail.outbox.clear()
    assert notify(NOW + timedelta(minutes=5)) == {"mail": 0}
    assert notify(NOW + timedelta(minutes=20)) == {"mail": 5}


class Receiver:
    """A webhook's far end; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 204
        self.received: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.append((dict(self.headers), body))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?from=postern"


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    found = Receiver()
    found.thread.start()
    settings.EXPIRY_WEBHOOK, settings.EXPIRY_WEBHOOK_SECRET = found.url, "shared"
    yield found
    found.server.shutdown()
    found.server.server_close()
    found.thread.join()


def test_a_call_is_signed_and_tells_what_ends(things: None, receiver: Receiver, settings: Any) -> None:
    settings.CONSOLE_URL = "https://console.example"
    assert notify(NOW) == {"webhook": 5}
    ((headers, body),) = receiver.received
    time, _, made = headers["Postern-Signature"].partition(",")
    signed = time.removeprefix("t=").encode() + b"." + body
    assert made == "v1=" + hmac.new(b"shared", signed, hashlib.sha256).hexdigest()
    document = json.loads(body)
    assert (document["event"], document["count"]) == ("expiry", 5)
    first = document["endings"][0]
    assert (first["kind"], first["name"], first["days"], first["owner"]) == ("client", "soon", 3, "alice")
    assert first["url"].startswith("https://console.example/certificates/")


def test_what_was_not_taken_is_told_again(things: None, receiver: Receiver) -> None:
    receiver.status = 500
    (outcome,) = notify(NOW).values()
    assert outcome == "127.0.0.1 answers 500; a status of 200 to 299 is taken for received"
    receiver.status = 200
    assert notify(NOW) == {"webhook": 5}


def test_one_channel_that_fails_is_no_harm_to_the_other(things: None, receiver: Receiver, settings: Any) -> None:
    settings.EXPIRY_MAIL_TO = ["ops@example.org"]
    receiver.status = 500
    assert notify(NOW)["mail"] == 5
    receiver.status = 200
    assert notify(NOW) == {"mail": 0, "webhook": 5}


def test_the_command_says_what_it_told(things: None, settings: Any, capsys: Any) -> None:
    with pytest.raises(CommandError, match="Nobody would hear of it"):
        call_command("notify-expiry")
    settings.EXPIRY_MAIL_TO = ["ops@example.org"]
    call_command("notify-expiry")
    assert capsys.readouterr().out == "mail: 5 told\n"


# --- revocation lists, which come anew by themselves or live for days ---


def a_list(*, hours: float, ends_in: float, fetched: bool) -> None:
    """One that lasts for so many hours and ends in so many."""
    store = factories.TruststoreFactory(name="partners")
    end = NOW + timedelta(hours=ends_in)
    with change_set("tests", "a list"):
        source = RevocationSource(truststore=store, url="http://pki.example/ca.crl", every=3600) if fetched else None
        if source is not None:
            source.save()
        RevocationList(truststore=store, source=source, der=b"-", issuer="CN=Partner CA", next_update=end,
                       last_update=end - timedelta(hours=hours)).save()  # fmt: skip


def told_of_lists() -> list[str]:
    """What the overview says of ends, and what messages would."""
    said = [each.text for each in expiries(NOW) if "revocation list" in each.text]
    return said + [
        f"{ending.kind} at {due.days}" for due in due_at(NOW).values() if (ending := due.ending).kind == "crl"
    ]


@pytest.mark.parametrize(
    ("hours", "ends_in", "fetched", "told"),
    [
        pytest.param(24 * 30, 20, False, 2, id="one-that-somebody-brings-is-told-of-before-its-end"),
        pytest.param(24, 20, False, 0, id="one-of-a-day-is-not-told-of-every-day"),
        pytest.param(24, 5, False, 2, id="but-in-its-last-quarter"),
        pytest.param(24 * 30, 20, True, 0, id="one-that-is-fetched-comes-by-itself"),
        pytest.param(24, -1, False, 2, id="one-that-is-over-is-told-of"),
    ],
)
def test_lists_are_told_of_when_somebody_has_to_see_to_them(
    hours: float, ends_in: float, fetched: bool, told: int
) -> None:
    a_list(hours=hours, ends_in=ends_in, fetched=fetched)
    assert len(told_of_lists()) == told


def test_a_fetched_list_that_is_over_is_told_of_once_on_the_overview(owner: Client) -> None:
    a_list(hours=24, ends_in=-1, fetched=True)
    page = owner.get("/")
    assert len([each for each in page.context["concerns"] if "revocation list" in each.text.lower()]) == 1
    assert told_of_lists() == ["crl at 0"], "and once in messages"


def test_of_many_who_end_the_first_are_named_and_the_others_counted(
    django_assert_max_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = factories.UserFactory(name="alice")
    for number in range(12):
        minted = mint(f"CN=c{number}", partner_ca(), days=(-1, 2.5 + number))
        factories.CertificateFactory(name=f"c{number}", minted=minted, user=alice)
    with django_assert_max_num_queries(10):
        said = [each.text for each in expiries(NOW)]
    assert said[0].startswith("Certificate c0, mapped to alice: ends in 2 days")
    assert (len(said), said[-1]) == (9, "4 more end within 30 days")
    monkeypatch.setattr("console.attention.COUNTED", 3)
    assert [each.text for each in expiries(NOW)][-1] == "More than 3 others end within 30 days", "counted no further"
