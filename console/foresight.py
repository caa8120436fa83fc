"""What a mapping rule would do, before it is saved: to the certificates on file, and to the other rules.

Decided by `mapping.resolve` with the rule in place, as nodes will decide, for every certificate on file that the rule
can concern: the database finds those by what the rule names, however many there are besides.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext, ngettext

from console.certificate_preview import Finding, Link, Mark, finding
from console.nouns import url_of
from identity.core import mapping
from identity.core.certificates import Certificate as Parsed
from identity.core.mapping import ANYWHERE, FOREVER, Mappings, OnFile, Resolution, Rule, usable_at
from identity.core.names import DistinguishedName, comparable_line, folded, from_comparable
from identity.core.reasons import IdentityReason
from identity.models import Certificate, MappingRule, TrustedCertificate, Usage, User

EXAMPLES = 5  # certificates that are named of each kind of outcome
RULES_SHOWN = 8
ELSEWHERE = ""  # stands for every port that nothing is limited to
_COLUMNS = ("name", "sha256", "subject", "subject_values", "alternative_names", "issuer", "user__name", "usage",
            "blocked", "logs_in_until", "limit")  # fmt: skip


@dataclass(slots=True)
class Fate:
    """What becomes of some certificates on file: in words, how many they are, and the names of the first of them."""

    mark: Mark
    words: str
    count: int = 0
    examples: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    @property
    def more(self) -> int:
        return self.count - len(self.examples)


@dataclass(frozen=True, slots=True)
class Foresight:
    """Of a rule that is not saved yet.

    Attributes:
        matches: certificates on file that all of its conditions hold for.
        fates: of those, and of those that it matched before; the worst first.
        rules: how it stands to other rules, whatever is on file.
        by_issuer: whether an issuer was looked for, which only a port verifies.
    """

    matches: int
    fates: list[Fate]
    rules: list[Finding]
    by_issuer: bool

    @property
    def grave(self) -> bool:
        """Whether somebody would be refused, or run as somebody else, who is not now."""
        return any(each.mark == "bad" for each in (*self.fates, *self.rules))


class _Bearer:
    """A certificate on file as far as mapping reads it, from its columns: nothing is parsed for 100,000 of them."""

    __slots__ = ("_subject", "_values", "alternative_names", "sha256", "title")

    def __init__(self, sha256: str, title: str, values: str, names: str) -> None:
        self.sha256, self.title, self._values = sha256, title, values
        self.alternative_names = tuple(names.split("\n")) if names else ()
        self._subject: DistinguishedName | None = None

    @property
    def subject(self) -> DistinguishedName:
        if self._subject is None:
            if self._values:
                self._subject = from_comparable(self._values)
            else:
                self._subject = Certificate.objects.filter(sha256=self.sha256)[0].certificate.subject
        return self._subject


@dataclass(frozen=True, slots=True)
class _Account:
    enabled: bool
    ports: frozenset[str]


def foresee(row: MappingRule) -> Foresight:
    """`row` is valid, and need not be saved."""
    others = {rule.name: rule.value for rule in MappingRule.objects.filter(enabled=True).exclude(pk=row.pk)
              .select_related("user")}  # fmt: skip
    stored = MappingRule.objects.filter(pk=row.pk, enabled=True).select_related("user").first()
    old, draft = stored.value if stored else None, row.value if row.enabled else None
    comparison = _Comparison(old, draft, list(others.values()))
    for certificate in _concerned([rule for rule in (old, draft) if rule is not None], comparison.chains):
        comparison.look_at(certificate)
    rules = list(_beside(draft, others.values())) if draft else []
    ranks = {"bad": 0, "note": 1, "good": 2}
    fates = sorted(comparison.fates.values(), key=lambda fate: (ranks[fate.mark], -fate.count))
    named = Certificate.objects.in_bulk({name for fate in fates for name in fate.examples}, field_name="name")
    for fate in fates:
        fate.links = [Link(name, url_of(named[name]) or "") for name in fate.examples]
    return Foresight(comparison.matches, fates, rules, bool(draft and draft.issuer_spki_sha256))


class _Comparison:
    """Each certificate, decided without the change and with it."""

    def __init__(self, old: Rule | None, draft: Rule | None, others: list[Rule]) -> None:
        self.matches = 0
        self.fates: dict[str, Fate] = {}
        self.chains = _Chains()
        self._now = time.time()
        self._old, self._draft = old, draft
        self._exact: dict[str, OnFile] = {}  # of the certificate that is being looked at, alone
        self._before = Mappings.of(self._exact, others + ([old] if old else []))
        self._after = Mappings.of(self._exact, others + ([draft] if draft else []))
        self._users = {
            name: _Account(enabled, frozenset(ports))
            for name, enabled, ports in User.objects.values_list("name", "enabled", "ports")
        }
        limits = [*(rule.ports for rule in (*others, *(rule for rule in (old, draft) if rule))),
                  *(user.ports for user in self._users.values())]  # fmt: skip
        self._ports = [ELSEWHERE, *sorted(frozenset[str]().union(*limits))]

    def look_at(self, row: tuple[Any, ...]) -> None:
        name, sha256, subject, values, names, issuer, user, usage, blocked, end, limit = row
        certificate = _Bearer(sha256, subject, values, names)
        chain = self.chains.of(issuer)
        hit = self._draft is not None and self._draft.misses(certificate, chain) is None
        lost = not hit and self._old is not None and self._old.misses(certificate, chain) is None
        if not (hit or lost):
            return
        self.matches += hit
        ports = ANYWHERE if limit == "[]" else frozenset(json.loads(limit))
        until = FOREVER if end is None else end.timestamp()
        on_file = OnFile(name, user, usage == Usage.SSL_AUTHENTICATION, blocked, ports, until)
        self._exact.clear()
        self._exact[sha256] = on_file
        told = set()
        for port in sorted(ports) or self._ports:
            fate = self._fate(certificate, chain, on_file, port, hit)
            if fate is not None and fate not in told:  # what happens everywhere is not said again of each port
                told.add(fate)
                mark, words = fate
                if port:
                    words = gettext("{fate} (at port {port})").format(fate=words, port=port)
                self._note(mark, words, name)

    def _fate(
        self, certificate: _Bearer, chain: tuple[Parsed, ...], on_file: OnFile, port: str, hit: bool
    ) -> tuple[Mark, str] | None:
        """In words; None where nothing of it concerns this port."""
        draft = self._draft
        if hit and draft is not None and not usable_at(draft.ports, port):
            hit = False
        replaced = self._now >= on_file.logs_in_until
        if on_file.user is not None or on_file.blocked or replaced or not on_file.logs_in:
            if not hit:
                return None
            if on_file.blocked:
                return "note", gettext("would log nobody in: blocked")
            if not on_file.logs_in:
                return "note", gettext("would log nobody in: on file for another use")
            if replaced:
                return "note", gettext("would log nobody in: replaced, and the overlap is over")
            return "note", gettext("would be decided by a mapping of their own, which comes before every rule")
        before = mapping.resolve(certificate, chain, self._before, self._users, port, self._now)
        after = mapping.resolve(certificate, chain, self._after, self._users, port, self._now)
        return _told(before, after, draft if hit else None)

    def _note(self, mark: Mark, words: str, example: str) -> None:
        fate = self.fates.setdefault(words, Fate(mark, words))
        fate.count += 1
        if len(fate.examples) < EXAMPLES:
            fate.examples.append(example)


def _told(before: Resolution, after: Resolution, draft: Rule | None) -> tuple[Mark, str] | None:
    """What becomes of a certificate that is left to rules. `draft`: the rule, where it matches here."""
    if after.reason is IdentityReason.MAPPING_AMBIGUOUS:
        rules = ", ".join(after.rules)
        if before.reason is IdentityReason.MAPPING_AMBIGUOUS:
            words = gettext("would stay ambiguous, and refused: rules {rules} name different users")
            return "note", words.format(rules=rules)
        words = gettext("would become ambiguous, and be refused: rules {rules} name different users")
        return "bad", words.format(rules=rules)
    if draft is None:  # it matched them before, and does not now
        if (before.user, before.reason) == (after.user, after.reason):
            return None
        if after.user is None:
            return "bad", gettext("would no longer run as {user}, and be refused").format(user=before.user)
        words = gettext("would run as {user} instead of {before}, by rule {rule}")
        return "bad", words.format(
            user=after.user, before=before.user or gettext("nobody"), rule=", ".join(after.rules) or gettext("none")
        )
    if draft.name not in after.rules:
        if not after.rules:
            return "note", gettext("would match, and name no user that there is")
        return "note", gettext("would be decided by rule {rule}, which comes before it").format(
            rule=", ".join(after.rules)
        )
    if after.user is None:
        return "note", gettext("would be refused: its user is disabled, or for other ports")
    if before.user is None:
        return "good", gettext("would be let in, as {user}").format(user=after.user)
    if before.user == after.user:
        return "good", gettext("would run as {user}, as now").format(user=after.user)
    words = gettext("would run as {user} instead of {before}: it comes before rule {rule}")
    return "bad", words.format(user=after.user, before=before.user, rule=", ".join(before.rules) or gettext("none"))


# --- finding the certificates --------------------------------------------------------------------------------


def _concerned(rules: list[Rule], chains: "_Chains") -> Iterator[tuple[Any, ...]]:
    """Columns of every certificate on file that one of the rules can match, and of some that none does."""
    if not rules:
        return iter(())
    condition = Q()
    for rule in rules:
        condition |= _condition(rule, chains)
    return (
        Certificate.objects.filter(condition)
        .annotate(limit=Cast("ports", TextField()))
        .order_by("name")
        .values_list(*_COLUMNS)
        .iterator(5000)
    )


def _condition(rule: Rule, chains: "_Chains") -> Q:
    """What a certificate's columns are where the rule matches it."""
    found = Q()
    for kind, values in rule.subject:
        for value in values:
            found &= Q(subject_values__contains=comparable_line(kind, value))
    if found:
        found |= Q(subject_values="")  # stored by a version that did not know the column: looked at one by one
    if rule.san:
        found &= Q(alternative_names__contains=_literal(rule.san))
    if rule.issuer_spki_sha256:
        found &= Q(issuer__in=chains.names_below(rule.issuer_spki_sha256))
    return found


