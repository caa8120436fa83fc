"""A certificate that is believed → the one user that it runs as, or why nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from identity.core.names import DistinguishedName, folded, san_matches
from identity.core.reasons import IdentityReason
from identity.core.trace import Step, Words

FOREVER = float("inf")
USER_FROM = ("cn", "san_dns", "san_email", "san_uri")
ANYWHERE: frozenset[str] = frozenset()  # as `ports`: no limit is given


def usable_at(ports: frozenset[str], port: str) -> bool:
    """Whether a user, a certificate or a rule that is limited to `ports` counts at `port`; none given: everywhere."""
    return not ports or port in ports


class Account(Protocol):
    """What mapping has to know of a user."""

    @property
    def enabled(self) -> bool: ...
    @property
    def ports(self) -> frozenset[str]: ...


class Chained(Protocol):
    """An issuer in a verified chain, known by its key."""

    @property
    def spki_sha256(self) -> str: ...


class Bearer(Protocol):
    """What mapping reads of a certificate."""

    @property
    def sha256(self) -> str: ...
    @property
    def subject(self) -> DistinguishedName: ...
    @property
    def alternative_names(self) -> tuple[str, ...]: ...
    @property
    def title(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OnFile:
    """What is known of a certificate on file: `user` is None when it is mapped to nobody.

    `ports`: where alone it logs anybody in, by a rule too; empty: everywhere. `logs_in_until`: seconds since 1970-01-01
    UTC; afterwards it logs nobody in, although it may still be valid.
    """

    name: str
    user: str | None
    logs_in: bool  # usage ssl_authentication
    blocked: bool
    ports: frozenset[str] = ANYWHERE
    logs_in_until: float = FOREVER


@dataclass(frozen=True, slots=True)
class Rule:
    """All conditions that are given must hold. Exactly one of `user` and `user_from` is given.

    Attributes:
        issuer_spki_sha256: of the key of the authority at the top of the verified chain or in it, hex; "" for any.
        subject: (kind, its exact values folded and sorted) for each kind that the rule names.
        san: a pattern as `names.san_matches` reads it; "" for any.
        ports: where alone the rule counts; empty: everywhere.
    """

    name: str
    priority: int
    issuer_spki_sha256: str = ""
    subject: tuple[tuple[str, tuple[str, ...]], ...] = ()
    san: str = ""
    user: str | None = None
    user_from: str | None = None
    ports: frozenset[str] = ANYWHERE

    def misses(self, certificate: Bearer, chain: tuple[Chained, ...]) -> str | None:
        """The first condition that does not hold, in words; None when all hold. `chain`: issuers, leaf not in it."""
        if self.issuer_spki_sha256 and all(above.spki_sha256 != self.issuer_spki_sha256 for above in chain):
            return "issuer"
        for kind, values in self.subject:
            if tuple(sorted(folded(value) for value in certificate.subject.values(kind))) != values:
                return f"subject {kind}"
        if self.san and not any(san_matches(self.san, name) for name in certificate.alternative_names):
            return "san"
        return None

    def covers(self, other: "Rule") -> bool:
        """Whether it matches whatever `other` matches, wherever that counts, as far as their words tell."""
        named = dict(other.subject)
        return (
            self.issuer_spki_sha256 in ("", other.issuer_spki_sha256)
            and all(named.get(kind) == values for kind, values in self.subject)
            and (not self.san or _covers_names(self.san, other.san))
            and (not self.ports or (bool(other.ports) and other.ports <= self.ports))
        )

    def excludes(self, other: "Rule") -> bool:
        """Whether no certificate at any port can match both: a kind that both name has other values in each."""
        named = dict(other.subject)
        apart = self.ports and other.ports and not self.ports & other.ports
        return bool(apart) or any(named.get(kind, values) != values for kind, values in self.subject)

    def users(self, certificate: Bearer, known: Mapping[str, Account]) -> frozenset[str]:
        """Whom the rule means for a certificate that it matches; only users of `known`, never `Default`."""
        if self.user is not None:
            return frozenset({self.user})
        if self.user_from == "cn":
            values: Iterable[str] = certificate.subject.values("CN")
        else:
            kind = f"{(self.user_from or '').removeprefix('san_')}:"
            values = (n[len(kind) :] for n in certificate.alternative_names if n.startswith(kind))
        return frozenset(value for value in values if value in known and value != "Default")


def _covers_names(pattern: str, other: str) -> bool:
    """Whether each name that fits `other` fits `pattern`."""
    if pattern == other:
        return True
    if not pattern.startswith("dns:") or not other.startswith("dns:"):
        return False
    wide, narrow = pattern[4:].lower().split("."), other[4:].lower().split(".")
    return len(wide) == len(narrow) and all(
        one in ("*", two) and (one != "*" or two == "*" or _is_label(two))
        for one, two in zip(wide, narrow, strict=True)
    )


def _is_label(text: str) -> bool:
    return san_matches("dns:*", f"dns:{text}")


@dataclass(frozen=True, slots=True)
class Mappings:
    """`exact`: SHA-256 → what is on file.

    Rules lie in buckets, each under one of its conditions, so that a certificate is held against those alone that
    share something with it, however many there are.
    """

    exact: Mapping[str, OnFile]
    buckets: Mapping[tuple[object, ...], tuple[Rule, ...]] = field(default_factory=dict)
    rules: int = 0
    _known: dict[str, tuple[tuple[Chained, ...], list[tuple[int, list[Rule]]]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of(cls, exact: Mapping[str, OnFile], rules: Iterable[Rule]) -> "Mappings":
        buckets: dict[tuple[object, ...], tuple[Rule, ...]] = {}
        count = 0
        for rule in rules:
            key = _bucket(rule)
            buckets[key] = (*buckets.get(key, ()), rule)
            count += 1
        return cls(exact, buckets, count)

    def with_rules(self, *, removed: Iterable[Rule], added: Iterable[Rule]) -> "Mappings":
        """The same with other rules; it costs what changes, and a copy of the index."""
        buckets, count = dict(self.buckets), self.rules
        for rule in removed:
            key = _bucket(rule)
            left = tuple(other for other in buckets[key] if other is not rule)
            count -= len(buckets[key]) - len(left)
            if left:
                buckets[key] = left
            else:
                del buckets[key]
        for rule in added:
            key = _bucket(rule)
            buckets[key] = (*buckets.get(key, ()), rule)
            count += 1
        return Mappings(self.exact, buckets, count)

    def tiers(self, certificate: Bearer, chain: tuple[Chained, ...]) -> list[tuple[int, list[Rule]]]:
        """The rules that match, by ascending priority, and by name within one. Remembered, for they never change."""
        known = self._known.get(certificate.sha256)
        # A verdict is remembered too, so the chain is most often the very one: a hash of it would cost the most here.
        if known is None or (known[0] is not chain and known[0] != chain):
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[certificate.sha256] = chain, self._find(certificate, chain)
        return known[1]

    def _find(self, certificate: Bearer, chain: tuple[Chained, ...]) -> list[tuple[int, list[Rule]]]:
        found: dict[int, list[Rule]] = {}
        for key in _buckets_of(certificate, chain):
            for rule in self.buckets.get(key, ()):
                if rule.misses(certificate, chain) is None:
                    found.setdefault(rule.priority, []).append(rule)
        return [(priority, sorted(found[priority], key=lambda rule: rule.name)) for priority in sorted(found)]


_REMEMBERED = 4096  # certificates whose rules are
_ANY = ("any",)


def _bucket(rule: Rule) -> tuple[object, ...]:
    """The condition that fewest certificates fulfil, as far as that can be told."""
    named = {kind: values for kind, values in rule.subject if values}
    for kind in (*_TELLING, *named):
        if kind in named:
            return "subject", kind, named[kind]
    if rule.san:
        kind, _, wanted = rule.san.partition(":")
        head, _, rest = wanted.partition(".")
        if kind != "dns":
            return "san", rule.san
        if "*" not in rest:
            return "san", f"dns:{'*' if head == '*' else head.lower()}.{rest.lower()}" if rest else rule.san.lower()
    return ("issuer", rule.issuer_spki_sha256) if rule.issuer_spki_sha256 else _ANY


_TELLING = ("CN", "serialNumber", "UID", "emailAddress", "OU")  # kinds of attributes, the most telling first


def _buckets_of(certificate: Bearer, chain: tuple[Chained, ...]) -> set[tuple[object, ...]]:
    """Each bucket that may hold a rule for the certificate."""
    keys: set[tuple[object, ...]] = {_ANY, *(("issuer", above.spki_sha256) for above in chain)}
    subject = certificate.subject
    for kind in {kind for rdn in subject.rdns for kind, _ in rdn}:
        keys.add(("subject", kind, tuple(sorted(folded(value) for value in subject.values(kind)))))
    for name in certificate.alternative_names:
        keys.add(("san", name))
        if name.startswith("dns:"):
            keys.add(("san", f"dns:*.{name.partition('.')[2]}"))
    return keys


@dataclass(slots=True)
class Resolution:
    """`rules`: names of those that decided; empty where none did."""

    user: str | None
    reason: IdentityReason | None
    steps: list[Step] = field(default_factory=list)
    until: float = FOREVER  # seconds since 1970-01-01 UTC; after it another answer may follow
    rules: tuple[str, ...] = ()


def resolve(
    certificate: Bearer,
    chain: tuple[Chained, ...],
    mappings: Mappings,
    known: Mapping[str, Account],
    port: str,
    now: float,
) -> Resolution:
    """The one user that `certificate` runs as at `port`, or the reason why nobody. Total: never raises.

    Args:
        now: seconds since 1970-01-01 UTC.
        chain: the verified issuers of the certificate, nearest first.
        known: users that exist, by name: what `user_from` may yield.
        port: the name of the port where the request entered this node.
    """
    steps: list[Step] = []
    until = FOREVER
    on_file = mappings.exact.get(certificate.sha256)
    if on_file is not None:
        found: Words = ("certificate …{0} is on file as {1}", certificate.sha256[-8:], on_file.name)
        why = _why_not(on_file, port, now)
        if why:
            return _nobody(Step("mapping", False, found, why))
        until = on_file.logs_in_until
        if on_file.user is not None:
            steps.append(Step("mapping", True, found, ("mapped to user {0}", on_file.user)))
            return _as(on_file.user, known, port, steps, until)
        steps.append(Step("mapping", True, found, "mapped to nobody; rules are tried next"))
    elsewhere: list[str] = []
    for priority, matching in mappings.tiers(certificate, chain):
        counting = [rule for rule in matching if usable_at(rule.ports, port)]
        if len(counting) != len(matching):
            elsewhere += (rule.name for rule in matching if rule not in counting)
            if not counting:
                continue
        users = counting[0].users(certificate, known)
        for rule in counting[1:]:
            users |= rule.users(certificate, known)
        names = tuple(rule.name for rule in counting)
        if len(users) > 1:  # refused, never guessed: rows carry no order
            named: Words = ("rules {0} of priority {1}", names, priority)
            steps.append(Step("mapping", False, named, ("they name different users: {0}", users)))
            return Resolution(None, IdentityReason.MAPPING_AMBIGUOUS, steps, until, names)
        if users:
            (user,) = users
            chosen: Words = ("rule {0} of priority {1}", names, priority)
            steps.append(Step("mapping", True, chosen, ("runs as user {0}", user)))
            return _as(user, known, port, steps, until, names)
    against: Words = "not mapped on file"
    if mappings.rules:
        against = ("not mapped on file; no mapping rule matches ({0} in all)", mappings.rules)
    if elsewhere:
        against = ("not mapped on file; rules {0} match, and are not for port {1}", tuple(elsewhere), port)
    steps.append(Step("mapping", False, ("certificate …{0}, {1}", certificate.sha256[-8:], certificate.title), against))
    return _nobody(*steps, until=until)


def _nobody(*steps: Step, until: float = FOREVER) -> Resolution:
    return Resolution(None, IdentityReason.CERTIFICATE_UNMAPPED, list(steps), until)


def _why_not(on_file: OnFile, port: str, now: float) -> Words:
    """Why a certificate on file logs nobody in at `port`, whatever it or a rule says; "" where it may."""
    if on_file.blocked:
        return "it is blocked, and logs nobody in by a rule either"
    if not on_file.logs_in:
        return "it is there for another use than logging in, and logs nobody in by a rule either"
    if now >= on_file.logs_in_until:
        end = f"{datetime.fromtimestamp(on_file.logs_in_until, UTC):%Y-%m-%d %H:%M} UTC"
        return "it was replaced, to log in until {0}, and logs nobody in by a rule either", end
    if not usable_at(on_file.ports, port):
        return "it is for ports {0} only, and logs nobody in at port {1}, by a rule either", on_file.ports, port
    return ""


def _as(
    name: str,
    known: Mapping[str, Account],
    port: str,
    steps: list[Step],
    until: float,
    rules: tuple[str, ...] = (),
) -> Resolution:
    """The user that was found, if he is there, enabled, and for this port. No other rule is asked in his place: to
    block a user must never make his certificate run as somebody else."""
    user, found = known.get(name), ("user {0}", name)
    if user is None or not user.enabled:
        steps.append(Step("user", False, found, "disabled"))
        return Resolution(None, IdentityReason.USER_DISABLED, steps, until, rules)
    if not usable_at(user.ports, port):
        against: Words = ("the user is for ports {0} only, and this is port {1}", user.ports, port)
        steps.append(Step("user", False, found, against))
        return Resolution(None, IdentityReason.CERTIFICATE_UNMAPPED, steps, until, rules)
    return Resolution(name, None, steps, until, rules)
