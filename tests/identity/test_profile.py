"""What one certificate must be by itself, wherever it stands in a path."""

import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from identity.core import chains, der
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.core.reasons import IdentityReason
from tests.identity.forging import NOW, forge, name, operated, tlv, usage, with_sha1
from tests.minting import Minted

ROOT = forge("Root", authority=True)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
ANY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
DNS = x509.SubjectAlternativeName([x509.DNSName("a.example")])
KEY_ID = x509.SubjectKeyIdentifier(b"12345678")
NETSCAPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")


def sha1(minted: Minted, issuer: Minted) -> Minted:
    """The same, signed with SHA-1."""
    return Minted(x509.load_der_x509_certificate(with_sha1(minted.der, issuer)), minted.key, minted.above)


def words(leaf: Minted | Certificate, *above: Minted, anchor: Minted = ROOT) -> str:
    """Why the certificate is refused; "" where it is not."""
    certificate = leaf.certificate if isinstance(leaf, Minted) else leaf
    store = chains.Truststore("store", (anchor.certificate,))
    verdict = chains.judge(certificate, tuple(each.certificate for each in above), store, time.time())
    assert verdict.reason in (None, IdentityReason.CERTIFICATE_UNTRUSTED)
    return verdict.words if verdict.reason else ""


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(forge("old", ROOT), id="nothing-but-a-common-name"),
        pytest.param(forge("old", ROOT, key="rsa"), id="rsa-2048"),
        pytest.param(forge("x", ROOT, key="ed448"), id="ed448"),
        pytest.param(forge("x", ROOT, key="brainpool"), id="brainpool"),
        pytest.param(forge("x", ROOT, extensions=[(usage(digital_signature=True), True)]), id="digital-signature"),
        pytest.param(forge("x", ROOT, extensions=[(CLIENT, True)]), id="critical-purposes"),
        pytest.param(forge("x", ROOT, extensions=[(ANY, False)]), id="any-purpose"),
        pytest.param(forge(x509.Name([]), ROOT, extensions=[(DNS, True)]), id="empty-subject-critical-san"),
        pytest.param(forge("x", ROOT, extensions=[(UNKNOWN, False)]), id="unknown-extension"),
        pytest.param(forge("x", ROOT, serial=1 << 158), id="serial-of-20-octets"),
        pytest.param(forge("x", ROOT, days=(-1, 365 * 60)), id="beyond-2050"),
    ],
)
def test_what_passes(leaf: Minted) -> None:
    assert words(leaf) == ""


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        pytest.param(forge("x", ROOT, key="rsa1024"), "RSA below 2048 is refused", id="rsa-1024"),
        pytest.param(forge("x", ROOT, key="rsa2047"), "RSA below 2048 is refused", id="rsa-2047"),
        pytest.param(forge("x", ROOT, key="p192"), "curves below 256 bits are refused", id="p-192"),
        pytest.param(forge("x", ROOT, key="dsa"), "a kind that is not accepted", id="dsa"),
        pytest.param(sha1(forge("x", ROOT), ROOT), "signed with SHA-1; SHA-1 is refused", id="sha-1"),
        pytest.param(forge("x", ROOT, hash_=hashes.SHA224()), "SHA224 is refused", id="sha-224"),
        pytest.param(forge("x", ROOT, extensions=[(UNKNOWN, True)]), "not understood here: 1.2.3.4", id="unknown"),
        pytest.param(forge("x", ROOT, extensions=[(KEY_ID, True)]), "subject key identifier is marked critical",
                     id="critical-key-identifier"),
        pytest.param(forge("x", ROOT, extensions=[(usage(key_encipherment=True), True)]), "digital signature",
                     id="key-usage-of-none-who-signs"),
        pytest.param(forge("x", ROOT, extensions=[(usage(digital_signature=True, key_cert_sign=True), True)]),
                     "signs certificates, and it is no authority", id="leaf-with-cert-sign"),
        pytest.param(forge("x", ROOT, extensions=[(SERVER, False)]), "for server authentication", id="server"),
        pytest.param(forge("x", ROOT, extensions=[(x509.NameConstraints([x509.DNSName("a")], None), True)]),
                     "an authority alone may have", id="leaf-with-name-constraints"),
        pytest.param(forge(x509.Name([]), ROOT), "neither a subject nor", id="nobody"),
        pytest.param(forge(x509.Name([]), ROOT, extensions=[(DNS, False)]), "not critical", id="empty-subject"),
        pytest.param(forge("x", ROOT, extensions=[(x509.UnrecognizedExtension(NETSCAPE, b"\x03\x02\x06\x40"), False)]),
                     "does not name SSL client", id="netscape-server"),
        pytest.param(forge("x", ROOT, basic=(x509.BasicConstraints(True, None), True)), "an authority is no client",
                     id="authority"),
    ],
)  # fmt: skip
def test_what_a_client_may_not_be(leaf: Minted, why: str) -> None:
    assert why in words(leaf)


