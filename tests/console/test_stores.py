"""Truststores, keystores and registrations: certificates by file or paste, and what is wrong with them in words."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from gateway.audit import change_set
from gateway.models import Change, ChangeSet, Registration
from identity.models import Keystore, RevocationFetch, RevocationList, RevocationSource, Truststore
from tests import factories
from tests.identity.forging import forge
from tests.minting import authority, crl, mint


def text(answer: Any) -> str:
    return answer.content.decode()


def file(data: str | bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile("upload", data if isinstance(data, bytes) else data.encode())


class TestTruststores:
    def test_several_authorities_come_in_one_paste(self, owner: Client) -> None:
        pem = authority("CN=One").pem + authority("CN=Two").pem
        assert owner.post("/truststores/add/", {"name": "both", "revocation": "hard", "add": pem}).status_code == 302
        store = Truststore.objects.get(name="both")
        assert {row.subject for row in store.certificates.all()} == {"CN=One", "CN=Two"}
        page = text(owner.get(f"/truststores/{store.pk}/"))
        assert "29 days left" in page

    @pytest.mark.parametrize("key", [True, False], ids=["with-a-key", "without"])
    def test_a_pkcs12_file_with_its_password_does_too_and_a_key_in_it_is_not_kept(
        self, owner: Client, key: bool
    ) -> None:
        ca, sealed = authority("CN=One"), serialization.BestAvailableEncryption(b"pw")
        data = (
            pkcs12.serialize_key_and_certificates(b"a", ca.key, ca.x509, None, sealed) if key
            else pkcs12.serialize_key_and_certificates(None, None, None, [ca.x509], sealed)
        )  # fmt: skip
        typed = {"name": "p12", "revocation": "hard", "add_file": file(data), "password": "pw"}
        page = text(owner.post("/truststores/add/", typed, follow=True))
        assert ("The private key in the file was not kept" in page) is key
        assert Truststore.objects.get(name="p12").certificates.get().sha256 == ca.certificate.sha256
        answer = owner.post("/truststores/add/", typed | {"add_file": file(data), "name": "x", "password": "wrong"})
        assert "The password does not open this PKCS#12 file" in text(answer)

    def test_a_file_in_der_does_as_well(self, owner: Client) -> None:
        typed = {"name": "der", "revocation": "hard", "add_file": file(authority("CN=One").der)}
        assert owner.post("/truststores/add/", typed).status_code == 302

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            pytest.param(lambda: "rubbish", "This is not a certificate", id="rubbish"),
            pytest.param(lambda: authority().pem + "and more", "Something follows", id="trailing-rubbish"),
            pytest.param(lambda: authority().key_pem, "holds a private key", id="a-private-key"),
            pytest.param(lambda: mint("CN=leaf", authority()).pem, "is no authority", id="no-authority"),
            pytest.param(lambda: "", "Choose a file, or paste", id="nothing"),
        ],
    )
    def test_what_is_no_authority_is_refused(self, owner: Client, make: Any, words: str) -> None:
        before = ChangeSet.objects.count()
        answer = owner.post("/truststores/add/", {"name": "bad", "revocation": "hard", "add": make()})
        assert answer.status_code == 422
        assert words in text(answer)
        assert ChangeSet.objects.count() == before

    def test_an_authority_that_is_of_no_use_is_taken_and_told_of_with_what_would_be_right(self, owner: Client) -> None:
        old = forge("Old Root", authority=True, basic=(x509.BasicConstraints(True, None), False))
        typed = {"name": "old", "revocation": "hard", "add": old.pem}
        page = text(owner.post("/truststores/add/", typed, follow=True))
        words = (
            "CN=Old Root is of no use here, and nothing that it issues is believed: its basic constraints must be "
            "marked critical, and are not. Ask for a certificate of the same name and key without that fault"
        )
        assert page.count(words) == 2, "when it is added, and on the page from then on"

    def test_a_large_upload_is_refused_with_its_size(self, owner: Client) -> None:
        typed = {"name": "big", "revocation": "hard", "add_file": file(b"x" * 10_000_000)}
        answer = owner.post("/truststores/add/", typed)
        assert answer.status_code == 422
        assert "10,000,000 bytes" in text(answer)

    def test_one_is_removed_and_the_last_one_is_not(self, owner: Client) -> None:
        store = factories.TruststoreFactory(name="two", anchors=[authority("CN=One"), authority("CN=Two")])
        one, two = store.certificates.all()
        typed = {"name": "two", "revocation": "hard"}
        assert owner.post(f"/truststores/{store.pk}/", typed | {"remove": [one.pk]}).status_code == 302
        assert list(store.certificates.all()) == [two]
        answer = owner.post(f"/truststores/{store.pk}/", typed | {"remove": [two.pk]})
        assert answer.status_code == 422
        assert "Nothing would be left" in text(answer)
        assert list(store.certificates.all()) == [two]

    def test_an_authority_that_a_rule_means_stays(self, owner: Client) -> None:
        ca = authority("CN=Meant")
        store = factories.TruststoreFactory(name="two", anchors=[ca, authority("CN=Two")])
        factories.MappingRuleFactory(name="by-issuer", issuer="CN=Meant")
        meant = store.certificates.get(subject="CN=Meant")
        answer = owner.post(f"/truststores/{store.pk}/", {"name": "two", "revocation": "hard", "remove": [meant.pk]})
        assert answer.status_code == 422
        assert "by-issuer" in text(answer)

    def test_a_revocation_list_is_added_replaced_and_removed(self, owner: Client) -> None:
        ca = authority("CN=One")
        store = factories.TruststoreFactory(name="s", anchors=[ca])
        url, typed = f"/truststores/{store.pk}/", {"name": "s", "revocation": "hard"}
        assert owner.post(url, typed | {"add_crl_file": file(crl(ca, days=(-9, -2)))}).status_code == 302
        assert "has run out: their certificates are refused" in text(owner.get(url))
        assert owner.post(url, typed | {"add_crl_file": file(crl(ca))}).status_code == 302
        stored = store.crls.get()
        assert not stored.overdue
        assert owner.post(url, typed | {"remove_crls": [stored.pk]}).status_code == 302
        assert not store.crls.exists()

    def test_a_revocation_list_of_another_authority_is_refused(self, owner: Client) -> None:
        store = factories.TruststoreFactory(name="s", anchors=[authority("CN=One")])
        typed = {"name": "s", "revocation": "hard", "add_crl_file": file(crl(authority("CN=One")))}
        answer = owner.post(f"/truststores/{store.pk}/", typed)
        assert answer.status_code == 422
        assert "is not signed by it" in text(answer)

    def test_a_revocation_list_of_an_authority_that_callers_send_is_taken_and_told_of(self, owner: Client) -> None:
        root = authority("CN=One")
        below = authority("CN=Below", root)
        store = factories.TruststoreFactory(name="s", anchors=[root])
        url, typed = f"/truststores/{store.pk}/", {"name": "s", "revocation": "hard"}
        page = text(owner.post(url, typed | {"add_crl_file": file(crl(below))}, follow=True))
        assert "No authority here is CN=Below, which issued the revocation list" in page
        assert store.crls.get().of_other
        assert "for those of that name that callers send" in text(owner.get(url))
        other = authority("CN=Below", root)
        assert "is not signed by it" in text(owner.post(url, typed | {"add": other.pem}))
        assert owner.post(url, typed | {"add": below.pem, "add_crl_file": file(crl(below))}).status_code == 302
        assert not store.crls.get().of_other, "its authority is here now, and its list in the other's place"

    def test_an_authority_goes_with_its_revocation_list(self, owner: Client) -> None:
        ca = authority("CN=One")
        store = factories.TruststoreFactory(name="s", anchors=[ca, authority("CN=Two")])
        url, typed = f"/truststores/{store.pk}/", {"name": "s", "revocation": "hard"}
        owner.post(url, typed | {"add_crl_file": file(crl(ca))})
        one = store.certificates.get(subject="CN=One")
        assert "remove both" in text(owner.post(url, typed | {"remove": [one.pk]}))
        both = typed | {"remove": [one.pk], "remove_crls": [store.crls.get().pk]}
        assert owner.post(url, both).status_code == 302
        assert (store.certificates.count(), store.crls.count()) == (1, 0)

    def test_where_lists_are_fetched_from_is_typed_shown_and_taken_away(self, owner: Client) -> None:
        store = factories.TruststoreFactory(name="s", anchors=[authority("CN=One")])
        url, typed = f"/truststores/{store.pk}/", {"name": "s", "revocation": "hard", "max_intermediates": "3"}
        lines = "http://pki.example/a.crl\nhttps://pki.example/b.crl 6h"
        assert owner.post(url, typed | {"crl_sources": lines}).status_code == 302
        assert dict(store.crl_sources.values_list("url", "every")) == {
            "http://pki.example/a.crl": 3600,
            "https://pki.example/b.crl": 21_600,
        }
        store.refresh_from_db()
        assert store.max_intermediates == 3
        RevocationFetch.objects.create(source=store.crl_sources.first(), error="it answers 404 Not Found")
        page = text(owner.get(url))
        assert "https://pki.example/b.crl 6h" in page
        assert "no list yet" in page
        assert "it answers 404 Not Found" in page
        assert owner.post(url, typed | {"crl_sources": ""}).status_code == 302
        assert not store.crl_sources.exists()

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("ftp://pki.example/a.crl", "http or https URL"),
            ("http://user:secret@pki.example/a.crl", "with a password in it"),
            ("http://pki.example/a.crl 5 minutes", "write 30m, 6h or 1d"),
            ("http://pki.example/a.crl 90d", "every 1m to 30d"),
            ("http://pki.example/a.crl\nhttp://pki.example/a.crl 1d", "is there twice"),
        ],
    )
    def test_a_place_that_nothing_is_fetched_from(self, owner: Client, line: str, words: str) -> None:
        store = factories.TruststoreFactory(name="s", anchors=[authority("CN=One")])
        typed = {"name": "s", "revocation": "hard", "crl_sources": line}
        answer = owner.post(f"/truststores/{store.pk}/", typed)
        assert answer.status_code == 422
        assert words in text(answer)

    def test_an_authority_goes_with_the_place_of_its_list(self, owner: Client) -> None:
        ca, where = authority("CN=One"), "http://pki.example/a.crl"
        store = factories.TruststoreFactory(name="s", anchors=[ca, authority("CN=Two")])
        with change_set("tests", "a list"):
            source = RevocationSource(truststore=store, url=where)
            source.save()
            fetched = RevocationList(truststore=store, source=source, der=crl(ca))
            fetched.full_clean()
            fetched.save()
        typed = {"name": "s", "revocation": "hard", "remove": [store.certificates.get(subject="CN=One").pk]}
        assert "remove both" in text(owner.post(f"/truststores/{store.pk}/", typed | {"crl_sources": where}))
        assert owner.post(f"/truststores/{store.pk}/", typed).status_code == 302
        assert not store.crls.exists()


class TestKeystores:
    def test_certificate_and_key_come_together(self, owner: Client) -> None:
        pair = mint("CN=localhost", factories.server_ca(), purpose="server")
        typed = {"name": "k", "certificate": pair.pem, "private_key_file": file(pair.key_pem)}
        assert owner.post("/keystores/add/", typed).status_code == 302
        keystore = Keystore.objects.get(name="k")
        assert keystore.sha256 == pair.certificate.sha256
        page = text(owner.get(f"/keystores/{keystore.pk}/"))
        assert "CN=localhost" in page
        assert "PRIVATE KEY" not in page
        assert "PRIVATE KEY" not in str(Change.objects.get(kind="keystores", name="k").after)

    def test_an_encrypted_key_opens_with_its_pass_phrase(self, owner: Client) -> None:
        pair = mint("CN=localhost", factories.server_ca(), purpose="server")
        typed = {"name": "k", "certificate": pair.pem, "private_key": pair.key_pem_with("open sesame")}
        assert owner.post("/keystores/add/", typed | {"pass_phrase": "open sesame"}).status_code == 302

    @pytest.mark.parametrize(
        ("change", "field", "words"),
        [
            pytest.param(
                lambda p: {"private_key": mint("CN=x").key_pem}, "private_key", "does not belong to", id="another-key"
            ),
            pytest.param(
                lambda p: {"private_key": p.key_pem_with("right"), "pass_phrase": "wrong"},
                "private_key", "does not open this key", id="wrong-pass-phrase",
            ),
            pytest.param(
                lambda p: {"private_key": p.key_pem_with("right")}, "private_key", "give its pass phrase",
                id="no-pass-phrase",
            ),
            pytest.param(lambda p: {"private_key": "rubbish"}, "private_key", "not a private key", id="no-key"),
            pytest.param(lambda p: {"private_key": p.pem}, "private_key", "This is a certificate", id="swapped"),
            pytest.param(lambda p: {"certificate": p.key_pem}, "certificate", "holds a private key", id="key-as-cert"),
            pytest.param(lambda p: {"certificate": "rubbish"}, "certificate", "not a certificate", id="no-certificate"),
            pytest.param(lambda p: {"private_key": ""}, "private_key", "come together", id="certificate-alone"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(
        self, owner: Client, caplog: pytest.LogCaptureFixture, change: Any, field: str, words: str
    ) -> None:
        pair = mint("CN=localhost", factories.server_ca(), purpose="server")
        typed = {"name": "k", "certificate": pair.pem, "private_key": pair.key_pem} | change(pair)
        answer = owner.post("/keystores/add/", typed)
        assert answer.status_code == 422
        assert words in " ".join(answer.context["form"].errors[field])
        assert not Keystore.objects.exists()
        assert "PRIVATE KEY" not in caplog.text
        assert "BEGIN PRIVATE KEY" not in text(answer), "a key is not shown again, not even to who typed it"

    def test_a_new_description_keeps_the_key(self, owner: Client) -> None:
        keystore = factories.KeystoreFactory(name="k")
        before = keystore.open_private_key()
        assert owner.post(f"/keystores/{keystore.pk}/", {"name": "k", "description": "new"}).status_code == 302
        keystore.refresh_from_db()
        assert (keystore.description, keystore.open_private_key()) == ("new", before)


class TestRegistrations:
    @pytest.fixture
    def typed(self, db: None) -> dict[str, Any]:
        port = factories.RegistrationPortFactory(name="reg")
        node = factories.NodeFactory(name="inside", role="internal")
        return {"name": "r", "port": str(port.pk), "node": str(node.pk), "enabled": "on"}

    def test_the_certificate_is_pasted(self, owner: Client, typed: dict[str, Any]) -> None:
        node = mint("CN=inside", factories.server_ca())
        assert owner.post("/registrations/add/", typed | {"certificate": node.pem}).status_code == 302
        assert Registration.objects.get().sha256 == node.certificate.sha256

    def test_or_comes_in_a_pkcs12_file_whose_key_is_not_kept(self, owner: Client, typed: dict[str, Any]) -> None:
        node, sealed = mint("CN=inside", factories.server_ca()), serialization.BestAvailableEncryption(b"pw")
        data = pkcs12.serialize_key_and_certificates(b"a", node.key, node.x509, None, sealed)
        upload = {"certificate_file": file(data), "password": "pw"}
        assert "was not kept" in text(owner.post("/registrations/add/", typed | upload, follow=True))
        assert Registration.objects.get().sha256 == node.certificate.sha256

    def test_or_taken_from_a_keystore(self, owner: Client, typed: dict[str, Any]) -> None:
        keystore = factories.KeystoreFactory(minted=mint("CN=inside", factories.server_ca()))
        assert owner.post("/registrations/add/", typed | {"from_keystore": str(keystore.pk)}).status_code == 302
        assert Registration.objects.get().sha256 == keystore.sha256

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            pytest.param({}, "A certificate is needed", id="none"),
            pytest.param({"certificate": "rubbish"}, "not a certificate", id="rubbish"),
            pytest.param({"paths": "/a\nb"}, "Line 2: ", id="paths"),
        ],
    )
    def test_it_is_refused_without_a_certificate(
        self, owner: Client, typed: dict[str, Any], more: dict[str, str], words: str
    ) -> None:
        answer = owner.post("/registrations/add/", typed | more)
        assert answer.status_code == 422
        assert words in text(answer)

    def test_a_next_certificate_is_admitted_besides_until_it_is_taken_away_or_takes_over(
        self, owner: Client, typed: dict[str, Any]
    ) -> None:
        present, upcoming = (mint("CN=inside", factories.server_ca()) for _ in range(2))
        owner.post("/registrations/add/", typed | {"certificate": present.pem})
        url = f"/registrations/{Registration.objects.get().pk}/"

        def saved(**more: str) -> tuple[str, ...]:
            assert owner.post(url, typed | more).status_code == 302
            return Registration.objects.get().admitted

        both = (present.certificate.sha256, upcoming.certificate.sha256)
        assert saved(next_certificate=upcoming.pem) == both
        assert "Its next certificate, admitted too" in text(owner.get(url))
        assert saved() == both, "what is not given again stays"
        assert saved(drop_next="on") == both[:1]
        assert saved(next_certificate=upcoming.pem) == both
        assert saved(certificate=upcoming.pem) == both[1:], "made the present one, it is the next one no longer"
        answer = owner.post(url, typed | {"next_certificate": upcoming.pem})
        assert answer.status_code == 422
        assert "This is the present certificate" in text(answer)

    def test_an_unlimited_channel_is_warned_of(self, owner: Client) -> None:
        registration = factories.RegistrationFactory(name="r")
        page = text(owner.get(f"/registrations/{registration.pk}/"))
        assert "This channel may speak for every certificate" in page
        typed = {"name": "r", "port": str(registration.port_id), "node": str(registration.node_id), "enabled": "on",
                 "limits_assertions": "on"}  # fmt: skip
        assert owner.post(f"/registrations/{registration.pk}/", typed).status_code == 302
        assert "This channel may speak" not in text(owner.get(f"/registrations/{registration.pk}/"))
