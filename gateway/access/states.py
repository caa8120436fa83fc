"""The two states that an answer about a change compares: read, and cut down to whom and what has to be asked.

A change that is made is read while it is there, and what was before it when it is taken back (`Made`); of one that is
sketched everything is read at once (`Sketched`).
"""

import hashlib
import ssl
from collections.abc import Mapping

from gateway.access import records
from gateway.access.answers import Asker, examples, parsed
from gateway.access.crowd import Crowd, Held, Holdings, stand_in
from gateway.access.places import Place, places
from gateway.access.records import OnFile
from gateway.audit import Recorder
from gateway.sketch import Sketch
from gateway.world import World
from identity.core.certificates import Certificate as Parsed
from identity.models import Certificate, MappingRule, Truststore, User

EXAMINED = 1000  # certificates that are asked one by one
AT_ONCE = 500  # values in one query


class States:
    """What both kinds come to.

    Attributes:
        before, after: with the mappings of every certificate that is asked about.
        crowd: the users of both; `plan`: which of them, and which places, have to be asked.
        singles: certificates that are asked one by one, by SHA-256.
        examples: certificates that stand for others, by SHA-256 or by what stands in for them.
        unexamined: certificates that a rule may mean and that were too many to ask.
    """

    before: World
    after: World
    examples: Mapping[str, Parsed]

    def __init__(self, before: World, after: World, held: tuple[Holdings, Holdings], renamed: dict[str, str],
                 now: float) -> None:  # fmt: skip
        self.crowd = Crowd([before.users, after.users], held, renamed)
        self.plan = Plan(Asker(before, now), Asker(after, now), self.crowd)
        self.singles: dict[str, OnFile] = {}
        self.unexamined = 0
        self.standing = {sha256 for state in (0, 1) for sha256 in examples(self.crowd, state, self.plan.blocks())}

    def ask_those_left_to_rules(self) -> None:
        """Where rules, authorities or users change, others than those that are touched may mean somebody else."""
        found = records.left_to_rules(EXAMINED)
        if len(found) >= EXAMINED:
            self.unexamined = max(0, Certificate.objects.left_to_rules().count() - EXAMINED)
        self.singles = found | self.singles


class Made(States):
    """Of a change that is made and will be taken back: to be read inside its change set."""

    def __init__(self, before: World, held: Holdings, recorder: Recorder, now: float) -> None:
        touched = recorder.touched(Certificate)
        self._touched_before = {sha256 for entry in touched.values() if entry for sha256 in [_sha256(entry)]}
        self._before = before
        after = records.after(before, recorder.so_far())
        renamed = _renamed(recorder)
        held = _without(held, self._touched_before)
        held_after = _under_new_names(held, {old: new for new, old in renamed.items()})
        super().__init__(before, after, (held, held_after), renamed, now)
        self.singles = records.by_key(touched)
        if recorder.touched(MappingRule) or recorder.touched(Truststore) or recorder.touched(User):
            self.ask_those_left_to_rules()
        self.after = records.knowing(after, self._asked())

    def recall(self) -> None:
        """What is stored again now that the change is taken back."""
        gone = self._touched_before - self.singles.keys()
        self.singles = records.by_fingerprint(gone) | self.singles
        self.before = records.knowing(self._before, self._asked())
        self.examples = parsed(self.standing, self.crowd, self.before, self.after)

    def _asked(self) -> set[str]:
        return self.standing | self.singles.keys() | self._touched_before


class Sketched(States):
    """Of one row that is not written."""

    def __init__(self, before: World, after: World, held: Holdings, sketch: Sketch, now: float) -> None:
        row = sketch.after
        singles = {row.sha256: OnFile(row.name, row.certificate)} if isinstance(row, Certificate) else {}
        held = _without(held, set(singles))
        super().__init__(before, after, (held, held), {}, now)
        self.singles = singles
        if isinstance(row, User):
            self.ask_those_left_to_rules()
        asked = self.standing | self.singles.keys()
        self.before, self.after, found = records.both_knowing(before, after, sketch, asked, self.standing)
        rules = self.crowd.issuers_of_rules()
        self.examples = found | records.stand_ins(self.standing, rules, self.before, self.after)


def _sha256(entry: Mapping[str, object]) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(str(entry["certificate"]))).hexdigest()


def _without(held: Holdings, fingerprints: set[str]) -> Holdings:
    """Holdings that are not stood for by a certificate which the change touches: that is asked by itself."""
    return {
        user: {credential: each for credential, each in found.items() if each.example not in fingerprints}
        for user, found in held.items()
    }


def _renamed(recorder: Recorder) -> dict[str, str]:
    """New name → old name of the users whose name changes."""
    touched = {pk: entry["name"] for pk, entry in recorder.touched(User).items() if entry}
    if not touched:
        return {}
    names = dict(User.objects.filter(pk__in=list(touched)[:AT_ONCE]).values_list("pk", "name"))
    return {names[pk]: old for pk, old in touched.items() if pk in names and names[pk] != old}


def _under_new_names(held: Holdings, renamed: Mapping[str, str]) -> Holdings:
    """What they hold is the same, but for what stands in for a rule: that goes by the name."""
    found = dict(held)
    for old, new in renamed.items():
        theirs = found.pop(old, {})
        found[new] = {
            credential: Held(0, stand_in(new)) if credential.kind == "rule" else each
            for credential, each in theirs.items()
        }
    return found


class Plan:
    """Which places and which users have to be asked: where neither differs, nothing can."""

    def __init__(self, before: Asker, after: Asker, crowd: Crowd) -> None:
        self.groups: list[tuple[list[Place], list[int], bool]] = []
        alike: dict[tuple[object, ...], list[Place]] = {}
        for place in dict.fromkeys([*places(before.world), *places(after.world)]):
            key = (place.port, before.course(place).key, after.course(place).key)
            alike.setdefault(key, []).append(place)
        for found in alike.values():
            old, new = before.course(found[0]), after.course(found[0])
            changed = old.key != new.key or old.parts != new.parts
            within = crowd.everybody if changed else crowd.changed
            memberships = old.memberships | new.memberships
            self.groups.append((found, crowd.blocks(memberships, within) if within else [], changed))

    def blocks(self) -> set[int]:
        return {block for _, blocks, _ in self.groups for block in blocks}
