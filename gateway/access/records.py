"""What answers about access need of the database: each a query or two, however much is stored."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from django.db.models import Count, Min, Q

from gateway import audit
from gateway.access.crowd import Credential, Held, stand_in
from gateway.core.document import from_document
from gateway.drafts import Drafts, documents
from gateway.models import Change, ChangeSet
from gateway.node_sections import CERTIFICATE, Section, certificates_of, certificates_on_file, with_row
from gateway.sketch import Sketch
from gateway.world import World
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import from_der
from identity.core.chains import vouch
from identity.core.names import DistinguishedName
from identity.models import Certificate, MappingRule, User

_AT_ONCE = 500  # values in one query
_HOLD = timedelta(seconds=60)
_RULE = stand_in("")


@dataclass(frozen=True, slots=True)
class OnFile:
    """A certificate on file, parsed."""

    name: str
    value: Parsed


def world(certificates: Collection[str] = (), before: World | None = None) -> World:
    """What is stored now. `certificates`: whose mappings are asked for, by SHA-256."""
    return World.of(documents(certificates=certificates), before)


def in_force() -> World:
    """What is stored, kept until something is changed; not for use inside a change set."""
    return _kept(None)[0]


def after(before: World, changes: Sequence[Change]) -> World:
    """`in_force` with changes that were made since and are not recorded yet: inside their change set."""
    if _renames_groups_alone(changes):
        return before
    with _lock:
        kept = _keeping(before)
        found = kept.drafts.after(changes) if kept is not None else documents(certificates=())
    return World.of(found, before)


def sketched(before: World, sketch: Sketch) -> World | None:
    """`in_force` with one row as it is sketched; None where something else is in force by now."""
    with _lock:
        kept = _keeping(before)
        found = kept.drafts.sketched(sketch) if kept is not None else None
    return World.of(found, before) if found is not None else None


def is_in_force(known: World) -> bool:
    """Whether nothing was changed since `in_force` gave this world."""
    with _lock:
        kept = _keeping(known)
        return kept is not None and kept.mark == audit.in_force()


def in_force_with_holdings(now: datetime) -> tuple[World, dict[str, dict[Credential, Held]]]:
    """Besides who can log in by what; that grows old with time too, and is kept for a minute."""
    known, found = _kept(now)
    assert found is not None
    return known, found


@dataclass(slots=True)
class _Kept:
    """The last world that was asked for, in this process."""

    mark: tuple[int, datetime] | None
    drafts: Drafts
    world: World
    holdings: dict[str, dict[Credential, Held]] | None = None
    until: datetime | None = None


_lock = Lock()
_last: list[_Kept] = []


def _keeping(known: World) -> _Kept | None:
    return next((each for each in _last if each.world is known), None)


def _kept(now: datetime | None) -> tuple[World, dict[str, dict[Credential, Held]] | None]:
    with _lock:
        mark = audit.in_force()
        if not _last or _last[0].mark != mark:
            # What was changed since is followed, unless this is another database by now.
            before = _last[0] if _last and _is_recorded(_last[0].mark) else None
            drafts = before.drafts if before else Drafts()
            known = before.world if before else None
            _last[:] = [_Kept(mark, drafts, World.of(drafts.documents(), known))]
        kept = _last[0]
        if now is not None and (kept.until is None or now >= kept.until):
            kept.holdings, kept.until = holdings(now), now + _HOLD
        return kept.world, kept.holdings


def _is_recorded(mark: tuple[int, datetime] | None) -> bool:
    return mark is not None and ChangeSet.objects.filter(pk=mark[0], at=mark[1]).exists()


def _renames_groups_alone(changes: Iterable[Change]) -> bool:
    """Also adds some: nobody is a member of a new one yet, and by what name one goes makes no difference."""
    return all(change.kind == "groups" and change.after is not None for change in changes)


def knowing(known: World, examples: Collection[str]) -> World:
    """The same world, with the mappings of these certificates as they are stored now.

    `examples`: fingerprints, and what stands in for those that only a rule means.
    """
    return _with(known, certificates_of(certificates_on_file(_asked(known, examples))), examples)


def both_knowing(
    before: World, after: World, sketch: Sketch, examples: Collection[str], wanted: Collection[str]
) -> tuple[World, World, dict[str, Parsed]]:
    """`knowing` of the world in force and of the one that is sketched, by one query; and those `wanted`, parsed."""
    rows = certificates_on_file(_asked(before, examples), "der")
    parsed = {row[1]: from_der(bytes(row[-1])) for row in rows if row[1] in wanted}
    stored = [row[: len(CERTIFICATE)] for row in rows]
    drawn = with_row(stored, sketch.after) if isinstance(sketch.after, Certificate) else stored
    known = _with(before, certificates_of(stored), examples)
    return known, _with(after, certificates_of(drawn), examples), parsed


def _asked(known: World, examples: Collection[str]) -> set[str]:
    """Fingerprints of these certificates, and of those that endpoints show."""
    shown = {
        endpoint.keystore.certificate.sha256
        for snapshot in known.snapshots.values()
        for endpoint in snapshot.endpoints.values()
        if endpoint.keystore is not None
    }
    return shown | {each for each in examples if not each.startswith(_RULE)}


def _with(known: World, section: Section, examples: Collection[str]) -> World:
    standing_in = {
        each: {"name": each, "user": each.removeprefix(_RULE), "logs_in": True, "blocked": False}
        for each in examples
        if each.startswith(_RULE)
    }
    section = section | standing_in
    return World(
        {
            node: from_document(snapshot.document | {"certificates": section}, snapshot)
            for node, snapshot in known.snapshots.items()
        },
        known.memory,
    )


def holdings(now: datetime) -> dict[str, dict[Credential, Held]]:
    """Who could log in by certificates of which issuers now, on file or by a rule."""
    rows = Certificate.objects.logging_in().filter(not_before__lte=now, not_after__gte=now)
    rows = rows.filter(Q(logs_in_until=None) | Q(logs_in_until__gte=now))
    grouped = rows.order_by().values_list("user__name", "issuer").annotate(count=Count("pk"), example=Min("sha256"))
    found: dict[str, dict[Credential, Held]] = {}
    for user, issuer, count, example in grouped:
        found.setdefault(user, {})[Credential("certificate", issuer)] = Held(count, example)
    rules = MappingRule.objects.filter(enabled=True).order_by("priority", "name")
    for user, issuer in rules.values_list("user__name", "issuer_spki_sha256"):
        named = [user] if user else User.objects.mappable().values_list("name", flat=True)
        for name in named:
            held = found.setdefault(name, {})
            if not any(credential.kind == "rule" for credential in held):
                held[Credential("rule", issuer)] = Held(0, stand_in(name))
    return found


def stand_ins(examples: Iterable[str], issuers: Mapping[str, str], *worlds: World) -> dict[str, Parsed]:
    """For each example that is none, a certificate that is believed wherever its rule's issuer is.

    `issuers`: stand-in → the key of the issuer that the rule names; "" for any.
    """
    found = {each: _unseen(each) for each in examples if each.startswith(_RULE)}
    truststores = [store for each in worlds for snapshot in each.snapshots.values()
                   for store in snapshot.truststores.values()]  # fmt: skip
    for example, certificate in found.items():
        for store in truststores:
            wanted = issuers[example]
            vouch(certificate, store, not wanted or any(anchor.spki_sha256 == wanted for anchor in store.anchors))
    return found


def _unseen(example: str) -> Parsed:
    nobody = DistinguishedName((), "")
    return Parsed(b"", example, "", nobody, nobody, 0, 0.0, 0.0, (), None, False, "", "", None)  # type: ignore[arg-type]


def by_fingerprint(fingerprints: Iterable[str]) -> dict[str, OnFile]:
    listed = sorted(set(fingerprints))
    found: dict[str, OnFile] = {}
    for start in range(0, len(listed), _AT_ONCE):
        rows = Certificate.objects.filter(sha256__in=listed[start : start + _AT_ONCE])
        found |= {sha256: OnFile(name, from_der(bytes(der))) for sha256, name, der in _columns(rows)}
    return found


def by_key(keys: Iterable[str]) -> dict[str, OnFile]:
    listed = sorted({str(key) for key in keys})
    found: dict[str, OnFile] = {}
    for start in range(0, len(listed), _AT_ONCE):
        rows = Certificate.objects.filter(pk__in=listed[start : start + _AT_ONCE])
        found |= {sha256: OnFile(name, from_der(bytes(der))) for sha256, name, der in _columns(rows)}
    return found


def left_to_rules(limit: int) -> dict[str, OnFile]:
    """Certificates on file that only a mapping rule gives a user; the first `limit` of them."""
    rows = Certificate.objects.left_to_rules().order_by("name")[:limit]
    return {sha256: OnFile(name, from_der(bytes(der))) for sha256, name, der in _columns(rows)}


def _columns(rows: "Iterable[Certificate]") -> "Iterable[tuple[str, str, bytes]]":
    return rows.values_list("sha256", "name", "der")  # type: ignore[attr-defined, no-any-return]
