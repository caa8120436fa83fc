"""A certificate and the mapping rules, one by one: which condition of which rule holds, and which does not.

For people: whom a certificate runs as is `mapping.resolve`. A law in the tests holds the two together.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from identity.core.certificates import Certificate
from identity.core.mapping import Mappings, Rule, usable_at
from identity.core.names import folded, san_matches


@dataclass(frozen=True, slots=True)
class Condition:
    """`wanted`, `found`: values in words; `found` has several where the certificate has."""

    name: str
    wanted: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """One rule, tried on one certificate."""

    rule: Rule
    conditions: tuple[Condition, ...]

    @property
    def matches(self) -> bool:
        return all(condition.holds for condition in self.conditions)

    @property
    def missing(self) -> int:
        return sum(not condition.holds for condition in self.conditions)


def conditions(rule: Rule, certificate: Certificate, chain: tuple[Certificate, ...]) -> tuple[Condition, ...]:
    """Every condition that the rule gives, in the order in which it is asked."""
    found = []
    if rule.issuer_spki_sha256:
        holds = any(above.spki_sha256 == rule.issuer_spki_sha256 for above in chain)
        issuers = ", then ".join(above.title for above in chain) or f"{certificate.issuer.text}, not verified"
        found.append(Condition("issuer", f"the key …{rule.issuer_spki_sha256[-8:]}", issuers, holds))
    for kind, values in rule.subject:
        has = certificate.subject.values(kind)
        holds = tuple(sorted(folded(value) for value in has)) == values
        found.append(Condition(f"subject {kind}", ", ".join(values), ", ".join(has) or "none", holds))
    if rule.san:
        kind = rule.san.partition(":")[0]
        holds = any(san_matches(rule.san, name) for name in certificate.alternative_names)
        names = [name for name in certificate.alternative_names if name.startswith(f"{kind}:")]
        found.append(Condition("san", rule.san, ", ".join(names) or "none", holds))
    return tuple(found)


def near(
    mappings: Mappings, certificate: Certificate, chain: tuple[Certificate, ...], port: str, limit: int = 20
) -> list[Trial]:
    """Rules of which at least one condition holds: those that match first, then those that miss by least.

    Being limited to `port` among others brings no rule near; not being is what it may miss by.
    """
    found = []
    for rule in _rules(mappings):
        own = conditions(rule, certificate, chain)
        if any(condition.holds for condition in own):
            found.append(Trial(rule, own + _limit(rule, port)))
    found.sort(key=lambda trial: (trial.missing, trial.rule.priority, trial.rule.name))
    return found[:limit]


def _limit(rule: Rule, port: str) -> tuple[Condition, ...]:
    if not rule.ports:
        return ()
    return (Condition("ports", ", ".join(sorted(rule.ports)), port, usable_at(rule.ports, port)),)


def _rules(mappings: Mappings) -> Iterable[Rule]:
    return (rule for bucket in mappings.buckets.values() for rule in bucket)
