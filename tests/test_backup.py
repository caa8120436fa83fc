"""A backup is whole, sealed, of one moment; and what is restored from it into nothing serves as before."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.backup import archive
from console.backup.archive import ArchiveError, Line
from identity.core.vault import Vault
from tests.databases import new_database
from tests.relay.conftest import backend, forum, fresh, shared_backend
from tests.relay.installation import ROOT, Installation

# Fixtures of the relay's tests, which start whole installations.
__all__ = ["backend", "forum", "fresh", "shared_backend"]

OURS, THEIRS = Vault([b"o" * 32]), Vault([b"t" * 32])
Fresh = Callable[..., Installation]


def written(lines: list[Line]) -> bytes:
    file = io.BytesIO()
    archive.write(file, OURS, iter(lines))
    return file.getvalue()


def read(data: bytes, vault: Vault = OURS) -> list[Line]:
    return list(archive.read(io.BytesIO(data), vault))


LINES: list[Line] = [["identity.user", {"name": "alice", "text": "x" * 700_000}] for _ in range(3)]


@given(st.lists(st.lists(st.text() | st.integers() | st.none(), max_size=3), max_size=5))
def test_what_was_written_is_read(lines: list[Line]) -> None:
    assert read(written(lines)) == lines


def test_a_backup_of_several_chunks_is_read_whole() -> None:
    assert written(LINES).count(b"\x01") > 2
    assert read(written(LINES)) == LINES


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="cut-off"),
        pytest.param(lambda data: data[: data.rindex(chunks(data)[-1]) - 4], id="the-last-chunk-left-out"),
        pytest.param(lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], id="a-bit-turned"),
        pytest.param(lambda data: joined(data, chunks(data)[1:]), id="the-first-chunk-left-out"),
        pytest.param(lambda data: joined(data, chunks(data)[::-1]), id="chunks-in-another-order"),
        pytest.param(lambda data: joined(written(LINES), chunks(data)), id="chunks-of-another-backup"),
        pytest.param(lambda data: data[:33], id="nothing-but-the-head"),
        pytest.param(lambda data: b"no backup", id="another-file"),
        pytest.param(lambda data: b"", id="an-empty-file"),
    ],
)
def test_what_is_not_whole_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ArchiveError):
        read(damage(written(LINES)))


def test_another_master_key_does_not_open_it() -> None:
    with pytest.raises(ArchiveError, match="another master key"):
        read(written(LINES), THEIRS)


def chunks(data: bytes) -> list[bytes]:
    found, rest = [], data[len(archive.MAGIC) + 16 :]
    while rest:
        size = int.from_bytes(rest[:4])
        found.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    return found


def joined(data: bytes, parts: list[bytes]) -> bytes:
    head = data[: len(archive.MAGIC) + 16]
    return head + b"".join(len(part).to_bytes(4) + part for part in parts)


# --- of an installation ---


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Installation], Installation]]:
    """Makes a second installation, with an empty database, from the first one's folder of keys and topology."""
    folder = tmp_path_factory.mktemp("second")  # not below this test's own: a socket's path has 107 bytes
    made: list[Installation] = []

    def make(first: Installation) -> Installation:
        second = object.__new__(Installation)
        second.folder, second.pki, second.topology, second.nodes = folder, first.pki, first.topology, {}
        second.env = first.env | {"DATABASE_URL": new_database(folder), "POSTERN_STATE_DIR": str(folder / "state")}
        (folder / "pki").symlink_to(first.folder / "pki")
        made.append(second)
        return second

    yield make
    for installation in made:
        installation.close()


def test_what_is_restored_into_nothing_serves_as_before(fresh: Fresh, empty: Any, tmp_path: Path) -> None:
    first, file = fresh(), tmp_path / "backup"
    first.manage("backup", str(file))
    before = first.manage("export")
    first.close()

    second = empty(first)
    said = second.manage("restore", str(file))
    assert "Restored: revision 1," in said and "goes on with 1000001" in said, (
        "nodes take no revision older than theirs"
    )
    assert "whole" in second.manage("verify-audit")
    assert second.manage("export") == before
    second.start("edge", "inside")
    second.ready()
    for target, user in (("/orders", "alice"), ("/gateway/certificate", "api_gateway"), ("/gateway/basic", "batch")):
        answer = second.request("ext", target, "alice")
        assert (answer.status, answer.json["user"]) == (200, user)
    assert second.request("ext", "/orders", "stranger").json["reason"] == "certificate_unmapped"
    second.topology["users"].append({"name": "carol"})
    second.apply()  # and it can be changed on: nothing stands in the way of new rows


def test_a_backup_shows_no_secret_even_when_it_is_opened(forum: Installation, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    forum.manage("backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("rb") as opened:
        text = "".join(map(str, archive.read(opened, Vault([b"t" * 32]))))
    assert "api-gateway" in text, "it is the installation's"
    keys = [minted.key_pem for minted in forum.pki.values()]
    for secret in ("correct horse battery", *keys, *(key.splitlines()[1] for key in keys)):
        assert secret not in text


def test_what_is_written_meanwhile_is_not_in_it_and_does_not_wait(fresh: Fresh, tmp_path: Path) -> None:
    """The dump is begun, a change is made and seen, and then the dump is read to its end."""
    place = fresh()
    code = """
import os, subprocess, sys, django
django.setup()
from console.backup import rows
from gateway.audit import current_revision
dump = rows.dump()
head = next(dump)
subprocess.run([sys.executable, "manage.py", "apply", sys.argv[1]], check=True, stdout=subprocess.DEVNULL)
lines = [str(line) for line in dump]
print(head[1]["revision"], current_revision(), sum("latecomer" in line for line in lines))
"""
    place.topology["users"].append({"name": "latecomer"})
    (place.folder / "later.yaml").write_text(json.dumps(place.topology))
    done = subprocess.run([sys.executable, "-c", code, str(place.folder / "later.yaml")], cwd=ROOT, env=place.env,
                          capture_output=True, text=True, timeout=50)  # fmt: skip
    assert done.stdout.split() == ["1", "2", "0"], done.stderr


def test_nothing_is_restored_over_an_installation(forum: Installation, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    forum.manage("backup", str(file))
    before = forum.manage("export")
    with pytest.raises(AssertionError, match="holds an installation already"):
        forum.manage("restore", str(file))
    with pytest.raises(AssertionError, match="is there already"):
        forum.manage("backup", str(file))
    assert forum.manage("export") == before


def test_of_a_damaged_backup_nothing_is_restored(forum: Installation, empty: Any, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    forum.manage("backup", str(file))
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    second = empty(forum)
    with pytest.raises(AssertionError, match="Nothing was restored"):
        second.manage("restore", str(file))
    file.write_bytes(whole)
    second.manage("restore", str(file))  # the database is as empty as before
    assert second.manage("export") == forum.manage("export")
