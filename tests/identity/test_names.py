"""Distinguished names: what is the same name, and what only looks like it."""

import time
import unicodedata

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import assume, given
from hypothesis import strategies as st

from identity.core import chains, mapping
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.core.names import DistinguishedName, folded, from_text, from_x509, san_matches
from tests.identity.forging import _ASN1Type, forge, name, operated, tlv
from tests.identity.test_mapping import USERS

ROOT = forge("Root", authority=True)
TEXT = st.text(min_size=1, max_size=20)
# What a person takes for the letter beside it, or what Unicode's own foldings make of it.
LOOK_ALIKES = [
    ("K", "\u212a"), ("k", "\u212a"), ("S", "\u017f"), ("ss", "ß"), ("SS", "ß"), ("ss", "\u1e9e"),
    ("a", "\u0430"), ("e", "\u0435"), ("A", "\uff21"), ("fi", "\ufb01"), ("i", "\u0131"), ("I", "\u0130"),
    ("Å", "\u212b"), ("é", "e\u0301"), ("A", "A\u200b"), (" ", "\u00a0"), (" ", "\u2003"), ("a", "a\u00ad"),
    ("a", "a\x00"), (" ", "\t"), (" ", "\x1c"), ("1", "\u00b9"), ("o", "\u03bf"), ("a b", "a\u202eb"),
    ("\u03c3", "\u03c2"),
]  # fmt: skip


def dn(*values: object) -> DistinguishedName:
    return from_x509(name(*values))  # type: ignore[arg-type]


def rule_for(**subject: str) -> mapping.Mappings:
    conditions = tuple((kind, (folded(value),)) for kind, value in subject.items())
    return mapping.Mappings.of({}, [mapping.Rule("rule", 5, subject=conditions, user="alice")])


def maps(certificate: Certificate, mappings: mapping.Mappings) -> bool:
    return mapping.resolve(certificate, (ROOT.certificate,), mappings, USERS, "p", 0.0).user == "alice"


@pytest.mark.parametrize(("one", "other"), LOOK_ALIKES)
def test_look_alikes_are_somebody_else(one: str, other: str) -> None:
    assert folded(f"x{one}y") != folded(f"x{other}y")
    assert dn(f"x{one}y") != dn(f"x{other}y")
    assert not maps(forge(name(f"x{other}y"), ROOT).certificate, rule_for(CN=f"x{one}y"))


@given(TEXT, TEXT)
def test_two_texts_are_one_name_only_if_ascii_case_and_spaces_are_all_between_them(one: str, other: str) -> None:
    def plain(text: str) -> str:
        lowered = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)
        return " ".join(part for part in lowered.split(" ") if part)

    assert (dn(one) == dn(other)) == (plain(one) == plain(other))


@given(TEXT)
def test_no_normal_form_of_a_name_maps_unless_it_is_the_name(text: str) -> None:
    mappings = rule_for(CN=text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        other = unicodedata.normalize(form, text)
        assume(folded(other))
        certificate = from_x509(name(other))
        assert (certificate == dn(text)) == (folded(other) == folded(text))
    assert mappings.rules == 1


ANY_TEXT = ["Acme", "Acme, Inc.", "a=b", "a+b", " x ", 'O"Acme"', "#616263", "a\\,CN=bob", "a;b"]
IN_PRINTABLE = ANY_TEXT[:5]


@pytest.mark.parametrize(
    ("text", "kind"),
    [(text, kind) for kind in (_ASN1Type.UTF8String, _ASN1Type.BMPString) for text in ANY_TEXT]
    + [(text, _ASN1Type.PrintableString) for text in IN_PRINTABLE],
)
def test_the_encoding_of_a_text_does_not_count(text: str, kind: object) -> None:
    certificate = forge(name(("O", text, kind), "x"), ROOT).certificate
    assert certificate.subject == dn(("O", text), "x")
    assert maps(certificate, rule_for(O=text))


def test_teletex_text_is_the_same_text() -> None:
    """T61String, as old authorities write it."""
    encoded = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + tlv(0x14, b"alice"))))
    certificate = from_der(operated(forge("x", ROOT), ROOT, lambda parts: [*parts[:5], encoded, *parts[6:]]))
    assert certificate.subject == dn("alice")


