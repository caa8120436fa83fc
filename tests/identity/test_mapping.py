"""Rules are found by what they name, and found exactly as if each had been looked at."""

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from identity.core.mapping import Mappings, Rule
from identity.core.names import folded
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
