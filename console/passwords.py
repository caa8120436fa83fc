"""Passwords that were in breaches: a list on the host, as such lists are given out.

Each line is a SHA-1 in upper-case hex, in order, with a colon and a number behind it or not. It may have any size: it
is searched where it lies. SHA-1 is the lists' own; nothing here is kept secret by it.
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from django.core.exceptions import ValidationError
from django.utils.translation import gettext

_LONGEST = 128  # bytes of a line; what is longer is no such list
_HEX = 40  # digits of a SHA-1


class NotBreached:
    """A validator. `path`: of the list; "" where there is none."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def validate(self, password: str, user: object = None) -> None:
        """What cannot be looked up is refused: the host wants it looked up."""
        if not self.path:
            return
        digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper().encode()
        try:
            with Path(self.path).open("rb") as file:
                found = _is_in(file, digest)
        except (OSError, ValueError) as error:
            words = gettext(
                "The list of breached passwords cannot be read, so none can be set: tell whoever keeps the host."
            )
            raise ValidationError(words) from error
        if found:
            raise ValidationError(
                gettext("This password was in a breach, and is the first that is tried. Take another one.")
            )

    def get_help_text(self) -> str:
        return gettext("It must not be in a list of breached passwords.") if self.path else ""


def _is_in(file: BinaryIO, wanted: bytes) -> bool:
    """By halves. Raises ValueError where it is no such list."""
    low, high = 0, file.seek(0, os.SEEK_END)  # the line that is wanted begins in here
    while low < high:
        middle = (low + high) // 2
        file.seek(max(middle - 1, 0))
        if middle:
            file.readline(_LONGEST)  # to the beginning of the next line
        start, line = file.tell(), file.readline(_LONGEST)
        if not line or start >= high:
            high = middle
            continue
        found = line[:_HEX]
        if len(found) != _HEX or line[_HEX : _HEX + 1] not in (b":", b"\r", b"\n", b""):
            raise ValueError("this is no list of SHA-1 in hex")
        if found == wanted:
            return True
        low, high = (start + len(line), high) if found < wanted else (low, middle)
    return False