def test_what_is_escaped_in_text_is_a_value_and_no_structure() -> None:
    forged = dn(("O", "Acme,CN=alice"))
    assert forged != dn(("O", "Acme"), ("CN", "alice"))
    assert from_text(r"O=Acme\,CN\=alice") == forged
    assert from_text("CN=alice,O=Acme") == dn(("O", "Acme"), ("CN", "alice"))
    assert not maps(forge(name(("O", "Acme,CN=alice")), ROOT).certificate, rule_for(CN="alice"))


def test_order_counts_between_relative_names_and_not_within_one() -> None:
    assert dn(("O", "Acme"), ("CN", "x")) != dn(("CN", "x"), ("O", "Acme"))

    def together(*pairs: tuple[x509.ObjectIdentifier, str]) -> DistinguishedName:
        attributes = [x509.NameAttribute(oid, value) for oid, value in pairs]
        return from_x509(x509.Name([x509.RelativeDistinguishedName(attributes)]))

    one, other = (NameOID.COMMON_NAME, "x"), (NameOID.USER_ID, "7")
    assert together(one, other) == together(other, one)
    assert together(one, other) != dn(("CN", "x"), ("UID", "7"))


def test_a_rule_counts_every_value_of_a_kind() -> None:
    """Several values, in one relative name or in many: exactly the named ones, no more."""
    twice = x509.Name([x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in ("alice", "bob")]
    )])  # fmt: skip
    assert not maps(forge(twice, ROOT).certificate, rule_for(CN="alice"))
    assert not maps(forge(name("alice", "bob"), ROOT).certificate, rule_for(CN="alice"))
    assert maps(forge(name(("O", "Acme"), "alice"), ROOT).certificate, rule_for(CN="alice"))


def test_bits_are_spelled_by_no_text() -> None:
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\xab\xcd", _ASN1Type.BitString)
    text = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, "abcd", _ASN1Type.UTF8String)
    assert from_x509(x509.Name([bits])) != from_x509(x509.Name([text]))


def test_a_mailbox_in_the_subject_is_an_attribute_like_others() -> None:
    certificate = forge(name(("emailAddress", "ops@acme.example"), "x"), ROOT).certificate
    assert maps(certificate, rule_for(emailAddress="OPS@acme.example"))
    assert certificate.alternative_names == ()


def test_nul_and_control_characters_are_kept_and_map_to_nobody_else() -> None:
    certificate = forge(name("alice\x00.evil\n"), ROOT).certificate
    assert certificate.subject.common_name == "alice\x00.evil\n"
    assert not maps(certificate, rule_for(CN="alice"))
    by_name = mapping.Mappings.of({}, [mapping.Rule("cn", 5, user_from="cn")])
    assert mapping.resolve(certificate, (), by_name, USERS, "p", 0.0).user is None


def test_64_kib_of_attributes_are_too_many_and_60_kib_are_judged() -> None:
    with pytest.raises(CertificateError, match="at most 65,536"):
        _ = forge(name(*[("OU", "x" * 500)] * 130, "x"), ROOT).certificate
    certificate = forge(name(*[("OU", f"{n:0500}") for n in range(115)], "x"), ROOT).certificate
    store = chains.Truststore("store", (ROOT.certificate,))
    assert chains.judge(certificate, (), store, time.time()).reason is None
    assert not maps(certificate, rule_for(OU=f"{5:0500}"))
    assert maps(certificate, rule_for(CN="x"))


@pytest.mark.parametrize(
    ("pattern", "found", "matches"),
    [
        ("dns:*.partner.example", "dns:a.partner.example", True),
        ("dns:*.partner.example", "dns:a.b.partner.example", False),
        ("dns:*.partner.example", "dns:partner.example", False),
        ("dns:*.partner.example", "dns:a\x00.partner.example", False),
        ("dns:*.partner.example", "dns:.partner.example", False),
        ("dns:*.partner.example", "dns:a.partner.example.", False),
        ("dns:a.example", "email:a.example", False),
        ("email:ops@a.example", "email:OPS@a.example", False),
    ],
)
def test_alternative_names(pattern: str, found: str, matches: bool) -> None:
    assert san_matches(pattern, found) is matches
