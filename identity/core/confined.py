"""Opening of keys and PKCS#12 files, bounded: what it may cost is read and capped before, and enforced while it runs.

Knows nothing of where a file came from; what it says of one it never quotes.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal

from identity.core import ber
from identity.core.ber import BERError, Value

MAX_ROUNDS = 2_000_000  # of key derivation in one file; half a second. Programs write 2,000 to 600,000 for each secret.
MAX_SCRYPT = 16 * 1024 * 1024  # bytes of memory times passes
_PATIENCE = 30.0  # seconds in which a second of computing must be had, on whatever machine
_OPENER = str(Path(__file__).with_name("opener.py"))

What = Literal["key", "pkcs12"]
# Object identifiers as they are encoded.
_DATA = bytes.fromhex("2a864886f70d010701")
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_PKCS12_PBE = bytes.fromhex("2a864886f70d010c01")  # …1 to …6
_PKCS5_PBE = {bytes.fromhex("2a864886f70d0105") + bytes([last]) for last in (1, 3, 4, 6, 10, 11)}


class OpeningError(ValueError):
    """`problem`: one of the words of `PROBLEMS`, or a sentence."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Opened:
    """`key`: PKCS#8 in DER, in the clear; None where the file has none. `certificates`: DER, as the file has them."""

    key: bytes | None = field(repr=False)
    certificates: tuple[bytes, ...]


def open_file(what: What, data: bytes, password: str | None) -> Opened:
    """The key or PKCS#12 file, opened by `opener.py` in a process of its own.

    Raises:
        OpeningError: its problem is `needs a password`, `needs no password`, `wrong password`, `unreadable`,
            `unusable` (a kind of key that TLS has no use for), `too costly`, or a sentence.
    """
    if b"-----BEGIN" not in data:
        check_cost(data)
    asked = {
        "what": what,
        "password": None if password is None else base64.b64encode(password.encode()).decode(),
        "data": base64.b64encode(data).decode(),
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own file
            [sys.executable, "-I", _OPENER],
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OpeningError("too costly") from error
    if done.returncode:
        raise OpeningError("too costly")
    answer = json.loads(done.stdout)
    if problem := answer.get("problem"):
        raise OpeningError(problem)
    key = answer["key"]
    ders = tuple(base64.b64decode(each) for each in answer["certificates"])
    return Opened(None if key is None else base64.b64decode(key), ders)


def check_cost(data: bytes) -> None:
    """Refuse what asks for more key derivation than is done, without doing any.

    Raises:
        OpeningError: too much is asked for, or `unreadable`.
    """
    try:
        value, _ = ber.first(data)
        rounds = sum(_rounds(value))
        parts = list(value)
        if len(parts) == 3 and parts[0].tag == ber.INTEGER and parts[0].number() == 3:  # PFX: the third is its MAC
            rounds += sum(_positive(part) for part in parts[2] if part.tag == ber.INTEGER)
    except BERError as error:
        raise OpeningError("unreadable") from error
    if rounds > MAX_ROUNDS:
        raise OpeningError(
            f"The file asks for {rounds:,} rounds of key derivation to be opened; at most {MAX_ROUNDS:,} are done. "
            "Export it again with fewer, as openssl pkcs12 -export -iter 100000 does."
        )


def _rounds(value: Value) -> Iterator[int]:
    """What each derivation that can be seen costs, wherever in the file it stands. Raises BERError."""
    parts = list(value)
    kind = parts[0].object_id() if parts else b""
    if len(parts) > 1:
        if kind == _SCRYPT:
            numbers = [_positive(part) for part in parts[1] if part.tag == ber.INTEGER]
            # Size, block and passes; weighed so that what takes about as long counts about as much.
            yield prod(numbers[:3]) * 128 * MAX_ROUNDS // MAX_SCRYPT
        elif kind == _PBKDF2 or kind in _PKCS5_PBE or kind[:-1] == _PKCS12_PBE:
            yield next((_positive(part) for part in parts[1] if part.tag == ber.INTEGER), 1)
        elif kind == _DATA and len(parts) == 2 and parts[1].tag == ber.CONTEXT_0:
            for inner in parts[1]:
                yield from _rounds(inner.inside())
    for part in parts:
        if part.tag in (ber.SEQUENCE, ber.SET) or part.tag & 0xE0 == ber.CONTEXT_0:
            yield from _rounds(part)


def _positive(value: Value) -> int:
    number = value.number()
    if number < 1:
        raise BERError("a number of rounds below one")
    return number
