"""A certificate that is believed → the one user that it runs as, or why nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from identity.core.certificates import Certificate
from identity.core.names import folded, san_matches
from identity.core.reasons import IdentityReason
from identity.core.trace import Step, Words

USER_FROM = ("cn", "san_dns", "san_email", "san_uri")


@dataclass(frozen=True, slots=True)
class OnFile:
    """What is known of a certificate on file: `user` is None when it is mapped to nobody."""

    name: str
    user: str | None
    logs_in: bool  # usage ssl_authentication
    blocked: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """All conditions that are given must hold. Exactly one of `user` and `user_from` is given.

    Attributes:
        issuer_spki_sha256: of the key of the authority at the top of the verified chain or in it, hex; "" for any.
        subject: (kind, its exact values folded and sorted) for each kind that the rule names.
        san: a pattern as `names.san_matches` reads it; "" for any.
    """

    name: str
    priority: int
    issuer_spki_sha256: str = ""
    subject: tuple[tuple[str, tuple[str, ...]], ...] = ()
    san: str = ""
    user: str | None = None
    user_from: str | None = None

    def misses(self, certificate: Certificate, chain: tuple[Certificate, ...]) -> str | None:
        """The first condition that does not hold, in words; None when all hold. `chain`: issuers, leaf not in it."""
        if self.issuer_spki_sha256 and all(above.spki_sha256 != self.issuer_spki_sha256 for above in chain):
            return "issuer"
        for kind, values in self.subject:
            if tuple(sorted(folded(value) for value in certificate.subject.values(kind))) != values:
                return f"subject {kind}"
        if self.san and not any(san_matches(self.san, name) for name in certificate.alternative_names):
            return "san"
        return None

    def users(self, certificate: Certificate, known: Mapping[str, object]) -> frozenset[str]:
        """Whom the rule means for a certificate that it matches; only users of `known`, never `Default`."""
        if self.user is not None:
            return frozenset({self.user})
        if self.user_from == "cn":
            values: Iterable[str] = certificate.subject.values("CN")
        else:
            kind = f"{(self.user_from or '').removeprefix('san_')}:"
            values = (n[len(kind) :] for n in certificate.alternative_names if n.startswith(kind))
        return frozenset(value for value in values if value in known and value != "Default")


@dataclass(frozen=True, slots=True)
class Mappings:
    """`exact`: SHA-256 → what is on file. `tiers`: rules by ascending priority."""

    exact: Mapping[str, OnFile]
    tiers: tuple[tuple[int, tuple[Rule, ...]], ...] = ()

    @classmethod
    def of(cls, exact: Mapping[str, OnFile], rules: Iterable[Rule]) -> "Mappings":
        by_priority: dict[int, list[Rule]] = {}
        for rule in rules:
            by_priority.setdefault(rule.priority, []).append(rule)
        return cls(
            exact,
            tuple((p, tuple(sorted(by_priority[p], key=lambda r: r.name))) for p in sorted(by_priority)),
        )


@dataclass(slots=True)
class Resolution:
    user: str | None
    reason: IdentityReason | None
    steps: list[Step] = field(default_factory=list)


def resolve(
    certificate: Certificate, chain: tuple[Certificate, ...], mappings: Mappings, known: Mapping[str, object]
) -> Resolution:
    """The one user that `certificate` runs as, or the reason why nobody. Total: never raises.

    Args:
        chain: the verified issuers of the certificate, nearest first.
        known: users that exist, by name: what `user_from` may yield.
    """
    on_file = mappings.exact.get(certificate.sha256)
    if on_file is not None:
        found: Words = ("certificate …{0} is on file as {1}", certificate.sha256[-8:], on_file.name)
        if on_file.blocked or not on_file.logs_in:
            why = "blocked" if on_file.blocked else "there for another use than logging in"
            step = Step("mapping", False, found, ("it is {0}, and logs nobody in by a rule either", why))
            return Resolution(None, IdentityReason.CERTIFICATE_UNMAPPED, [step])
        if on_file.user is not None:
            return Resolution(on_file.user, None, [Step("mapping", True, found, ("mapped to user {0}", on_file.user))])
        steps = [Step("mapping", True, found, "mapped to nobody; rules are tried next")]
    else:
        steps = []
    for priority, rules in mappings.tiers:
        matching = [rule for rule in rules if rule.misses(certificate, chain) is None]
        users = frozenset[str]().union(*(rule.users(certificate, known) for rule in matching))
        if len(users) > 1:  # refused, never guessed: rows carry no order
            named: Words = ("rules {0} of priority {1}", tuple(rule.name for rule in matching), priority)
            steps.append(Step("mapping", False, named, ("they name different users: {0}", users)))
            return Resolution(None, IdentityReason.MAPPING_AMBIGUOUS, steps)
        if users:
            (user,) = users
            chosen: Words = ("rule {0} of priority {1}", tuple(rule.name for rule in matching), priority)
            steps.append(Step("mapping", True, chosen, ("runs as user {0}", user)))
            return Resolution(user, None, steps)
    rules_tried = sum(len(rules) for _, rules in mappings.tiers)
    against = ("not mapped on file; none of {0} rules matches", rules_tried) if rules_tried else "not mapped on file"
    steps.append(Step("mapping", False, ("certificate …{0}, {1}", certificate.sha256[-8:], certificate.title), against))
    return Resolution(None, IdentityReason.CERTIFICATE_UNMAPPED, steps)
