"""Reading files that people upload: what is taken, and the word on what is not."""

import contextlib
import random
import resource
import subprocess
import sys
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs7, pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity.core import certificates, confined, files
from identity.core.certificates import CertificateError
from identity.core.files import FieldError
from tests import der
from tests.minting import Minted, authority, crl, crl_pem, mint

CA = authority("CN=Partner CA,O=Acme")
ALICE = mint("CN=alice,O=Partner One", CA, san=["dns:Alice.partner.example", "email:a@b.example"])
BETWEEN = authority("CN=Issuing CA,O=Acme", CA)
LEAF = mint("CN=leaf", BETWEEN)
CHAIN = (LEAF.certificate, BETWEEN.certificate, CA.certificate)
FOREVER = 2**31 - 1  # rounds of key derivation: two minutes
DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
LEGACY = (
    PrivateFormat.PKCS12.encryption_builder()
    .kdf_rounds(2048)
    .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
    .hmac_hash(hashes.SHA1())
)


def p12(minted: Minted, *issuers: Minted, password: str = "pw", key: bool = True, algorithm: Any = None) -> bytes:
    build = algorithm.build if algorithm else serialization.BestAvailableEncryption
    sealed = build(password.encode()) if password else serialization.NoEncryption()
    above = [each.x509 for each in issuers]
    if key:
        return pkcs12.serialize_key_and_certificates(b"alias", minted.key, minted.x509, above, sealed)
    return pkcs12.serialize_key_and_certificates(None, None, None, [minted.x509, *above], sealed)


def p7(*minted: Minted, pem: bool = False) -> bytes:
    return pkcs7.serialize_certificates([each.x509 for each in minted], serialization.Encoding.PEM if pem else DER)


def request_of(minted: Minted) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(minted.x509.subject).sign(minted.key, hashes.SHA256())


class TestCertificates:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(ALICE.pem.encode(), id="PEM"),
            pytest.param(ALICE.pem.replace("\n", "\r\n").encode(), id="PEM-of-Windows"),
            pytest.param(b"\xef\xbb\xbf" + ALICE.pem.encode(), id="PEM-with-byte-order-mark"),
            pytest.param(b"subject=CN = alice\n\n" + ALICE.pem.encode(), id="PEM-with-what-openssl-prints"),
            pytest.param(ALICE.pem.replace("CERTIFICATE-", "X509 CERTIFICATE-").encode(), id="PEM-of-old-openssl"),
            pytest.param(ALICE.der, id="DER"),
            pytest.param(p7(ALICE), id="PKCS#7"),
            pytest.param(p7(ALICE, pem=True), id="PKCS#7-in-PEM"),
            pytest.param(p7(ALICE, pem=True).replace(b"PKCS7", b"CERTIFICATE"), id="PKCS#7-as-Windows-labels-it"),
            pytest.param(p12(ALICE), id="PKCS#12"),
            pytest.param(p12(ALICE, algorithm=LEGACY), id="PKCS#12-of-old-programs"),
            pytest.param(p12(ALICE, key=False), id="PKCS#12-without-a-key"),
        ],
    )
    def test_are_read_from_every_kind_of_file(self, data: bytes) -> None:
        assert files.certificates_from(data, "pw") == (ALICE.certificate,)

    def test_a_file_without_a_password_is_read_without_one(self) -> None:
        assert files.certificates_from(p12(ALICE, password="")) == (ALICE.certificate,)

    def test_of_a_pkcs12_file_the_key_is_not_kept_where_none_belongs_and_that_is_told(self) -> None:
        found = files.read(p12(ALICE), "pw")
        assert (found.key, found.left_out) == (None, True)
        assert not files.read(p12(ALICE, key=False), "pw").left_out

    def test_many_come_in_the_order_of_the_file(self) -> None:
        pem = (BETWEEN.pem + ALICE.pem + LEAF.pem).encode()
        assert files.certificates_from(pem) == (BETWEEN.certificate, ALICE.certificate, LEAF.certificate)
        assert set(files.certificates_from(p7(BETWEEN, ALICE, LEAF))) == set(files.certificates_from(pem))


