"""Rows → the document of one node's snapshot, followed from change to change.

The only modules that know both are this one, `node_sections`, which reads the rows, and `drafts`, which asks what
would be.

A node's document holds what that node needs to decide, and nothing else: no backend of another node, no key
but its own, no password hash where it checks no password.

Who keeps a `Compiler` pays for a change what it touches: users, certificates and rules, of which there may be
100,000, are read once, shared by all nodes, and then followed by what the audit log names.
"""

import hashlib
import ssl
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.audit import changes_between, current_revision
from gateway.core.difference import Document
from gateway.core.narrowing import Narrowing
from gateway.models import Change, Node
from gateway.node_sections import AT_ONCE, READERS, Own, Section, own_sections
from identity.models import Certificate


class UnknownNode(LookupError):
    """No node of that name is configured."""


def document_of(node_name: str) -> Document:
    """The document of one node, at the revision in force.

    Raises:
        UnknownNode
    """
    return Compiler().document_of(node_name)


class Compiler:
    """Documents of nodes, kept up with the revision in force. A document that it gave is never changed."""

    def __init__(self) -> None:
        self.revision = -1
        self._common: dict[str, Section] = {}
        self._own: dict[str, Own] = {}
        self._documents: dict[str, Document] = {}
        self._narrowing = Narrowing()

    def document_of(self, node_name: str) -> Document:
        """Raises UnknownNode."""
        while True:
            revision = self.follow()
            document = self._documents.get(node_name)
            if document is not None and document["revision"] == revision:
                return document
            document = self._narrowing.of(self._compile(node_name), self._own[node_name].usable)
            if current_revision() == revision:  # else rows of two revisions may be in it
                self._documents[node_name] = document
                return document

    def _compile(self, node_name: str) -> Document:
        own = self._own.get(node_name)
        if own is None:
            own = own_sections([node_name]).get(node_name)
            if own is None:
                known = ", ".join(Node.objects.values_list("name", flat=True)) or "none yet"
                raise UnknownNode(f"There is no node {node_name!r}; configured: {known}.")
            self._own[node_name] = own
        common = {name: self._section(reader) if reader else {} for name, reader in own.common.items()}
        return own.sections | common | {"revision": self.revision}

    def _section(self, reader: str) -> Section:
        section = self._common.get(reader)
        if section is None:
            section = self._common[reader] = READERS[reader](None)
        return section

    def follow(self) -> int:
        """Take note of what changed since; the revision in force."""
        revision = current_revision()
        if revision != self.revision:
            known, self.revision = self.revision, revision
            if 0 <= known < revision:
                self._take_up(Touched.by(changes_between(known, revision)))
            else:  # nothing was read yet, or the database is another one
                self._common, self._own, self._documents = {}, {}, {}
        return revision

    def _take_up(self, touched: "Touched") -> None:
        if touched.keys.keys() - {"users", "certificates", "mapping_rules"} or touched.block_changed:
            self._own = {}
        if touched.keys["users"] or touched.keys["certificates"]:
            self._common.pop("blocked", None)
        for reader in ("users", "users and hashes"):
            if touched.group_changed:  # renamed, perhaps, and its name is with each of its users
                self._common.pop(reader, None)
            elif touched.keys["users"]:
                self._replace(reader, touched.keys["users"], touched.user_names)
        if "certificates" in self._common:
            self._take_up_certificates(touched)
        if touched.keys["mapping_rules"] or touched.renamed_users:
            self._common.pop("mapping_rules", None)

    def _take_up_certificates(self, touched: "Touched") -> None:
        certificates = touched.keys["certificates"]
        if touched.renamed_users:
            rows = Certificate.objects.filter(user__in=touched.renamed_users)
            certificates = certificates | {str(pk) for pk in rows.values_list("pk", flat=True)}
        if len(certificates) > AT_ONCE:  # more than are named in one query: all are read anew
            self._common.pop("certificates", None)
        elif certificates:
            # By fingerprint: what a certificate is on file for besides speaks in its entry too.
            rows = Certificate.objects.filter(pk__in=certificates)
            fingerprints = touched.fingerprints | set(rows.values_list("sha256", flat=True))
            self._replace("certificates", fingerprints, fingerprints)

    def _replace(self, reader: str, keys: set[str], gone: Iterable[str]) -> None:
        """Read anew the rows of these keys. The section that documents have stays as it was."""
        known = self._common.pop(reader, None)
        if known is None or len(keys) > AT_ONCE:
            return
        section = dict(known)
        for name in gone:
            section.pop(name, None)
        section.update(READERS[reader](keys))
        self._common[reader] = section


@dataclass(slots=True)
class Touched:
    """What changes named: primary keys by kind; and by what users and certificates were known before."""

    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    group_changed: bool = False
    user_names: set[str] = field(default_factory=set)
    renamed_users: set[str] = field(default_factory=set)
    fingerprints: set[str] = field(default_factory=set)
    block_changed: bool = False

    @classmethod
    def by(cls, changes: Iterable[Change]) -> "Touched":
        touched = cls()
        for change in changes:
            touched.note(change)
        return touched

    def note(self, change: Change) -> None:
        self.keys[change.kind].add(change.object_id)
        if change.kind == "certificates" and _is_blocked(change.before) != _is_blocked(change.after):
            self.block_changed = True  # a registration may be known by it
        if change.before is None:
            return
        match change.kind:
            case "groups":
                self.group_changed = True
            case "users":
                self.user_names.add(change.before["name"])
                if change.after is not None and change.after["name"] != change.before["name"]:
                    self.renamed_users.add(change.object_id)
            case "certificates":
                self.fingerprints.add(_sha256_of(change.before))


def _is_blocked(entry: dict[str, Any] | None) -> bool:
    return bool(entry and entry.get("blocked"))


def _sha256_of(entry: dict[str, Any]) -> str:
    """Of the certificate in an entry of the audit log."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(entry["certificate"])).hexdigest()
