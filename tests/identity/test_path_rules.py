"""Name constraints of every form, path lengths and policies (RFC 5280, sections 4.2.1.9 to 4.2.1.14 and 6.1)."""

import ipaddress
import time

import pytest
from cryptography import x509

from identity.core import chains
from tests.identity.forging import _ASN1Type, forge, name, tlv
from tests.minting import Minted

ROOT = forge("Root", authority=True)


def words(leaf: Minted, *above: Minted, anchor: Minted = ROOT, max_intermediates: int = chains.MAX_DEPTH) -> str:
    store = chains.Truststore("store", (anchor.certificate,), max_intermediates=max_intermediates)
    verdict = chains.judge(leaf.certificate, tuple(each.certificate for each in above), store, time.time())
    return verdict.words if verdict.reason else ""


def general(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    match kind:
        case "dns":
            return x509.DNSName(value)
        case "email":
            return x509.RFC822Name._init_without_validation(value)
        case "uri":
            return x509.UniformResourceIdentifier(value)
        case "ip":
            return x509.IPAddress(ipaddress.ip_network(value) if "/" in value else ipaddress.ip_address(value))
        case "dn":
            return x509.DirectoryName(name(*(tuple(part.split("=")) for part in value.split(","))))
        case "id":
            return x509.RegisteredID(x509.ObjectIdentifier(value))
    return x509.OtherName(x509.ObjectIdentifier(kind), b"\x05\x00")


def constrained(permitted: str = "", excluded: str = "", issuer: Minted = ROOT) -> Minted:
    lists = ([general(each) for each in texts.split()] or None for texts in (permitted, excluded))
    return forge("Sub", issuer, authority=True, extensions=[(x509.NameConstraints(*lists), True)])


def named(subject: x509.Name | str, issuer: Minted, *alternative: str) -> Minted:
    san = [(x509.SubjectAlternativeName([general(each) for each in alternative]), False)] if alternative else []
    return forge(subject, issuer, extensions=san)


@pytest.mark.parametrize(
    ("permitted", "excluded", "alternative"),
    [
        ("dns:example.com", "", "dns:example.com"),
        ("dns:example.com", "", "dns:a.b.EXAMPLE.com"),
        ("dns:example.com", "", "dns:*.example.com"),
        ("dns:example.com", "", "email:nobody@other.example"),
        ("", "dns:example.com", "dns:notexample.com"),
        ("ip:10.0.0.0/8", "ip:10.9.0.0/16", "ip:10.1.2.3"),
        ("ip:fd00::/8", "", "ip:fd00::1"),
        ("email:example.com", "", "email:anybody@EXAMPLE.com"),
        ("email:one@example.com", "", "email:one@example.com"),
        ("email:.example.com", "", "email:one@mail.example.com"),
        ("uri:.example.com", "", "uri:https://a.example.com:8443/path"),
        ("uri:host.example.com", "", "uri:spiffe://host.example.com/service"),
        ("dn:O=Acme", "", "dn:O=Acme,CN=x"),
        ("", "1.2.3.4:", "dns:a.example"),
    ],
)
def test_names_that_are_admitted(permitted: str, excluded: str, alternative: str) -> None:
    subject = name(("O", "Acme"), ("CN", "x"))
    middle = constrained(permitted, excluded)
    assert words(named(subject, middle, alternative), middle) == ""


@pytest.mark.parametrize(
    ("permitted", "excluded", "alternative"),
    [
        ("dns:example.com", "", "dns:notexample.com"),
        ("dns:a.example.com", "", "dns:*.example.com"),
        ("", "dns:a.example.com", "dns:*.example.com"),
        ("", "dns:example.com", "dns:*.a.EXAMPLE.com"),
        ("", "dns:", "dns:a.example"),
        ("dns:.example.com", "", "dns:a.example.com"),
        ("dns:example.com", "dns:bad.example.com", "dns:bad.example.com"),
        ("dns:example.com", "", "dns:.example.com"),
        ("dns:example.com", "", "dns:a..example.com"),
        ("dns:example.com", "", "dns:a.example.com."),
        ("ip:10.0.0.0/8", "", "ip:11.0.0.1"),
        ("ip:10.0.0.0/8", "", "ip:fd00::1"),
        ("", "ip:0.0.0.0/0", "ip:10.0.0.1"),
        ("email:example.com", "", "email:one@mail.example.com"),
        ("email:.example.com", "", "email:one@example.com"),
        ("email:one@example.com", "", "email:ONE@example.com"),
        ("email:example.com", "", "email:one@two@example.com"),
        ("", "email:example.com", "email:one@example.com"),
        ("uri:.example.com", "", "uri:https://example.com/"),
        ("uri:example.com", "", "uri:https://10.0.0.1/"),
        ("uri:example.com", "", "uri:urn:uuid:1"),
        ("uri:example.com", "", "uri:https://example.com@other.example/"),
        ("", "uri:.example.com", "uri:https://a.example.com/"),
        ("dn:O=Acme", "", "dn:O=Acme Ltd,CN=x"),
        ("", "dn:O=Bad", "dn:O=BAD,CN=x"),
        ("", "1.2.3.4:", "1.2.3.4:"),
        ("id:1.2.3", "", "id:1.2.3"),
    ],
)
def test_names_that_are_not(permitted: str, excluded: str, alternative: str) -> None:
    subject = name(("O", "Acme"), ("CN", "x"))
    middle = constrained(permitted, excluded)
    assert words(named(subject, middle, alternative), middle) != ""


def test_the_subject_is_a_directory_name_too() -> None:
    middle = constrained("dn:O=Acme")
    assert words(named(name(("O", "Acme"), ("CN", "x")), middle), middle) == ""
    assert words(named(name(("O", "ACME"), ("CN", "x")), middle), middle) == ""
    assert words(named(name(("O", "Acme", _ASN1Type.BMPString), ("CN", "x")), middle), middle) == ""
    assert "is not permitted" in words(named(name(("CN", "x"), ("O", "Acme")), middle), middle)
    assert "is not permitted" in words(named("x", middle), middle)


def test_a_common_name_that_looks_like_a_host_is_held_against_constraints_where_no_san_is() -> None:
    middle = constrained("dns:example.com")
    assert words(named("a.example.com", middle), middle) == ""
    assert words(named("Alice Miller", middle), middle) == ""
    assert "other.example is not permitted" in words(named("other.example", middle), middle)
    assert words(named("other.example", middle, "dns:a.example.com"), middle) == ""


def test_a_mailbox_in_the_subject_counts() -> None:
    middle = constrained("email:example.com")
    subject = name(("CN", "x"), ("emailAddress", "x@other.example"))
    assert "is not permitted" in words(named(subject, middle), middle)


def test_constraints_hold_for_every_certificate_below_and_narrow() -> None:
    outer = constrained("dns:example.com")
    inner = forge(
        "Inner", outer, authority=True,
        extensions=[(x509.NameConstraints([general("dns:example.org")], None), True)],
    )  # fmt: skip
    assert words(named("x", inner, "dns:a.example.com"), inner, outer) != ""
    assert words(named("x", inner, "dns:a.example.org"), inner, outer) != ""
    assert words(named("x", inner), inner, outer) == ""


def test_constraints_of_an_anchor_hold() -> None:
    anchor = forge(
        "Narrow", authority=True, extensions=[(x509.NameConstraints([general("dns:example.com")], None), True)]
    )
    assert words(named("x", anchor, "dns:a.example.com"), anchor=anchor) == ""
    assert words(named("x", anchor, "dns:a.example.org"), anchor=anchor) != ""


def test_more_names_and_constraints_than_can_be_compared_cost_no_time() -> None:
    many = [x509.DNSName(f"h{n}.example") for n in range(1000)]
    middle = forge("Sub", ROOT, authority=True, extensions=[(x509.NameConstraints(None, many), True)])
    leaf = forge("x", middle, extensions=[(x509.SubjectAlternativeName(many), False)])
    assert "comparisons" in words(leaf, middle)


# --- path length ---


def ladder(*lengths: int | None, self_issued: tuple[int, ...] = ()) -> list[Minted]:
    """Authorities from the root down, each with its path length; those of `self_issued` repeat the name above."""
    made: list[Minted] = []
    for number, length in enumerate(lengths):
        subject = made[-1].x509.subject if number in self_issued else name(f"CA {number}")
        above = made[-1] if made else None
        made.append(forge(subject, above, basic=(x509.BasicConstraints(True, length), True)))
    return made


@pytest.mark.parametrize(
    ("lengths", "self_issued", "passes"),
    [
        pytest.param((0,), (), True, id="none-below-and-none-is"),
        pytest.param((0, None), (), False, id="none-below-and-one-is"),
        pytest.param((1, 0), (), True, id="exactly"),
        pytest.param((1, 5, 5), (), False, id="the-lower-one-cannot-raise-it"),
        pytest.param((None, 0, 0), (), False, id="an-intermediate-s"),
        pytest.param((0, 0), (1,), True, id="self-issued-do-not-count"),
        pytest.param((1, 0, None), (2,), True, id="self-issued-below"),
    ],
)
def test_path_length(lengths: tuple[int | None, ...], self_issued: tuple[int, ...], passes: bool) -> None:
    root, *middle = ladder(*lengths, self_issued=self_issued)
    leaf = forge("x", middle[-1] if middle else root)
    assert (words(leaf, *middle, anchor=root) == "") is passes


def test_a_truststore_may_allow_fewer() -> None:
    root, first, second = ladder(None, None, None)
    leaf = forge("x", second)
    assert words(leaf, first, second, anchor=root, max_intermediates=2) == ""
    assert "the truststore allows 1" in words(leaf, first, second, anchor=root, max_intermediates=1)
    assert words(forge("x", root), anchor=root, max_intermediates=0) == ""


# --- policies ---

GOLD, SILVER, ANY_POLICY = "1.2.3.1", "1.2.3.2", "2.5.29.32.0"
Extension = tuple[x509.ExtensionType, bool]


def policies(*oids: str) -> Extension:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in oids]), False


