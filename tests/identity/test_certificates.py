"""Reading files that people upload: what is taken, and the word on what is not."""

import contextlib

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from identity.core import certificates
from identity.core.certificates import CertificateError
from tests.factories import partner_ca
from tests.minting import authority, mint

ALICE = mint("CN=alice,O=Partner One", partner_ca(), san=["dns:Alice.partner.example", "email:a@b.example"])


def test_pem_and_der_are_the_same() -> None:
    assert certificates.from_file(ALICE.pem.encode()) == certificates.from_file(ALICE.der) == (ALICE.certificate,)


def test_what_is_read() -> None:
    certificate = ALICE.certificate
    assert (
        certificate.subject.text == "CN=alice, O=Partner One" or certificate.subject.text == "O=Partner One, CN=alice"
    )
    assert certificate.alternative_names == ("dns:alice.partner.example", "email:a@b.example")
    assert certificate.purposes == ("client authentication",)
    assert certificate.key == "EC P-256"
    assert not certificate.is_authority


def test_a_chain_is_read_leaf_first() -> None:
    sub = authority("CN=Sub", partner_ca())
    leaf = mint("CN=leaf", sub)
    assert certificates.one_from_file(leaf.chain_pem.encode()) == leaf.certificate
    with pytest.raises(CertificateError, match="no chain"):
        certificates.one_from_file((ALICE.pem + leaf.pem).encode())


def test_what_openssl_prints_before_a_certificate_is_let_pass() -> None:
    assert certificates.from_file(b"subject=CN = alice\n\n" + ALICE.pem.encode()) == (ALICE.certificate,)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello", "neither PEM", id="text"),
        pytest.param(b"\x00\x01\x02", "neither PEM", id="bytes"),
        pytest.param(b"x" * (certificates.MAX_FILE + 1), "at most", id="too-large"),
        pytest.param(ALICE.pem.encode() + b"more", "follows the last certificate", id="trailing-text"),
        pytest.param(ALICE.der + b"\x00", "1 bytes follow", id="trailing-byte"),
        pytest.param(ALICE.key_pem.encode(), "private key", id="a-private-key"),
        pytest.param((ALICE.pem + ALICE.key_pem).encode(), "private key", id="certificate-and-key"),
        pytest.param(ALICE.pem.replace("END", "ENDE").encode(), "damaged", id="end-line-damaged"),
        pytest.param(ALICE.pem.replace("MII", "!!!").encode(), "damaged", id="not-base64"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged", id="no-DER"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "PUBLIC KEY", id="another-block"),
        pytest.param(b"\xfe\xed\xfe\xed rest", "keytool", id="java-keystore"),
        pytest.param(b"PK\x03\x04zip", "neither PEM", id="zip"),
    ],
)
def test_what_is_no_certificate_is_said_in_words(data: bytes, words: str) -> None:
    with pytest.raises(CertificateError, match=words) as caught:
        certificates.from_file(data)
    assert "PRIVATE KEY-----" not in str(caught.value)


@given(st.binary(max_size=2000) | st.binary(max_size=50).map(lambda tail: ALICE.der[:-30] + tail))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    with contextlib.suppress(CertificateError):
        certificates.from_file(data)


def test_keys_and_their_pass_phrases() -> None:
    encrypted = ALICE.key_pem_with("open sesame").encode()
    key = certificates.key_from_file(encrypted, "open sesame")
    assert certificates.key_matches(key, ALICE.certificate)
    assert not certificates.key_matches(key, partner_ca().certificate)
    der = ALICE.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert certificates.key_matches(certificates.key_from_file(der), ALICE.certificate)
    for data, phrase, words in (
        (encrypted, "wrong", "does not open"),
        (encrypted, None, "give its pass phrase"),
        (ALICE.key_pem.encode(), "needless", "leave the pass phrase empty"),
        (ALICE.pem.encode(), None, "This is a certificate"),
        (b"nonsense", None, "not a private key"),
    ):
        with pytest.raises(CertificateError, match=words):
            certificates.key_from_file(data, phrase)
