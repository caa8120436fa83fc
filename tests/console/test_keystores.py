"""Keystores made in the console, and their renewal: request, answer, taking over."""

import html
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from console.renewals import complete_renewals
from gateway.audit import change_set
from gateway.models import Change, Registration
from gateway.renewals import complete, swap_due
from identity.core import certificates
from identity.models import Keystore
from tests import factories
from tests.minting import Minted, mint

pytestmark = pytest.mark.django_db


def text(answer: Any) -> str:
    return html.unescape(answer.content.decode())


def answered(request: str, issuer: Minted) -> str:
    """What an authority makes of a request."""
    asked = x509.load_pem_x509_csr(request.encode())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(issuer.x509.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
    )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


MADE = {"name": "made", "subject": "CN=gateway.example,O=Acme", "names": "dns:gateway.example", "kind": "ec-p256",
        "days": "90"}  # fmt: skip


class TestMaking:
    def test_a_key_is_made_with_a_certificate_that_signs_itself(self, owner: Client) -> None:
        assert owner.post("/keystores/generate/", MADE).status_code == 302
        row = Keystore.objects.get(name="made")
        assert row.certificate.self_issued
        assert certificates.key_matches(row.key(), row.certificate)
        page = text(owner.get(f"/keystores/{row.pk}/"))
        assert "Its certificate signs itself" in page
        assert "PRIVATE KEY" not in page + str(Change.objects.get(kind="keystores", name="made").after)

    def test_the_authority_answers_its_request_and_the_answer_alone_is_uploaded(self, owner: Client) -> None:
        owner.post("/keystores/generate/", MADE)
        row = Keystore.objects.get(name="made")
        request = owner.get(f"/keystores/{row.pk}/request/").content.decode()
        key, answer = row.open_private_key(), answered(request, factories.server_ca())
        assert owner.post(f"/keystores/{row.pk}/", {"name": "made", "certificate": answer}).status_code == 302
        row.refresh_from_db()
        assert row.certificate.pem() == answer
        assert row.open_private_key() == key

    @pytest.mark.parametrize(
        ("change", "field", "words"),
        [
            pytest.param({"subject": "gateway"}, "subject", "not a distinguished name", id="subject"),
            pytest.param({"names": "gateway.example"}, "names", "Line 1", id="names"),
            pytest.param({"subject": "", "names": ""}, "names", "subject or an alternative name", id="neither"),
            pytest.param({"kind": "rsa-512"}, "kind", "Select a valid choice", id="kind"),
            pytest.param({"days": "999"}, "days", "less than or equal to 398", id="days"),
            pytest.param({"name": "a b"}, "name", "Use letters", id="name"),
        ],
    )
    def test_what_cannot_be_is_said_at_its_field(
        self, owner: Client, change: dict[str, str], field: str, words: str
    ) -> None:
        answer = owner.post("/keystores/generate/", MADE | change)
        assert answer.status_code == 422
        assert words in " ".join(answer.context["form"].errors[field])
        assert not Keystore.objects.exists()


class TestUploading:
    def test_one_pkcs12_file_is_enough(self, owner: Client) -> None:
        pair = mint("CN=localhost", factories.server_ca(), purpose="server")
        sealed = serialization.BestAvailableEncryption(b"pw")
        data = pkcs12.serialize_key_and_certificates(b"a", pair.key, pair.x509, [factories.server_ca().x509], sealed)
        typed = {"name": "k", "certificate_file": SimpleUploadedFile("k.p12", data), "pass_phrase": "pw"}
        assert owner.post("/keystores/add/", typed).status_code == 302
        row = Keystore.objects.get(name="k")
        assert row.certificates == (pair.certificate, factories.server_ca().certificate)
        assert row.open_private_key().decode() == pair.key_pem

    def test_a_certificate_of_another_key_is_refused_without_it(self, owner: Client) -> None:
        row = factories.KeystoreFactory(name="k")
        answer = owner.post(f"/keystores/{row.pk}/", {"name": "k", "certificate": mint("CN=other").pem})
        assert answer.status_code == 422
        assert "of another key than the one that is kept here" in text(answer)