def requires(explicit: int | None = None, inhibit: int | None = None) -> Extension:
    return x509.PolicyConstraints(explicit, inhibit), True


def maps(*pairs: tuple[str, str]) -> Extension:
    def oid(text: str) -> bytes:
        first, second, *rest = map(int, text.split("."))
        return tlv(0x06, bytes((first * 40 + second, *rest)))

    content = b"".join(tlv(0x30, oid(issuers) + oid(subjects)) for issuers, subjects in pairs)
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), tlv(0x30, content)), True


@pytest.mark.parametrize(
    ("middle", "leaf", "passes"),
    [
        pytest.param([], [], True, id="nobody-asks"),
        pytest.param([policies(GOLD)], [policies(SILVER)], True, id="nobody-requires"),
        pytest.param([policies(GOLD), requires(0)], [policies(GOLD)], True, id="required-and-there"),
        pytest.param([policies(GOLD), requires(0)], [policies(SILVER)], False, id="another-one"),
        pytest.param([policies(GOLD), requires(0)], [], False, id="none"),
        pytest.param([requires(0)], [policies(GOLD)], False, id="not-at-the-authority"),
        pytest.param([policies(ANY_POLICY), requires(0)], [policies(GOLD)], True, id="any-at-the-authority"),
        pytest.param([policies(GOLD), requires(0)], [policies(ANY_POLICY)], True, id="any-at-the-client"),
        pytest.param([policies(GOLD), requires(0), (x509.InhibitAnyPolicy(0), True)], [policies(ANY_POLICY)], False,
                     id="any-is-inhibited"),
        pytest.param([policies(GOLD), requires(0), maps((GOLD, SILVER))], [policies(SILVER)], True, id="mapped"),
        pytest.param([policies(GOLD), requires(0), maps((GOLD, SILVER))], [policies(GOLD)], False, id="mapped-away"),
        pytest.param([policies(GOLD), maps((GOLD, ANY_POLICY))], [policies(GOLD)], False, id="any-cannot-be-mapped"),
        pytest.param([policies(GOLD), requires(2)], [], True, id="required-further-down"),
        pytest.param([policies(GOLD)], [requires(0)], False, id="the-client-s-own-constraint"),
    ],
)  # fmt: skip
def test_policies(middle: list[Extension], leaf: list[Extension], passes: bool) -> None:
    above = forge("Sub", ROOT, authority=True, extensions=middle)
    assert (words(forge("x", above, extensions=leaf), above) == "") is passes


def test_a_mapping_that_is_inhibited_above() -> None:
    top = forge("Top", ROOT, authority=True, extensions=[policies(GOLD, SILVER), requires(0, 0)])
    sub = forge("Sub", top, authority=True, extensions=[policies(GOLD), maps((GOLD, SILVER))])
    assert words(forge("x", sub, extensions=[policies(SILVER)]), sub, top) != ""