def _literal(san: str) -> str:
    """The longest part of a pattern that stands in every name that fits it."""
    kind, _, value = san.partition(":")
    if kind != "dns":
        return san
    return max(value.lower().split("*"), key=len)


class _Chains:
    """Issuers of certificates on file by their names: the stored authorities. Who really signed, a port finds out."""

    def __init__(self) -> None:
        authorities = {row.sha256: row.certificate for row in TrustedCertificate.objects.all()}
        self._by_name: dict[str, list[Parsed]] = {}
        for authority in authorities.values():
            self._by_name.setdefault(folded(authority.subject.text), []).append(authority)
        self._known: dict[str, tuple[Parsed, ...]] = {}

    def of(self, issuer: str) -> tuple[Parsed, ...]:
        """Every stored authority at or above this name."""
        known = self._known.get(issuer)
        if known is None:
            known = self._known[issuer] = tuple(self._above(folded(issuer), set()))
        return known

    def _above(self, name: str, seen: set[str]) -> Iterator[Parsed]:
        if name in seen:
            return
        seen.add(name)
        for authority in self._by_name.get(name, ()):
            yield authority
            yield from self._above(folded(authority.issuer.text), seen)

    def names_below(self, spki_sha256: str) -> list[str]:
        """Names of issuers, as certificates on file have them, that lead to the authority with this key."""
        leading = {
            name
            for name in self._by_name
            if any(above.spki_sha256 == spki_sha256 for above in self._above(name, set()))
        }
        texts = {each.subject.text for name in leading for each in self._by_name[name]}
        written = Certificate.objects.order_by().values_list("issuer", flat=True).distinct()
        return sorted(texts | {text for text in written.iterator(5000) if folded(text) in leading})