class TestChains:
    @given(st.permutations([LEAF, BETWEEN, CA]))
    def test_come_leaf_first_whatever_the_order_in_the_file(self, given_in: list[Minted]) -> None:
        assert files.chain_from("".join(each.pem for each in given_in).encode()) == CHAIN

    def test_of_pkcs7_and_pkcs12_too(self) -> None:
        assert files.chain_from(p7(CA, BETWEEN, LEAF)) == CHAIN
        assert files.chain_from(p12(LEAF, CA, BETWEEN), "pw") == CHAIN

    def test_one_that_is_in_the_file_twice_counts_once(self) -> None:
        assert files.chain_from((LEAF.pem + LEAF.pem + BETWEEN.pem).encode()) == CHAIN[:2]

    @pytest.mark.parametrize(
        "given_in",
        [
            pytest.param([ALICE, LEAF], id="unrelated"),
            pytest.param([ALICE, LEAF, BETWEEN, CA], id="two-leaves"),
            pytest.param([LEAF, CA], id="one-is-missing-between"),
            pytest.param([LEAF, authority("CN=Issuing CA,O=Acme")], id="a-namesake-of-the-issuer"),
        ],
    )
    def test_that_are_none_are_refused(self, given_in: list[Minted]) -> None:
        with pytest.raises(CertificateError, match=f"{len(given_in)} certificates that are no chain"):
            files.chain_from("".join(each.pem for each in given_in).encode())

    def test_that_are_too_long_are_refused(self) -> None:
        link, links = CA, [CA]
        for number in range(files.MAX_CHAIN):
            links.append(link := authority(f"CN=CA {number}", link))
        with pytest.raises(CertificateError, match="a chain of at most 10"):
            files.chain_from("".join(each.pem for each in links).encode())


def pair_from(certificate: bytes | None, key: bytes | None, password: str | None = None) -> Any:
    """As a form reads what was sent in its two fields; the same file in both is sent once."""
    sent = [("certificate", certificate), ("private_key", key if key != certificate else None)]
    return files.pair_of([(name, files.read_part(name, data, password)) for name, data in sent if data is not None])


class TestPairs:
    @pytest.mark.parametrize(
        ("certificate", "key"),
        [
            pytest.param(LEAF.chain_pem.encode(), LEAF.key_pem.encode(), id="two-files"),
            pytest.param((LEAF.key_pem + BETWEEN.pem + LEAF.pem).encode(), None, id="one-PEM-as-certificate"),
            pytest.param(None, (LEAF.pem + BETWEEN.pem + LEAF.key_pem).encode(), id="one-PEM-as-key"),
            pytest.param(p12(LEAF, BETWEEN), None, id="PKCS#12-as-certificate"),
            pytest.param(None, p12(LEAF, BETWEEN), id="PKCS#12-as-key"),
            pytest.param(p12(LEAF, BETWEEN, algorithm=LEGACY), None, id="PKCS#12-of-old-programs"),
            pytest.param(p7(BETWEEN, LEAF), LEAF.key_pem_with("pw").encode(), id="PKCS#7-and-an-encrypted-key"),
        ],
    )
    def test_are_read_from_one_file_or_two(self, certificate: bytes | None, key: bytes | None) -> None:
        password = None if b"-----BEGIN PRIVATE KEY" in (certificate or b"") + (key or b"") else "pw"
        chain, found = pair_from(certificate, key, password)
        assert chain == CHAIN[:2]
        assert certificates.key_matches(found, LEAF.certificate)

    def test_the_same_file_in_both_places_is_one(self) -> None:
        both = p12(LEAF, BETWEEN)
        assert pair_from(both, both, "pw")[0] == CHAIN[:2]

    @pytest.mark.parametrize(
        ("certificate", "key", "field", "words"),
        [
            pytest.param(LEAF.pem.encode(), None, "private_key", "come together", id="no-key"),
            pytest.param(None, LEAF.key_pem_with("pw").encode(), "certificate", "come together", id="no-certificate"),
            pytest.param(p12(LEAF), LEAF.key_pem.encode(), "private_key", "pass phrase empty", id="needless-phrase"),
            pytest.param(p12(LEAF), LEAF.key_pem_with("pw").encode(), "private_key", "in both files", id="two-keys"),
            pytest.param(LEAF.key_pem_with("pw").encode(), None, "certificate", "no certificate", id="a-key-alone"),
            pytest.param((LEAF.pem + ALICE.pem).encode(), p12(LEAF), "certificate", "no chain", id="no-chain"),
        ],
    )
    def test_what_is_missing_or_too_much_is_said_at_its_field(
        self, certificate: bytes | None, key: bytes | None, field: str, words: str
    ) -> None:
        with pytest.raises(FieldError, match=words) as caught:
            pair_from(certificate, key, "pw")
        assert caught.value.field == field


