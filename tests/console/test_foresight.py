"""What a mapping rule would do is shown before it is saved, and decided as nodes decide."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from console.foresight import Foresight, foresee
from gateway.audit import change_set
from identity.core.mapping import Rule
from identity.core.names import DistinguishedName, folded, from_comparable
from identity.models import Certificate, MappingRule, User
from tests.factories import (
    CertificateFactory,
    MappingRuleFactory,
    RegularPortFactory,
    TruststoreFactory,
    UserFactory,
    partner_ca,
)
from tests.identity.test_mapping import CAS, _rules, partners
from tests.minting import authority, mint


def draft(user: User, **more: Any) -> MappingRule:
    row = MappingRule(**({"name": "draft", "user": user, "subject": {"O": ["Partner One"]}} | more))
    row.full_clean()
    return row


def told(found: Foresight) -> set[tuple[str, str, int]]:
    return {(fate.mark, fate.words, fate.count) for fate in found.fates}


def rules(found: Foresight) -> list[tuple[str, str]]:
    return [(finding.mark, finding.text) for finding in found.rules]


def on_file(name: str, subject: str, **more: Any) -> Certificate:
    return CertificateFactory(name=name, minted=mint(subject, partner_ca(), san=more.pop("san", ())), **more)


@pytest.fixture
def stored(db: None) -> dict[str, Any]:
    """Certificates of one partner: two that are left to rules, one that is mapped, blocked, of another use; others."""
    alice = UserFactory(name="alice")
    return {
        "alice": alice,
        "bob": UserFactory(name="bob"),
        "left": on_file("left", "CN=left,O=Partner One"),
        "spelt": on_file("spelt", "CN=spelt,O=PARTNER   ONE", san=["dns:spelt.partner.example"]),
        "mapped": on_file("mapped", "CN=mapped,O=Partner One", user=alice),
        "blocked": on_file("blocked", "CN=blocked,O=Partner One", blocked=True),
        "other": on_file("other", "CN=other,O=Partner One", usage="verify"),
        "stranger": on_file("stranger", "CN=stranger,O=Partner One\\, Inc."),
        "more": on_file("more", "CN=more,O=Partner One,O=Partner Two"),
    }


def test_whom_it_matches_and_what_comes_before_it(stored: dict[str, Any]) -> None:
    found = foresee(draft(stored["alice"]))
    assert found.matches == 5
    assert told(found) == {
        ("good", "would be let in, as alice", 2),
        ("note", "would be decided by a mapping of their own, which comes before every rule", 1),
        ("note", "would log nobody in: blocked", 1),
        ("note", "would log nobody in: on file for another use", 1),
    }
    assert {link.label for fate in found.fates for link in fate.links if fate.mark == "good"} == {"left", "spelt"}
    assert not found.grave


def test_a_rule_that_it_takes_from(stored: dict[str, Any]) -> None:
    MappingRuleFactory(name="names", san="dns:*.partner.example", user=stored["bob"])
    found = foresee(draft(stored["alice"], priority=1))
    assert ("bad", "would run as alice instead of bob: it comes before rule names", 1) in told(found) and found.grave
    same = foresee(draft(stored["bob"], priority=1))
    assert ("good", "would run as bob, as now", 1) in told(same) and not same.grave


def test_what_would_become_ambiguous(stored: dict[str, Any]) -> None:
    MappingRuleFactory(name="names", san="dns:*.partner.example", user=stored["bob"])
    found = foresee(draft(stored["alice"]))
    words = "would become ambiguous, and be refused: rules draft, names name different users"
    assert ("bad", words, 1) in told(found) and found.grave
    assert found.fates[0].mark == "bad", "the worst first"
    assert rules(found) == [
        ("note", "Whoever matches both this rule and rule names is refused: they have one priority.")
    ]


def test_a_rule_that_comes_before_it(stored: dict[str, Any]) -> None:
    MappingRuleFactory(name="first", san="", subject={"O": ["partner one"]}, priority=1, user=stored["bob"])
    found = foresee(draft(stored["alice"]))
    assert ("note", "would be decided by rule first, which comes before it", 2) in told(found)
    assert rules(found) == [("note", "It decides nothing: rule first is tried before it and matches all of that.")]


def test_a_rule_that_it_leaves_nothing_to(stored: dict[str, Any]) -> None:
    MappingRuleFactory(name="later", san="dns:a.x", subject={"O": ["partner one"]}, priority=200, user=stored["bob"])
    found = foresee(draft(stored["alice"]))
    words = "Rule later would decide nothing: this rule is tried before it and matches all of that."
    assert rules(found) == [("bad", words)] and found.grave


def test_a_change_tells_whom_the_rule_no_longer_means(stored: dict[str, Any]) -> None:
    row = MappingRuleFactory(name="names", san="dns:*.partner.example", user=stored["bob"])
    row.san = "dns:*.elsewhere.example"
    found = foresee(row)
    assert (found.matches, told(found)) == (0, {("bad", "would no longer run as bob, and be refused", 1)})
    row.san, row.enabled = "dns:*.partner.example", False
    assert told(foresee(row)) == {("bad", "would no longer run as bob, and be refused", 1)}


def test_limits_to_ports_are_looked_at_port_by_port(stored: dict[str, Any]) -> None:
    for name in ("p", "q"):
        RegularPortFactory(name=name)
    MappingRuleFactory(name="names", san="dns:*.partner.example", user=stored["bob"], ports=["p"])
    apart = foresee(draft(stored["alice"], ports=["q"]))
    assert told(apart) >= {("good", "would be let in, as alice (at port q)", 2)} and not apart.grave and not apart.rules
    everywhere = foresee(draft(stored["alice"]))
    words = "would become ambiguous, and be refused: rules draft, names name different users (at port p)"
    assert ("bad", words, 1) in told(everywhere)
    assert ("good", "would be let in, as alice", 2) in told(everywhere)


def test_a_certificate_that_is_for_some_ports_is_looked_at_there_alone(stored: dict[str, Any]) -> None:
    RegularPortFactory(name="p")
    changed = stored["left"]
    with change_set("tests", "limited"):
        changed.ports = ["p"]
        changed.save()
    found = foresee(draft(stored["alice"]))
    assert told(found) >= {
        ("good", "would be let in, as alice", 1),
        ("good", "would be let in, as alice (at port p)", 1),
    }


def test_user_from_names_nobody(stored: dict[str, Any]) -> None:
    UserFactory(name="left")
    UserFactory(name="spelt", enabled=False)
    found = foresee(draft(None, user_from="cn"))  # type: ignore[arg-type]
    assert ("good", "would be let in, as left", 1) in told(found)
    assert ("note", "would be refused: its user is disabled, or for other ports", 1) in told(found)


def test_an_issuer_is_found_through_stored_intermediates(stored: dict[str, Any]) -> None:
    sub = authority("CN=Sub CA,O=Acme", partner_ca())
    TruststoreFactory(anchors=[partner_ca(), sub])
    CertificateFactory(name="below", minted=mint("CN=below,O=Partner One", sub))
    CertificateFactory(name="beside", minted=mint("CN=beside,O=Partner One", authority("CN=Other CA")))
    found = foresee(draft(stored["alice"], issuer="CN=Partner CA,O=Acme"))
    assert (found.matches, found.by_issuer) == (6, True)
    assert ("good", "would be let in, as alice", 3) in told(found)


def test_a_certificate_that_an_older_version_stored_is_looked_at_too(stored: dict[str, Any]) -> None:
    Certificate.objects.update(subject_values="")
    assert foresee(draft(stored["alice"])).matches == 5


@given(st.dictionaries(st.sampled_from(["CN", "O", "OU"]), st.lists(st.text(min_size=1), min_size=1, max_size=3)))
def test_what_the_database_keeps_of_a_subject_is_all_that_rules_ask(values: dict[str, list[str]]) -> None:
    rdns = tuple(frozenset({(kind, value)}) for kind, found in values.items() for value in found)
    name = DistinguishedName(rdns, "")
    again = from_comparable(name.comparable())
    for kind in ("CN", "O", "OU"):
        assert sorted(again.values(kind)) == sorted(map(folded, name.values(kind)))


@given(_rules())
def test_a_rule_that_covers_another_matches_whatever_that_matches(found: list[Rule]) -> None:
    for one in found:
        for other in found:
            for index, minted in enumerate(partners()):
                chain = (CAS[index % 2].certificate,)
                both = [rule.misses(minted.certificate, chain) is None for rule in (one, other)]
                if one.covers(other):
                    assert both[0] or not both[1]
                if one.excludes(other):
                    assert both != [True, True]


# --- the page ---

FORM = {"name": "draft", "enabled": "on", "priority": "100", "issuer": "", "subject": "O = Partner One", "san": "",
        "user_from": ""}  # fmt: skip


def test_a_preview_saves_nothing(owner: Client, stored: dict[str, Any]) -> None:
    assert 'name="look"' in owner.get(reverse("mapping_rules-add")).content.decode()
    page = owner.post(reverse("mapping_rules-add"), FORM | {"user": stored["alice"].pk, "look": "1"})
    text = page.content.decode()
    assert page.status_code == 200 and "Nothing is saved yet" in text and "It matches 5 certificates on file." in text
    assert "would be let in, as alice" in text and "O = Partner One" in text, "and what was typed is still there"
    assert not MappingRule.objects.exists()


def test_what_harms_nobody_is_saved_at_once(owner: Client, stored: dict[str, Any]) -> None:
    assert owner.post(reverse("mapping_rules-add"), FORM | {"user": stored["alice"].pk}).status_code == 302
    assert MappingRule.objects.get().name == "draft"


def test_what_would_refuse_somebody_is_shown_before_it_is_saved(owner: Client, stored: dict[str, Any]) -> None:
    MappingRuleFactory(name="names", san="dns:*.partner.example", user=stored["bob"])
    form = FORM | {"user": stored["alice"].pk}
    page = owner.post(reverse("mapping_rules-add"), form)
    assert page.status_code == 200 and "would become ambiguous" in page.content.decode()
    assert not MappingRule.objects.filter(name="draft").exists()
    assert owner.post(reverse("mapping_rules-add"), form | {"despite": "1"}).status_code == 302
    assert MappingRule.objects.filter(name="draft").exists()