# --- other rules ---------------------------------------------------------------------------------------------


def _beside(draft: Rule, others: Iterable[Rule]) -> Iterator[Finding]:
    """How the rule stands to the others, by their words alone; the worst first, and no more than can be read."""
    found = [each for rule in others if (each := _between(draft, rule)) is not None]
    found.sort(key=lambda each: each.mark != "bad")
    yield from found[:RULES_SHOWN]
    if (more := len(found) - RULES_SHOWN) > 0:
        words = ngettext("and {count} more rule overlaps with it", "and {count} more rules overlap with it", more)
        yield finding("note", words, count=more)


def _between(draft: Rule, rule: Rule) -> Finding | None:
    if draft.excludes(rule):
        return None
    wider, narrower = rule.covers(draft), draft.covers(rule)
    same = rule.user is not None and rule.user == draft.user
    link = _link(rule)
    if rule.priority == draft.priority:
        if same or not (wider or narrower or (rule.user and draft.user)):
            return None
        if wider and rule.user and draft.user:
            words = gettext(
                "All that it matches would be refused: rule {rule} matches that too, in the same priority, "
                "and names {user}."
            )
            return finding("bad", words, rule=link, user=rule.user)
        if narrower and rule.user and draft.user:
            words = gettext(
                "All that rule {rule} matches would be refused: this rule matches that too, in the same priority, "
                "and the other names {user}."
            )
            return finding("bad", words, rule=link, user=rule.user)
        words = gettext("Whoever matches both this rule and rule {rule} is refused: they have one priority.")
        return finding("note", words, rule=link)
    if rule.priority < draft.priority and wider:
        if rule.user:
            words = gettext("It decides nothing: rule {rule} is tried before it and matches all of that.")
        else:
            words = gettext(
                "It decides nothing: rule {rule} is tried before it and matches all of that, "
                "unless the certificate names no user that there is."
            )
        return finding("note", words, rule=link)
    if draft.priority < rule.priority and narrower:
        if draft.user:
            words = gettext("Rule {rule} would decide nothing: this rule is tried before it and matches all of that.")
        else:
            words = gettext(
                "Rule {rule} would decide nothing: this rule is tried before it and matches all of that, "
                "unless the certificate names no user that there is."
            )
        return finding("note" if same else "bad", words, rule=link)
    return None


def _link(rule: Rule) -> Link:
    row = MappingRule.objects.get(name=rule.name)
    return Link(rule.name, url_of(row) or "")