class TestKeys:
    def test_and_their_pass_phrases(self) -> None:
        encrypted = ALICE.key_pem_with("open sesame").encode()
        key = files.key_from(encrypted, "open sesame")
        assert certificates.key_matches(key, ALICE.certificate)
        assert not certificates.key_matches(key, CA.certificate)

    @pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
    @pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
    @pytest.mark.parametrize("phrase", ["", "pw"])
    def test_of_every_kind_in_every_form(self, kind: str, form: PrivateFormat, phrase: str) -> None:
        if kind == "ed25519" and form is PrivateFormat.TraditionalOpenSSL:
            form = PrivateFormat.PKCS8  # it has no other
        minted = mint("CN=x", key=kind)
        sealed = serialization.BestAvailableEncryption(phrase.encode()) if phrase else serialization.NoEncryption()
        pem = minted.key.private_bytes(serialization.Encoding.PEM, form, sealed)
        assert certificates.key_matches(files.key_from(pem, phrase), minted.certificate)
        if form is PrivateFormat.PKCS8 or not phrase:
            binary = minted.key.private_bytes(DER, form, sealed)
            assert certificates.key_matches(files.key_from(binary, phrase), minted.certificate)

    @pytest.mark.parametrize(
        ("data", "phrase", "words"),
        [
            pytest.param(ALICE.key_pem_with("right").encode(), "wrong", "does not open", id="wrong-phrase"),
            pytest.param(ALICE.key_pem_with("right").encode(), None, "give its pass phrase", id="no-phrase"),
            pytest.param(ALICE.key_pem.encode(), "needless", "leave the pass phrase empty", id="needless-phrase"),
            pytest.param(ALICE.pem.encode(), None, "This is a certificate", id="a-certificate"),
            pytest.param(b"nonsense", None, "not a private key", id="nonsense"),
            pytest.param(b"", None, "not a private key", id="nothing"),
            pytest.param(ALICE.key_pem.replace("\nM", "\n!").encode(), None, "not a private key", id="damaged"),
            pytest.param((ALICE.key_pem + LEAF.key_pem).encode(), None, "several private keys", id="two-keys"),
            pytest.param(p12(ALICE, key=False), "pw", "has no private key", id="PKCS#12-without-one"),
            pytest.param(p12(ALICE), "wrong", "does not open", id="PKCS#12-and-wrong-password"),
            pytest.param(b"\xfe\xed\xfe\xed rest", None, "keytool", id="Java-keystore"),
            pytest.param(b"x" * (files.MAX_FILE + 1), None, "at most", id="too-large"),
        ],
    )
    def test_what_is_none_is_said_in_words(self, data: bytes, phrase: str | None, words: str) -> None:
        with pytest.raises(CertificateError, match=words):
            files.key_from(data, phrase)

    def test_one_that_tls_cannot_use_is_refused(self) -> None:
        key = dsa.generate_private_key(1024)
        pem = key.private_bytes(serialization.Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
        with pytest.raises(CertificateError, match="TLS cannot use this kind"):
            files.key_from(pem)

    def test_one_whose_numbers_do_not_fit_is_refused(self) -> None:
        """It is tried, for to prove that its numbers are primes takes seconds."""
        numbers = mint("CN=x", key="rsa").key.private_numbers()
        wrong = der.seq(
            *(der.number(n) for n in (0, numbers.public_numbers.n, 65537, numbers.d + 2, numbers.p, numbers.q,
                                      numbers.dmp1 + 2, numbers.dmq1, numbers.iqmp))
        )  # fmt: skip
        with pytest.raises(CertificateError, match="not a private key"):
            files.key_from(wrong)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"hello", "neither PEM", id="text"),
        pytest.param(b"\x00\x01\x02", "neither PEM", id="bytes"),
        pytest.param(b"x" * (files.MAX_FILE + 1), "at most", id="too-large"),
        pytest.param(ALICE.pem.encode("utf-16"), "UTF-16", id="utf-16"),
        pytest.param(ALICE.pem.encode() + b"more", "follows the last certificate", id="trailing-text"),
        pytest.param(ALICE.der + b"\x00", "1 bytes follow", id="trailing-byte"),
        pytest.param(p7(ALICE) + b"\x00", "follow", id="trailing-byte-after-PKCS#7"),
        pytest.param(ALICE.der[:-1], "ends in the middle", id="cut-short"),
        pytest.param(p7(ALICE)[:-1], "ends in the middle", id="PKCS#7-cut-short"),
        pytest.param(ALICE.key_pem.encode(), "private key", id="a-private-key"),
        pytest.param((ALICE.pem + ALICE.key_pem).encode(), "private key", id="certificate-and-key"),
        pytest.param(ALICE.pem.replace("END", "ENDE").encode(), "damaged", id="end-line-damaged"),
        pytest.param(ALICE.pem.replace("MII", "!!!").encode(), "damaged", id="not-base64"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged", id="no-DER"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "PUBLIC KEY", id="another-block"),
        pytest.param(b"\xff" + ALICE.pem.encode(), "bytes around its PEM blocks", id="bytes-before"),
        pytest.param(request_of(ALICE).public_bytes(PEM), "asks for a certificate", id="request"),
        pytest.param(request_of(ALICE).public_bytes(DER), "asks for a certificate", id="request-in-DER"),
        pytest.param(crl_pem(CA), "belongs into a truststore", id="revocation-list"),
        pytest.param(crl(CA), "belongs into a truststore", id="revocation-list-in-DER"),
        pytest.param(
            ALICE.key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            "A public key alone names nobody", id="public-key-in-DER",
        ),
        pytest.param(b"\xfe\xed\xfe\xed rest", r"\(JKS\).* keytool -importkeystore -srckeystore FILE -dest", id="JKS"),
        pytest.param(b"\xce\xce\xce\xce rest", r"\(JCEKS\).* keytool .*-srcstoretype JCEKS", id="JCEKS"),
        pytest.param(b"PK\x03\x04zip", "neither PEM", id="zip"),
        pytest.param(p12(ALICE), "password does not open", id="PKCS#12-and-wrong-password"),
        pytest.param(p12(ALICE)[:-40], "cannot be read", id="PKCS#12-cut-short"),
        pytest.param(der.pfx(), "no certificate in it", id="PKCS#12-of-nothing"),
        pytest.param(der.seq(der.oid(der.SIGNED_DATA), der.tagged(der.seq(der.number(1)))), "no certificate in it",
                     id="PKCS#7-of-nothing"),
        pytest.param(der.seq(der.oid("2a864886f70d010703"), der.tagged(der.seq())), "is encrypted",
                     id="PKCS#7-encrypted"),
    ],
)  # fmt: skip
def test_what_is_no_certificate_is_said_in_words(data: bytes, words: str) -> None:
    with pytest.raises(CertificateError, match=words) as caught:
        files.certificates_from(data, "wrong")
    assert "PRIVATE KEY-----" not in str(caught.value)


