"""What a node on its own machine keeps: who it is, and the configuration that it was last given.

    STATE/identity.json         its name, its key and certificate, the authority and the console's addresses
    STATE/configuration/whole   the last whole document, as the console signed it
    STATE/configuration/REVISION  differences since, one a file
    STATE/nodes/NAME/           the local door (`control`)

Everything is written beside its place, synced and then moved there, so that a file is whole or not there. The
folder holds private keys and passwords in the clear, those of the node's own ports and endpoints: it is 0700, and
each file 0600.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.core import delivery
from gateway.core.delivery import Delivery, DeliveryError, Statement
from gateway.core.difference import Document, patched
from identity.core.authority import Authorities, Pair, read_authorities

log = logging.getLogger(__name__)

WHOLE = "whole"


class StateError(Exception):
    """The folder cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the node is.

    Attributes:
        authority: the installation's, PEM; what it certifies as console is believed, and nothing else. There are
            two of them while the console exchanges one for the other.
        consoles: where the console takes links, HOST:PORT each; none for an edge, which dials nobody.
        listen: where an edge that has no registration port in force waits for the console.
    """

    node: str
    role: str
    certificate: str
    authority: str
    key: str = field(repr=False)
    consoles: tuple[str, ...] = ()
    listen: str = ""

    @property
    def pair(self) -> Pair:
        return Pair(self.certificate, self.key)

    @property
    def pinned(self) -> Authorities:
        """Raises ValueError where there is none."""
        return read_authorities(self.authority)

    def renewed(self, key: str, certificate: str) -> "Identity":
        return replace(self, key=key, certificate=certificate)

    def believing(self, authority: str) -> "Identity":
        return replace(self, authority=authority)


@dataclass(frozen=True, slots=True)
class Kept:
    """The configuration that lies in the folder.

    `confirmed`: when the console last said that it is the newest. `mark`: by which the console knows it again.
    """

    document: Document
    revision: int
    digest: str
    confirmed: float
    differences: int
    mark: str = ""


class StateFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._configuration = path / "configuration"

    def prepare(self) -> None:
        """Raises StateError."""
        try:
            for folder in (self.path, self._configuration):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise StateError(f"{self.path} cannot be used: {error.strerror or error}") from error

    # --- who it is ---

    def identity(self) -> Identity:
        """Raises StateError where the node is not enrolled."""
        file = self.path / "identity.json"
        try:
            said = json.loads(file.read_bytes())
            return Identity(**said | {"consoles": tuple(said["consoles"])})
        except FileNotFoundError as error:
            raise StateError(
                f"{self.path} belongs to no node yet. Make a bundle on the node's page in the console, and run: "
                f"postern-node enrol --state {self.path} BUNDLE"
            ) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StateError(f"{file} cannot be read: {error}. Enrol the node again.") from error

    def save_identity(self, identity: Identity) -> None:
        """Raises OSError."""
        _write(self.path / "identity.json", json.dumps(asdict(identity)).encode()).commit()

    # --- what it was given ---

    def hold(self, given: Delivery, statement: Statement, mark: str = "") -> "Held":
        """Write a delivery beside its place. `commit` makes it the one to start from. Raises OSError."""
        name = f"{statement.revision:020d}" if statement.stands_on else WHOLE
        return _write(
            self._configuration / name, json.dumps(given.head() | {"mark": mark}).encode() + b"\n", given.body
        )

    def settled(self) -> None:
        """A whole document is in its place: what stood on the one before goes."""
        for file in self._differences():
            file.unlink(missing_ok=True)

    def confirm(self) -> None:
        """The console said that nothing newer is there."""
        newest = [*self._differences()][-1:] or [self._configuration / WHOLE]
        with contextlib.suppress(OSError):  # it is for telling an age
            os.utime(newest[0])

    def check(self, authorities: Authorities, node: str) -> None:
        """See that what lies here would be started from by whoever believes these.

        Raises:
            DeliveryError: it would not.
            OSError
        """
        for file in (self._configuration / WHOLE, *self._differences()):
            with contextlib.suppress(FileNotFoundError):  # nothing was delivered yet
                given, _, _ = _read(file)
                delivery.verify(given, authorities, node)

    def load(self, authorities: Authorities, node: str) -> Kept | None:
        """The configuration to start from, its signatures checked; None where there is none.

        Raises:
            StateError: the whole document is not what the console signed.
        """
        try:
            given, confirmed, mark = _read(self._configuration / WHOLE)
            statement = delivery.verify(given, authorities, node)
            document = json.loads(given.body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StateError(f"{self._configuration / WHOLE} is not as the console gave it: {error}") from error
        digest, count = statement.digest, 0
        for file in self._differences():
            try:
                given, at, marked = _read(file)
                statement = delivery.verify(given, authorities, node)
                delivery.check_order(statement, document["revision"], digest)
                document = patched(document, json.loads(given.body))
            except (OSError, ValueError) as error:  # left over from before the whole one came, or damaged
                log.warning("%s is passed over: %s", file.name, error)
                break
            digest, confirmed, count, mark = statement.digest, at, count + 1, marked
        return Kept(document, document["revision"], digest, confirmed, count, mark)

    def _differences(self) -> Iterator[Path]:
        if self._configuration.is_dir():
            yield from sorted(file for file in self._configuration.iterdir() if file.name.isdecimal())


@dataclass(frozen=True, slots=True)
class Held:
    """A file that is written and synced, and not yet in its place."""

    path: Path
    place: Path

    def commit(self) -> None:
        """Raises OSError."""
        self.path.replace(self.place)
        handle = os.open(self.place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


def _write(place: Path, *parts: bytes) -> Held:
    held = Held(place.with_name(f"{place.name}.new"), place)
    try:
        handle = os.open(held.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(handle)
    except OSError:
        with contextlib.suppress(OSError):
            held.drop()
        raise
    return held


def _read(file: Path) -> tuple[Delivery, float, str]:
    """A delivery, when it was confirmed, and its mark. Raises OSError, ValueError."""
    content = file.read_bytes()
    end = content.find(b"\n")
    if end < 0:
        raise DeliveryError("it is cut short")
    head: dict[str, Any] = json.loads(content[:end])
    return Delivery.of(head, content[end + 1 :]), file.stat().st_mtime, str(head.get("mark", ""))