class TestRenewing:
    @pytest.fixture
    def row(self) -> Keystore:
        return factories.KeystoreFactory(name="k")

    def ask(self, client: Client, row: Keystore, **more: str) -> Any:
        typed = {"step": "ask", "subject": "CN=localhost", "names": "dns:localhost", "kind": "ec-p256"}
        return client.post(f"/keystores/{row.pk}/renew/", typed | more)

    def test_from_the_request_to_the_swap(self, owner: Client, row: Keystore) -> None:
        url, before = f"/keystores/{row.pk}/renew/", (row.sha256, row.open_private_key())
        page = text(owner.get(url))
        assert "Make the request" in page
        assert "CN=localhost,O=Acme" in page, "the subject that it has is proposed"
        assert "dns:localhost" in page
        assert self.ask(owner, row).status_code == 302
        assert "Send the request to the authority" in text(owner.get(url))
        answer = answered(owner.get(f"/keystores/{row.pk}/request/").content.decode(), factories.server_ca())
        assert owner.post(url, {"step": "answer", "certificate": answer}).status_code == 302
        row.refresh_from_db()
        assert (row.renewal, row.sha256, row.open_private_key()) == ("ready", *before), "the old one remains until then"
        assert owner.get(f"/keystores/{row.pk}/pem/?next").content.decode() == answer
        assert "Take over now" in text(owner.get(url))
        assert owner.post(f"/keystores/{row.pk}/swap/").status_code == 302
        row.refresh_from_db()
        assert row.certificate.pem() == answer
        assert certificates.key_matches(row.key(), row.certificate)
        assert row.renewal == ""

    def test_with_the_key_that_it_has(self, owner: Client, row: Keystore) -> None:
        self.ask(owner, row, kind="same")
        row.refresh_from_db()
        assert row.next_key().public_key() == row.key().public_key()

    def test_with_a_pair_from_elsewhere_at_a_time(self, owner: Client, row: Keystore) -> None:
        new = mint("CN=localhost,O=Acme", factories.server_ca(), purpose="server")
        at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=2)
        typed = {"step": "answer", "certificate": new.pem, "private_key": new.key_pem, "at": f"{at:%Y-%m-%dT%H:%M}"}
        assert owner.post(f"/keystores/{row.pk}/renew/", typed).status_code == 302
        assert swap_due(at - timedelta(minutes=1)) == 0
        assert swap_due(at) == 1
        row.refresh_from_db()
        assert (row.sha256, row.renewal) == (new.certificate.sha256, "")
        assert Change.objects.filter(kind="keystores").latest("id").change_set.actor == "schedule"
        assert swap_due(at) == 0

    @pytest.mark.parametrize(
        ("typed", "field", "words"),
        [
            pytest.param({"step": "ask", "kind": "ec-p256"}, "names", "a subject or an", id="asked-for-nobody"),
            pytest.param({"step": "answer"}, "certificate", "Choose a file", id="no-answer"),
            pytest.param({"step": "answer", "certificate": mint("CN=x").pem}, "certificate", "of another key",
                         id="answer-of-another-key"),
            pytest.param({"step": "answer", "certificate": mint("CN=x").pem, "at": "2020-01-01T00:00"}, "at",
                         "That time is over", id="a-time-that-is-over"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_is_said_at_its_field(
        self, owner: Client, row: Keystore, typed: dict[str, str], field: str, words: str
    ) -> None:
        answer = owner.post(f"/keystores/{row.pk}/renew/", typed)
        assert answer.status_code == 422
        form = answer.context["asking" if typed["step"] == "ask" else "answer"]
        assert words in " ".join(form.errors[field])
        row.refresh_from_db()
        assert row.renewal == ""

    def test_a_renewal_is_dropped_and_its_key_with_it(self, owner: Client, row: Keystore) -> None:
        self.ask(owner, row)
        assert owner.post(f"/keystores/{row.pk}/drop/").status_code == 302
        row.refresh_from_db()
        assert (row.renewal, bytes(row.next_private_key), row.next_request) == ("", b"", "")

    def test_one_that_is_not_ready_is_not_swapped_in(self, owner: Client, row: Keystore) -> None:
        self.ask(owner, row)
        page = text(owner.post(f"/keystores/{row.pk}/swap/", follow=True))
        assert "no certificate yet" in page

    def test_registrations_follow_and_mappings_are_warned_of(self, owner: Client) -> None:
        old, new = (mint("CN=inside,O=Acme", factories.server_ca()) for _ in range(2))
        row = factories.KeystoreFactory(name="k", minted=old)
        registration = factories.RegistrationFactory(minted=old)
        factories.CertificateFactory(name="mapped", minted=old, user=factories.UserFactory(name="gateway"))
        with change_set("tests", "renewal"):
            row.set_next((new.certificate,), new.key)
            row.save()
        page = text(owner.get(f"/keystores/{row.pk}/renew/"))
        assert str(registration) in page
        assert "mapped" in page
        assert "The new one is not" in page
        assert owner.post(f"/keystores/{row.pk}/swap/").status_code == 302
        assert Registration.objects.get().admitted == (old.certificate.sha256, new.certificate.sha256)

    def test_registrations_admit_the_next_one_as_soon_as_it_is_stored_and_not_when_it_is_dropped(
        self, owner: Client
    ) -> None:
        old, new, other = (mint("CN=inside,O=Acme", factories.server_ca()) for _ in range(3))
        row = factories.KeystoreFactory(name="k", minted=old)
        factories.RegistrationFactory(minted=old)

        def admitted() -> tuple[str, ...]:
            return Registration.objects.get().admitted

        def store(pair: Minted) -> None:
            typed = {"step": "answer", "certificate": pair.pem, "private_key": pair.key_pem}
            assert owner.post(f"/keystores/{row.pk}/renew/", typed).status_code == 302

        store(new)
        assert admitted() == (old.certificate.sha256, new.certificate.sha256)
        store(other)
        assert admitted() == (old.certificate.sha256, other.certificate.sha256)
        assert owner.post(f"/keystores/{row.pk}/drop/").status_code == 302
        assert admitted() == (old.certificate.sha256,)

    def test_one_renewal_after_another_completes_the_one_before(self, owner: Client) -> None:
        old, new, newest = (mint("CN=inside,O=Acme", factories.server_ca()) for _ in range(3))
        row = factories.KeystoreFactory(name="k", minted=old)
        factories.RegistrationFactory(minted=old)
        for pair in (new, newest):
            typed = {"step": "answer", "certificate": pair.pem, "private_key": pair.key_pem}
            assert owner.post(f"/keystores/{row.pk}/renew/", typed).status_code == 302
            assert owner.post(f"/keystores/{row.pk}/swap/").status_code == 302
        assert Registration.objects.get().admitted == (new.certificate.sha256, newest.certificate.sha256)

    @pytest.mark.parametrize("action", ["renew", "swap", "drop"])
    def test_takes_the_permission(self, as_role: Any, row: Keystore, action: str) -> None:
        assert as_role("operator").post(f"/keystores/{row.pk}/{action}/").status_code == 403


class TestCompleting:
    """When a registration admits the certificate before no longer."""

    OLD, NEW = (mint("CN=inside,O=Acme", factories.server_ca()) for _ in range(2))

    @pytest.fixture
    def row(self) -> Registration:
        row = factories.RegistrationFactory(minted=self.OLD)
        with change_set("tests", "renewal"):
            row.set_next(self.NEW.certificate)
            row.save()
        return row

    @pytest.mark.parametrize(
        ("old", "new", "days", "done"),
        [
            pytest.param(0, 2, 0, True, id="none-of-the-old-is-left"),
            pytest.param(1, 2, 0, False, id="one-of-the-old-is-in-use"),
            pytest.param(2, 0, 0, False, id="the-swap-is-still-to-come"),
            pytest.param(0, 0, 0, False, id="nobody-is-there-and-nothing-swapped"),
            pytest.param(1, 0, 1000, True, id="the-old-one-has-expired"),
        ],
    )
    def test_by_what_the_edge_tells(self, row: Registration, old: int, new: int, days: int, done: bool) -> None:
        counts = {self.OLD.certificate.sha256: old, self.NEW.certificate.sha256: new}
        tunnels = {sha256: count for sha256, count in counts.items() if count}
        assert complete(row, tunnels, datetime.now(UTC) + timedelta(days=days)) is done
        wanted = (self.NEW,) if done else (self.OLD, self.NEW)
        row.refresh_from_db()
        assert row.admitted == tuple(each.certificate.sha256 for each in wanted)

    @pytest.mark.parametrize("tunnels", [pytest.param(None, id="the-edge-cannot-tell"), pytest.param({}, id="nobody")])
    def test_by_what_is_configured_where_no_tunnel_tells(
        self, row: Registration, tunnels: dict[str, int] | None
    ) -> None:
        keystore = factories.KeystoreFactory(name="inside", minted=self.OLD)
        factories.InternalPortFactory(node=row.node, tls_keystore=keystore, registration=row)
        assert not complete(row, tunnels, datetime.now(UTC))
        with change_set("tests", "swapped"):
            keystore.set_pair((self.NEW.certificate,), self.NEW.key)
            keystore.save()
        fresh = Registration.objects.get()
        assert complete(fresh, tunnels, datetime.now(UTC))

    def test_an_edge_that_does_not_answer_is_waited_for(self, row: Registration) -> None:
        assert complete_renewals(datetime.now(UTC)) == []
        row.refresh_from_db()
        assert len(row.admitted) == 2


def test_a_key_that_waits_is_kept_by_what_is_exported_and_applied_again(owner: Client, tmp_path: Any) -> None:
    from tests.topology.conftest import File, exported

    row = factories.KeystoreFactory(name="k")
    TestRenewing().ask(owner, row)
    row.refresh_from_db()
    file, secret = File(tmp_path, {}, {}), bytes(row.next_private_key)
    content = exported()
    assert "next:" in content
    assert "Nothing to change" in file.say("--prune", text=content)
    entries = yaml.safe_load(content)
    del entries["keystores"][0]["next"]
    file.say("--prune", text=yaml.safe_dump(entries))
    row.refresh_from_db()
    assert bytes(row.next_private_key) == secret, "a key that exists nowhere else is not dropped for want of a word"
