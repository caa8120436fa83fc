"""A backup's file: lines of JSON, compressed, sealed chunk by chunk.

Each chunk is bound to its file, its place in it and whether it is the last, so that none can be left out, moved or
taken from another backup without being noticed. Knows nothing of what the lines mean.
"""

import json
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from identity.core.commands import command
from identity.core.vault import Vault, VaultError

MAGIC = b"postern backup 1\n"
CHUNK = 1024 * 1024  # bytes of lines in a chunk, about
MAX_SEALED = 64 * 1024 * 1024  # bytes of one chunk that are read: a line may be larger than CHUNK
MAX_LINES = 256 * 1024 * 1024  # bytes of lines that one chunk may open to
_LENGTH = struct.Struct("!I")

Line = list[Any]


class ArchiveError(Exception):
    """The file is no backup, is damaged, or was sealed under another master key; the message says which."""


def write(file: BinaryIO, vault: Vault, lines: Iterable[Line]) -> int:
    """Returns how many lines were written."""
    name = uuid.uuid4().bytes
    file.write(MAGIC + name)
    count, index, pending, size = 0, 0, bytearray(), 0
    for line in lines:
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if size and size + len(text) > CHUNK:
            _write_chunk(file, vault, _place(name, index, last=False), bytes(pending))
            index, size = index + 1, 0
            pending.clear()
        pending += text
        size += len(text)
        count += 1
    _write_chunk(file, vault, _place(name, index, last=True), bytes(pending))
    return count


def read(file: BinaryIO, vault: Vault) -> Iterator[Line]:
    """The lines. What came before an ArchiveError must not be used: take it back.

    Raises:
        ArchiveError
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise ArchiveError(f"This is not a backup; {command('backup')} writes one.")
    name = file.read(16)
    index, ahead = 0, _read_chunk(file)
    while ahead is not None:
        sealed, ahead = ahead, _read_chunk(file)
        yield from _open(vault, sealed, _place(name, index, last=ahead is None))
        index += 1
    if not index:
        raise ArchiveError("The backup ends after its first line: most of it is missing.")


def _place(name: bytes, index: int, *, last: bool) -> str:
    return f"backup:{name.hex()}:{index}:{'last' if last else 'more'}"


def _write_chunk(file: BinaryIO, vault: Vault, place: str, lines: bytes) -> None:
    sealed = vault.seal(zlib.compress(lines), place)
    file.write(_LENGTH.pack(len(sealed)) + sealed)


def _read_chunk(file: BinaryIO) -> bytes | None:
    head = file.read(_LENGTH.size)
    if not head:
        return None
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_SEALED + 1
    sealed = file.read(length) if length <= MAX_SEALED else b""
    if len(sealed) != length:
        raise ArchiveError("The backup is damaged or cut off; take another copy.")
    return sealed


def _open(vault: Vault, sealed: bytes, place: str) -> Iterator[Line]:
    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(vault.open(sealed, place), MAX_LINES)
    except VaultError as error:
        raise ArchiveError(
            "The backup does not open: it was sealed under another master key (put that one into POSTERN_MASTER_KEY "
            "or POSTERN_MASTER_KEY_PREVIOUS), or it is damaged or cut off."
        ) from error
    if not unpacking.eof:
        raise ArchiveError("The backup is damaged: a part of it is larger than any that is written.")
    yield from (json.loads(line) for line in text.splitlines())
