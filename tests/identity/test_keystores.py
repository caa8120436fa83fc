"""A keystore and the pair that is to take its place; keys and certificates that are made here."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from django.core.exceptions import ValidationError
from django.core.management import call_command

from gateway.audit import change_set
from identity.core import certificates, issuing
from identity.core.issuing import KeyKind
from identity.core.names import from_text
from identity.core.vault import VaultError
from identity.models import Keystore
from tests.factories import KeystoreFactory, server_ca
from tests.minting import Minted, mint

NAMES = ["dns:gateway.example", "ip:192.0.2.1", "ip:2001:db8::1", "email:ops@a.example", "uri:urn:a:1"]


class TestMade:
    @pytest.mark.parametrize("kind", KeyKind)
    def test_a_certificate_signs_itself_with_a_key_of_each_kind(self, kind: KeyKind) -> None:
        key, now = issuing.new_key(kind), time.time()
        made = issuing.self_signed(key, "CN=gateway.example,O=Acme", NAMES, 90, now)
        assert certificates.key_matches(key, made)
        assert made.subject == from_text("CN=gateway.example,O=Acme")
        assert list(made.alternative_names) == NAMES
        assert made.for_server_authentication
        assert made.for_client_authentication
        assert not made.is_authority
        assert int(now + 90 * 86400) == made.not_after
        made.parsed.verify_directly_issued_by(made.parsed)

    def test_a_request_asks_for_the_names_and_proves_the_key(self) -> None:
        key = issuing.new_key(KeyKind.EC_P256)
        asked = x509.load_pem_x509_csr(issuing.request(key, "CN=gateway.example", NAMES).encode())
        assert asked.is_signature_valid
        assert asked.public_key() == key.public_key()
        assert len(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == len(NAMES)

    @pytest.mark.parametrize(
        ("subject", "names", "days", "words"),
        [
            pytest.param("", [], 1, "needs a subject or an alternative name", id="nobody"),
            pytest.param("gateway", [], 1, "not a distinguished name", id="no-name"),
            pytest.param("CN=a", ["gateway.example"], 1, "no alternative name", id="no-kind"),
            pytest.param("CN=a", ["ip:gateway"], 1, "no alternative name", id="no-address"),
            pytest.param("CN=a", ["dns:a b"], 1, "no alternative name", id="blank-in-a-name"),
            pytest.param("CN=a", ["dns:a"] * 101, 1, "at most 100", id="many-names"),
            pytest.param("CN=a", [], 0, "1 to 398", id="no-day"),
            pytest.param("CN=a", [], 399, "1 to 398", id="many-days"),
        ],
    )
    def test_what_cannot_be_is_refused(self, subject: str, names: list[str], days: int, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            issuing.self_signed(issuing.new_key(KeyKind.EC_P256), subject, names, days, time.time())


@pytest.mark.django_db
class TestRenewal:
    @pytest.fixture
    def new(self) -> Minted:
        return mint("CN=localhost,O=Acme", server_ca(), purpose="server")

    def saved(self, row: Keystore) -> Keystore:
        with change_set("tests", "keystore"):
            row.save()
        return Keystore.objects.get(pk=row.pk)

    def test_the_next_pair_waits_and_then_takes_over(self, new: Minted) -> None:
        row = KeystoreFactory()
        before = row.sha256, row.open_private_key()
        row.set_next((new.certificate,), new.key)
        row = self.saved(row)
        assert (row.renewal, row.sha256, row.open_private_key()) == ("ready", *before)
        row.swap()
        row = self.saved(row)
        assert (row.renewal, row.sha256) == ("", new.certificate.sha256)
        assert row.open_private_key().decode() == new.key_pem
        assert (row.next_chain, bytes(row.next_private_key), row.next_request, row.next_from) == ("", b"", "", None)

    def test_a_key_that_waits_for_its_certificate_cannot_take_over(self) -> None:
        row = KeystoreFactory()
        key = issuing.new_key(KeyKind.EC_P256)
        row.ask(key, issuing.request(key, "CN=localhost", []))
        row = self.saved(row)
        assert row.renewal == "asked"
        with pytest.raises(ValidationError, match="no certificate yet"):
            row.swap()

    def test_a_pair_that_does_not_match_is_refused(self, new: Minted) -> None:
        with pytest.raises(ValidationError, match="does not belong to"):
            KeystoreFactory().set_next((new.certificate,), mint("CN=x").key)

    def test_a_time_without_a_certificate_is_refused_by_the_database(self) -> None:
        row = KeystoreFactory()
        row.next_from = datetime.now(UTC)
        with pytest.raises(ValidationError, match="Only a renewal that has"):
            self.saved(row)

    def test_what_is_due_is_told_by_the_time(self, new: Minted) -> None:
        row, at = KeystoreFactory(), datetime.now(UTC)
        row.set_next((new.certificate,), new.key, at)
        self.saved(row)
        assert list(Keystore.objects.due(at)) == [row]
        assert not Keystore.objects.due(at - timedelta(seconds=1)).exists()

    def test_the_key_that_waits_is_sealed_bound_to_its_place_and_rotated(self, new: Minted, settings: object) -> None:
        row = KeystoreFactory()
        row.set_next((new.certificate,), new.key)
        row = self.saved(row)
        assert b"PRIVATE" not in bytes(row.next_private_key)
        Keystore.objects.filter(pk=row.pk).update(private_key=row.next_private_key)
        with pytest.raises(VaultError):
            Keystore.objects.get(pk=row.pk).open_private_key()
        Keystore.objects.filter(pk=row.pk).update(private_key=row.private_key)
        settings.POSTERN_MASTER_KEY_PREVIOUS = [settings.POSTERN_MASTER_KEY]  # type: ignore[attr-defined]
        settings.POSTERN_MASTER_KEY = os.urandom(32)  # type: ignore[attr-defined]
        call_command("rotate-master-key")
        settings.POSTERN_MASTER_KEY_PREVIOUS = []  # type: ignore[attr-defined]
        assert certificates.key_pem(Keystore.objects.get(pk=row.pk).next_key()).decode() == new.key_pem