def test_a_password_that_is_missing_is_asked_for() -> None:
    with pytest.raises(CertificateError, match="its password is needed"):
        files.certificates_from(p12(ALICE))


# Opens no file: says what it may compute when its libraries took so long to load.
SLOW_MACHINE = """
import time
time.process_time = lambda: 5.2
from identity.core import opener
opener.confine()
import resource
print(*resource.getrlimit(resource.RLIMIT_CPU))
"""


def test_what_loading_the_libraries_took_is_no_fault_of_the_file() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW_MACHINE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["8", "8"]


# --- files that mean harm ---

COSTLY = der.pbes2(FOREVER, b"saltsalt", bytes(16))
SHA1_OF_NOTHING = der.seq(der.seq(der.oid("2b0e03021a"), der.value(5)), der.octets(bytes(20)))
HOSTILE = {
    "rounds-for-a-key": (der.pfx(der.plain_safe(der.shrouded_key(COSTLY))), "2,147,483,647 rounds"),
    "rounds-for-the-MAC": (
        der.pfx(mac=der.seq(SHA1_OF_NOTHING, der.octets(b"saltsalt"), der.number(FOREVER))),
        "2,147,483,647 rounds",
    ),
    "rounds-in-many-places": (
        der.pfx(*[der.plain_safe(der.shrouded_key(der.pbes2(500_000, b"s", bytes(16))))] * 5),
        "2,500,000 rounds",
    ),
    "memory-for-a-key": (der.pfx(der.plain_safe(der.shrouded_key(der.scrypt(2**20, 8, 1)))), "rounds"),
    "rounds-inside-what-is-encrypted": (
        der.pfx(der.encrypted_safe("pw", der.shrouded_key(COSTLY))),
        "more than a second of computing",
    ),
    "no-rounds": (der.pfx(der.plain_safe(der.shrouded_key(der.pbes2(0, b"s", bytes(16))))), "cannot be read"),
    "deep": (der.pfx(*[b"\x30\x80" * 100_000]), "cannot be read"),
    "many-values": (
        der.seq(der.oid(der.SIGNED_DATA), der.tagged(der.seq(der.tagged(b"\x05\x00" * 100_000)))),
        "cannot be read",
    ),
    "many-certificates": (
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" * 15_000,
        "15,000 certificates; at most 1,000",
    ),
    "blanks-without-end": (b"-----BEGIN CERTIFICATE-----" + b" " * 1_000_000, "damaged"),
    "beginnings-without-end": (b"-----BEGIN A-----" * 60_000, "damaged"),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_before_it_costs_anything(data: bytes, words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CertificateError, match=words):
        files.read(data, "pw", keys=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024, "kilobytes"


def test_a_key_that_costs_too_much_to_open_is_refused() -> None:
    with pytest.raises(CertificateError, match="2,147,483,647 rounds"):
        files.key_from(der.seq(COSTLY, der.octets(bytes(64))), "pw")


def test_what_programs_write_is_not_too_much() -> None:
    assert confined.MAX_ROUNDS >= 3 * 600_000, "a MAC, certificates and a key, each with what OWASP asks for"
    data = p12(ALICE, algorithm=PrivateFormat.PKCS12.encryption_builder().kdf_rounds(300_000))
    assert files.certificates_from(data, "pw") == (ALICE.certificate,)


# --- any bytes at all ---

REAL = [
    ALICE.pem.encode(), ALICE.der, LEAF.chain_pem.encode(), p7(LEAF, BETWEEN), p7(LEAF, pem=True),
    p12(LEAF, BETWEEN), p12(ALICE, password=""), (LEAF.pem + LEAF.key_pem).encode(), LEAF.key_pem.encode(),
    LEAF.key_pem_with("pw").encode(), crl(CA), request_of(ALICE).public_bytes(DER),
    *(data for name, (data, _) in HOSTILE.items() if len(data) < 10_000 and "inside" not in name),
]  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """The file with a few bytes changed, taken out, put in or said twice."""
    chance, changed = random.Random(seed), bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(changed) + 1), chance.choice([1, 1, 2, 4, 16, 200])
        match chance.randrange(4):
            case 0:
                changed[at : at + size] = chance.randbytes(size)
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = chance.randbytes(size)
            case _:
                changed[at:at] = changed[at : at + size]
    return bytes(changed)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2000) | st.builds(mutated, st.sampled_from(REAL), st.integers(0, 2**32)))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    for reading in (files.read, files.key_from):
        with contextlib.suppress(CertificateError):
            reading(data, "pw")
