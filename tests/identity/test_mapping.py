"""Whom a certificate means: what looks alike never matches, and rules are found as if each had been looked at."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import assume, given
from hypothesis import strategies as st

from identity.core import trace
from identity.core.mapping import ANYWHERE, Mappings, OnFile, Resolution, Rule, resolve
from identity.core.names import DistinguishedName, folded, from_x509, san_matches
from identity.core.reasons import IdentityReason
from tests.minting import Minted, authority, mint

CAS = authority("CN=One CA,O=Acme"), authority("CN=Two CA,O=Acme")


@cache
def partners() -> tuple[Minted, ...]:
    return (
        mint("CN=alice,O=Acme", CAS[0], san=["dns:a.partner.example"]),
        mint("CN=alice,O=ACME,OU=x", CAS[1], san=["dns:b.partner.example", "email:ops@partner.example"]),
        mint("O=Acme,OU=x,OU=y", CAS[0], san=["uri:urn:partner:1", "dns:partner.example"]),
        mint("CN=bob", CAS[1], san=["dns:a.b.partner.example", "dns:localhost"]),
    )


_VALUES = st.lists(st.sampled_from(["alice", "Acme", "x", "y", "bob"]), max_size=2).map(
    lambda values: tuple(sorted(map(folded, values)))
)
_SUBJECT = st.dictionaries(st.sampled_from(["CN", "O", "OU"]), _VALUES, max_size=2).map(
    lambda d: tuple(sorted(d.items()))
)
_SAN = st.sampled_from(
    ["", "dns:*.partner.example", "dns:A.partner.example", "dns:*.*.partner.example", "dns:a.*.partner.example",
     "dns:localhost", "email:ops@partner.example", "uri:urn:partner:1", "dns:partner.example"]
)  # fmt: skip


@st.composite
def _rules(draw: st.DrawFn) -> list[Rule]:
    issuers = ["", *(ca.certificate.spki_sha256 for ca in CAS)]
    return [
        Rule(f"r{number}", draw(st.integers(1, 3)), draw(st.sampled_from(issuers)), draw(_SUBJECT), draw(_SAN), "u")
        for number in range(draw(st.integers(0, 12)))
    ]


@given(_rules(), st.randoms())
def test_the_rules_that_match_are_those_that_miss_nothing(rules: list[Rule], chance: object) -> None:
    mappings = Mappings.of({}, chance.sample(rules, len(rules)))  # type: ignore[attr-defined]
    for index, minted in enumerate(partners()):
        certificate, chain = minted.certificate, (CAS[index % 2].certificate,)
        expected: dict[int, list[Rule]] = {}
        for rule in rules:
            if rule.misses(certificate, chain) is None:
                expected.setdefault(rule.priority, []).append(rule)
        found = mappings.tiers(certificate, chain)
        assert found == [(p, sorted(expected[p], key=lambda rule: rule.name)) for p in sorted(expected)]


def test_what_is_remembered_of_a_certificate_holds_for_the_chain_that_it_was_found_with() -> None:
    alice = partners()[0].certificate
    one, two = (authority.certificate for authority in CAS)
    mappings = Mappings.of({}, [Rule("by-one", 1, issuer_spki_sha256=one.spki_sha256, user="alice")])
    for chain, found in (((one,), 1), ((two,), 0), ((one,), 1), ((two, one), 1), ((), 0)):
        assert len(mappings.tiers(alice, chain)) == found


# --- what looks alike ---


@dataclass(frozen=True)
class Shown:
    """A certificate as far as mapping reads it."""

    subject: DistinguishedName
    alternative_names: tuple[str, ...] = ()
    sha256: str = "ab" * 32
    title: str = "shown"


def named(*rdns: list[tuple[x509.ObjectIdentifier, str]]) -> Shown:
    return Shown(
        from_x509(
            x509.Name(
                [
                    x509.RelativeDistinguishedName(
                        [x509.NameAttribute(oid, value, _validate=False) for oid, value in rdn]
                    )
                    for rdn in rdns
                ]
            )
        )
    )


O, OU, CN = NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME  # noqa: E741
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
_LOOK_ALIKE: dict[str, Callable[[str], str]] = {
    "something before": lambda v: "x" + v,
    "something after": lambda v: v + ", O=x",
    "an escaped comma": lambda v: f"x\\,O={v}",
    "a zero-width space": lambda v: v[:1] + "\u200b" + v[1:],
    "no-break spaces": lambda v: v.replace(" ", "\xa0"),
    "a control character": lambda v: v[:1] + "\x1f" + v[1:],
    "NUL and more": lambda v: v + "\0.evil",
    "Cyrillic": lambda v: v.replace("a", "а").replace("e", "е").replace("o", "о"),  # noqa: RUF001
    "the Kelvin sign and long s": lambda v: v.replace("k", "\u212a").replace("s", "\u017f"),
    "composed otherwise": lambda v: unicodedata.normalize("NFD" if unicodedata.is_normalized("NFC", v) else "NFC", v),
    "wide letters": lambda v: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in v),
    "a ligature": lambda v: v.replace("fi", "\ufb01"),
}


@given(
    st.sampled_from(["Partner One", "kiosk", "finance GmbH", "Café", "a"]) | _TEXT, st.sampled_from(list(_LOOK_ALIKE))
)
def test_what_looks_alike_is_not_the_same(value: str, how: str) -> None:
    other = _LOOK_ALIKE[how](value)
    assume(other != value)
    rule = Rule("r", 1, subject=(("O", (folded(value),)),), user="alice")
    assert rule.misses(named([(O, other)]), ()) == "subject O"
    assert resolve(named([(O, other)]), (), Mappings.of({}, [rule]), USERS, "p", 0.0).user is None


@given(_TEXT, st.sampled_from(["upper", "blanks", "order", "one RDN"]))
def test_other_spellings_of_the_same_name_match(value: str, how: str) -> None:
    assume(value.strip(" "))
    rule = Rule("r", 1, subject=(("CN", ("alice",)), ("O", (folded(value),))), user="alice")
    cn, o = (CN, "ALICE"), (O, value)
    shown = {
        "upper": named([cn], [o]),
        "blanks": named([(CN, " alice ")], [(O, f"  {value}  ")]),
        "order": named([o], [cn]),
        "one RDN": named([cn, o]),
    }[how]
    assert rule.misses(shown, ()) is None


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(named([(O, "Acme")], [(O, "Other")]), id="one-value-more"),
        pytest.param(named([(O, "Acme"), (O, "Other")]), id="one-more-in-the-same-RDN"),
        pytest.param(named([(O, "Acme")], [(O, "Acme")]), id="the-same-twice"),
        pytest.param(named([(OU, "Acme")]), id="as-another-kind"),
        pytest.param(named([(CN, "O=Acme")]), id="inside-another-kind"),
        pytest.param(named([(CN, "x,O=Acme")]), id="as-printed"),
        pytest.param(named(), id="no-subject"),
    ],
)
def test_a_kind_that_is_named_has_exactly_the_named_values(shown: Shown) -> None:
    assert Rule("r", 1, subject=(("O", ("acme",)),), user="alice").misses(shown, ()) == "subject O"


def test_a_kind_that_is_named_with_no_value_is_not_there() -> None:
    rule = Rule("r", 1, subject=(("CN", ("alice",)), ("OU", ())), user="alice")
    assert rule.misses(named([(CN, "alice")]), ()) is None
    assert rule.misses(named([(CN, "alice")], [(OU, "x")]), ()) == "subject OU"


_LABELS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="."), max_size=5), min_size=1, max_size=5)


@given(_LABELS | st.lists(st.sampled_from(["a", "partner", "example", "*", "", "xn--a"]), min_size=1, max_size=5))
def test_a_star_is_one_dns_label(labels: list[str]) -> None:
    found = ".".join(labels).lower()
    matches = san_matches("dns:*.partner.example", f"dns:{found}")
    first, _, rest = found.partition(".")
    if matches:
        assert rest == "partner.example"
        assert first and all(c.isascii() and (c.isalnum() or c in "-_") for c in first)
    elif rest == "partner.example":
        assert not first.isascii() or not first.replace("_", "").isalnum()
    assert not san_matches("dns:*.partner.example", f"uri:{found}")


# --- whom it yields ---


@dataclass(frozen=True)
class Account:
    enabled: bool = True
    ports: frozenset[str] = ANYWHERE


USERS = {
    "Default": Account(),
    "alice": Account(),
    "gone": Account(enabled=False),
    "there": Account(ports=frozenset("q")),
}
_KIND = {"cn": "CN", "san_dns": "dns", "san_email": "email", "san_uri": "uri"}
_NAMES = st.sampled_from([*USERS, "ALICE", "nobody", "alice ", "alice\0", "default"])


@given(st.sampled_from(list(_KIND)), st.lists(_NAMES, max_size=3), st.sampled_from("pq"))
def test_user_from_yields_a_user_who_is_there_and_enabled_or_nobody(kind: str, values: list[str], port: str) -> None:
    if kind == "cn":
        shown = named(*([(CN, value)] for value in values))
    else:
        shown = Shown(named().subject, tuple(f"{_KIND[kind]}:{value}" for value in values))
    # What comes after it must not take his place.
    rules = [Rule("first", 1, user_from=kind), Rule("second", 2, user="alice")]
    found = resolve(shown, (), Mappings.of({}, rules), USERS, port, 0.0)
    meant = {value for value in values if value in USERS and value != "Default"}
    if found.user is not None:
        assert found.user != "Default" and USERS[found.user].enabled
        assert found.user == ("alice" if not meant else meant.pop())
    else:
        assert meant - {"alice"}, "somebody was named who may not, or several were"
        assert found.reason is {
            1: IdentityReason.USER_DISABLED if meant == {"gone"} else IdentityReason.CERTIFICATE_UNMAPPED
        }.get(len(meant), IdentityReason.MAPPING_AMBIGUOUS)
    assert found.steps[-1].passed is (found.user is not None), "the last step is the one that decided"


# --- where it may be used ---

HERE, THERE = frozenset({"p"}), frozenset({"q"})
FIRST, LATER = Rule("first", 1, user="alice"), Rule("later", 2, user="bob")


def ask(exact: OnFile | None, *rules: Rule, users: dict[str, Account] | None = None) -> Resolution:
    shown = named([(CN, "alice")])
    known = {"alice": Account(), "bob": Account()} | (users or {})
    return resolve(shown, (), Mappings.of({shown.sha256: exact} if exact else {}, rules), known, "p", 0.0)


@pytest.mark.parametrize(
    ("exact", "rules", "users", "user", "words"),
    [
        pytest.param(None, [Rule("r", 1, user="alice", ports=HERE)], {}, "alice", "", id="a-rule-for-this-port"),
        pytest.param(None, [Rule("r", 1, user="alice", ports=THERE), LATER], {}, "bob", "",
                     id="a-rule-for-another-does-not-match"),
        pytest.param(None, [Rule("r", 1, user="alice", ports=THERE), Rule("s", 1, user="bob")], {}, "bob", "",
                     id="nor-does-it-make-anything-ambiguous"),
        pytest.param(None, [Rule("r", 1, user="alice", ports=THERE)], {}, None, "r match, and are not for port p",
                     id="and-it-is-told-which-it-was"),
        pytest.param(OnFile("a", "alice", True, False, HERE), [], {}, "alice", "", id="a-certificate-for-this-port"),
        pytest.param(OnFile("a", "alice", True, False, THERE), [FIRST], {}, None, "ports q only",
                     id="one-for-another-refuses-and-no-rule-is-tried"),
        pytest.param(OnFile("a", None, True, False, THERE), [FIRST], {}, None, "ports q only",
                     id="one-that-is-mapped-to-nobody-likewise"),
        pytest.param(None, [FIRST, LATER], {"alice": Account(ports=THERE)}, None, "the user is for ports q only",
                     id="a-user-for-another-port-is-refused-and-no-later-rule-asked"),
        pytest.param(OnFile("a", "alice", True, False), [LATER], {"alice": Account(ports=HERE)}, "alice", "",
                     id="a-user-for-this-port"),
    ],
)  # fmt: skip
def test_what_is_for_some_ports_alone(
    exact: OnFile | None, rules: list[Rule], users: dict[str, Account], user: str | None, words: str
) -> None:
    found = ask(exact, *rules, users=users)
    assert found.user == user
    if user is None:
        assert found.reason is IdentityReason.CERTIFICATE_UNMAPPED
        assert words in trace.words(found.steps[-1].against)


def test_to_disable_a_user_never_makes_his_certificate_run_as_somebody_else() -> None:
    for first in (FIRST, Rule("first", 1, user_from="cn")):
        found = ask(None, first, LATER, users={"alice": Account(enabled=False)})
        assert (found.user, found.reason) == (None, IdentityReason.USER_DISABLED)