POLICY_CONSTRAINTS = x509.PolicyConstraints(None, 1)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param({"key": "rsa1024"}, "RSA below 2048 is refused", id="rsa-1024"),
        pytest.param({"basic": (x509.BasicConstraints(False, None), True)}, "it is no authority", id="no-authority"),
        pytest.param({"basic": (x509.BasicConstraints(True, None), False)}, "basic constraints must be marked critical",
                     id="basic-constraints-not-critical"),
        pytest.param({"extensions": [(usage(digital_signature=True, crl_sign=True), True)]},
                     "does not let it sign certificates", id="key-usage"),
        pytest.param({"extensions": [(UNKNOWN, True)]}, "not understood here", id="unknown-critical"),
        pytest.param({"extensions": [(SERVER, False)]}, "for server authentication", id="purposes"),
        pytest.param({"extensions": [(x509.NameConstraints([x509.DNSName("a")], None), False)]},
                     "name constraints must be marked critical, and are not", id="name-constraints-not-critical"),
        pytest.param({"extensions": [(POLICY_CONSTRAINTS, False)]},
                     "policy constraints must be marked critical", id="policy-constraints-not-critical"),
        pytest.param({"extensions": [(x509.InhibitAnyPolicy(0), False)]},
                     "inhibit any policy must be marked critical, and is not", id="inhibit-any-not-critical"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["intermediate", "anchor"])
def test_what_an_authority_may_not_be(made: dict[str, Any], why: str, place: str) -> None:
    authority = {"basic": (x509.BasicConstraints(True, None), True)} | made
    if place == "intermediate":
        middle = forge("Sub", ROOT, **authority)
        assert why in words(forge("x", middle), middle)
    else:
        anchor = forge("Other Root", **authority)
        assert why in words(forge("x", anchor), anchor=anchor)


def test_an_authority_may_say_for_what_it_issues() -> None:
    middle = forge("Sub", ROOT, authority=True, extensions=[(CLIENT, False)])
    assert words(forge("x", middle), middle) == ""


def test_an_anchor_is_believed_for_its_key_and_not_for_its_signature() -> None:
    old = forge("Old Root", authority=True)
    anchor = sha1(old, old)
    assert words(forge("x", anchor), anchor=anchor) == ""
    middle = sha1(forge("Sub", anchor, authority=True), anchor)
    assert "SHA-1 is refused" in words(forge("x", middle), middle, anchor=anchor)


def test_an_anchor_without_a_name() -> None:
    nobody = forge(x509.Name([]), authority=True)
    assert "its issuer has no name" in words(forge("x", nobody), anchor=nobody)


# --- shapes that no library writes: the certificate is taken apart and signed again ---


def changed(number: int, value: bytes) -> Certificate:
    """A client's certificate of which one part is `value`: 1 serial, 2 algorithm, 4 validity, 6 key."""
    return from_der(operated(forge("x", ROOT), ROOT, lambda parts: [*parts[:number], value, *parts[number + 1 :]]))


def test_version_1_of_old_tools_passes_and_version_2_cannot_be_read() -> None:
    assert words(from_der(operated(forge("x", ROOT), ROOT, lambda parts: parts[1:7]))) == ""
    with pytest.raises(CertificateError):
        changed(0, bytes.fromhex("a003020101"))


def test_version_1_with_extensions() -> None:
    assert "version 1 and has extensions" in words(
        from_der(operated(forge("x", ROOT, extensions=[(CLIENT, False)]), ROOT, lambda parts: parts[1:]))
    )


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize(("serial", "why"), [("020100", "is zero"), ("0201ff", "is negative")])
def test_a_serial_number_that_is_none(serial: str, why: str) -> None:
    assert why in words(changed(1, bytes.fromhex(serial)))


def test_a_serial_number_of_21_octets() -> None:
    assert "more than 20 octets" in words(changed(1, tlv(0x02, b"\x01" + bytes(20))))


def test_two_signature_algorithms() -> None:
    rsa_sha256 = bytes.fromhex("300d06092a864886f70d01010b0500")
    assert "two different signature algorithms" in words(changed(2, rsa_sha256))


def test_a_moment_has_one_encoding() -> None:
    long = NOW.strftime("%Y%m%d000000Z").encode()
    ends = tlv(der.UTC_TIME, b"490101000000Z")
    validity = tlv(der.SEQUENCE, tlv(der.GENERALIZED_TIME, long) + ends)
    assert "not encoded as RFC 5280 wants" in words(changed(4, validity))


def test_a_curve_that_is_given_by_its_parameters() -> None:
    """CVE-2020-0601: a generator of the attacker's own choice."""
    key = forge("x", ROOT).key.public_key().public_numbers()
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def integer(value: int) -> bytes:
        return tlv(0x02, value.to_bytes((value.bit_length() + 8) // 8))

    field = tlv(0x30, bytes.fromhex("06072a8648ce3d0101") + integer(prime))
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    curve = tlv(0x30, tlv(0x04, (prime - 3).to_bytes(32)) + tlv(0x04, b.to_bytes(32)))
    point = b"\x04" + key.x.to_bytes(32) + key.y.to_bytes(32)
    base = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    parameters = tlv(0x30, integer(1) + field + curve + tlv(0x04, base) + integer(order) + integer(1))
    algorithm = tlv(0x30, bytes.fromhex("06072a8648ce3d0201") + parameters)
    assert "does not name its curve" in words(changed(6, tlv(0x30, algorithm + tlv(0x03, b"\x00" + point))))


def test_signatures_in_pss_are_read() -> None:
    root = forge("RSA Root", authority=True, key="rsa")
    assert isinstance(root.key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    leaf = forge("x", root)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name("x"))
        .issuer_name(root.x509.subject)
        .public_key(leaf.key.public_key())
        .serial_number(5)
        .not_valid_before(leaf.x509.not_valid_before_utc)
        .not_valid_after(leaf.x509.not_valid_after_utc)
        .sign(root.key, hashes.SHA256(), rsa_padding=pss)
    )
    assert words(Minted(signed, leaf.key), anchor=root) == ""
