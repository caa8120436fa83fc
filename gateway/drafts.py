"""Documents of all nodes for answers about them: as they are, and as a change would make them. None is put in force.

A change is either made and not recorded yet, and then read as it is stored; or it is one row that is sketched, and
then nothing was written: what is not of this row is what was read for the revision in force.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from django.db.models import Model

from gateway.audit import current_revision
from gateway.compile import Compiler, Touched
from gateway.core.difference import Document
from gateway.models import Change, Registration
from gateway.node_sections import (
    READERS,
    Own,
    Section,
    certificates_of,
    certificates_on_file,
    own_sections,
    registrations,
    user_of,
    with_row,
)
from gateway.sketch import Sketch
from identity.models import Certificate, User


def documents(*, certificates: Collection[str]) -> dict[str, Document]:
    """The documents of all nodes as rows are now, for answers about them; none is ever put in force.

    Args:
        certificates: of the 100,000 on file that the question is about, by SHA-256; those that endpoints show are
            in the documents besides.
    """
    revision = current_revision()
    owns = own_sections(None)
    on_file = certificates_on_file({*certificates, *_shown(owns.values())})
    shared: dict[str, Section] = {"": {}, "certificates": certificates_of(on_file)}
    found = {}
    for name, own in owns.items():
        for reader in own.common.values():
            if reader not in shared:
                shared[reader] = READERS[reader](None)
        common = {section: shared[reader] for section, reader in own.common.items()}
        found[name] = own.sections | common | {"revision": revision}
    return found


def _shown(owns: Iterable[Own]) -> set[str]:
    """The certificates that endpoints show, by SHA-256."""
    return {sha256 for own in owns for sha256 in own.shown}


class Drafts(Compiler):
    """The documents of all nodes for answers about them; none is ever put in force.

    Of the 100,000 certificates on file they have those that endpoints show: whoever asks about others puts these in.
    """

    def documents(self) -> dict[str, Document]:
        """As rows are at the revision in force."""
        self.follow()
        return self._all()

    def after(self, changes: Iterable[Change]) -> dict[str, Document]:
        """As they would be with changes that are made and not recorded yet; what is in force stays known."""
        draft = self._copy()
        draft._take_up(Touched.by(changes))
        return draft._all()

    def sketched(self, sketch: Sketch) -> dict[str, Document]:
        """As they would be with one row as it is sketched; to be asked after `documents`."""
        draft = self._copy()
        draft._draw(sketch)
        return draft._all()

    def _copy(self) -> "Drafts":
        draft = Drafts()
        draft.revision, draft._common, draft._own = self.revision, dict(self._common), dict(self._own)
        return draft

    def _take_up(self, touched: Touched) -> None:
        shown = self._common.pop("certificates", None)
        super()._take_up(touched)
        # It hangs on endpoints, certificates and users: read anew where one of these was touched.
        if shown is not None and self._own and not touched.keys["certificates"] and not touched.renamed_users:
            self._common["certificates"] = shown

    def _all(self) -> dict[str, Document]:
        if not self._own:
            self._own = own_sections(None)
        if "certificates" not in self._common:
            self._common["certificates"] = certificates_of(certificates_on_file(_shown(self._own.values())))
        return {name: self._compile(name) for name in self._own}

    # --- one row that is not written ---

    def _draw(self, sketch: Sketch) -> None:
        if (blocked := self._common.get("blocked")) is not None:
            self._common["blocked"] = _blocked_with(blocked, sketch)
        match sketch.after:
            case User() as user:
                for reader in self._common.keys() & {"users", "users and hashes"}:
                    entry = user_of(user, hashes=reader == "users and hashes")
                    self._common[reader] = self._common[reader] | {user.name: entry}
            case Certificate() as certificate:
                if certificate.sha256 in _shown(self._own.values()):
                    on_file = certificates_on_file(_shown(self._own.values()))
                    self._common["certificates"] = certificates_of(with_row(on_file, certificate))
                self._draw_nodes_known_by(sketch)
            case Registration() as registration:
                for name, own in self._own.items():
                    rows = [registration if each.pk == registration.pk else each for each in own.rows.registrations]
                    self._own[name] = _with_registrations(own, registrations=rows)

    def _draw_nodes_known_by(self, sketch: Sketch) -> None:
        """Registrations that a blocked certificate shuts out, or lets in again."""
        sha256 = sketch.after.sha256
        known = {
            name: own
            for name, own in self._own.items()
            if any(sha256 in registration.admitted for registration in own.rows.registrations)
        }
        if not known:
            return
        others = Certificate.objects.filter(sha256=sha256, blocked=True).exclude(pk=sketch.after.pk)
        blocked = sketch.after.blocked or others.exists()
        for name, own in known.items():
            all_blocked = own.rows.blocked | {sha256} if blocked else own.rows.blocked - {sha256}
            self._own[name] = _with_registrations(own, blocked=all_blocked)


def _with_registrations(own: Own, **changed: Any) -> Own:
    rows = replace(own.rows, **changed)
    return replace(own, rows=rows, sections=own.sections | {"registrations": registrations(rows)})


def _blocked_with(section: Section, sketch: Sketch) -> Section:
    """Of a certificate that is on file twice each entry counts, so that one may go and the other stay."""
    gone, came = _shut_out(sketch.before), _shut_out(sketch.after)
    return {
        part: sorted((Counter(listed) - Counter(gone[part]) + Counter(came[part])).elements())
        for part, listed in section.items()
    }


def _shut_out(row: Model) -> dict[str, list[str]]:
    """What this row adds to the section `blocked`."""
    match row:
        case Certificate():
            disabled = row.user is not None and not row.user.enabled
            return {
                "certificates": [row.sha256] if row.blocked else [],
                "of_disabled_users": [row.sha256] if disabled else [],
            }
        case User() if not row.enabled:
            rows = Certificate.objects.filter(user=row)
            return {"certificates": [], "of_disabled_users": list(rows.values_list("sha256", flat=True))}
    return {"certificates": [], "of_disabled_users": []}
