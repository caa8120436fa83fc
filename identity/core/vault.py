"""Sealing and opening of secrets that are stored: AES-256-GCM, bound to the place where they lie.

A sealed value opens only as the column of the row that it was sealed for, so one that is copied to another
row, or a row that is given another's value, fails to open instead of lending its secret.
"""

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_ID = 4  # bytes that tell which master key sealed a value
_GUESSABLE = 100  # bytes; the shortest private key in PEM has 119
_NONCE = 12  # bytes, random: NIST SP 800-38D, section 8.2.2


class VaultError(Exception):
    """A sealed value could not be opened: no key for it, or it was changed or moved."""


class Vault:
    """Seals with the first key, opens with any. Keys: 32 bytes each."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != 32 for key in keys):
            raise ValueError("a vault needs at least one key, each of 32 bytes")
        self._ciphers = {self._identify(key): AESGCM(key) for key in reversed(keys)}
        self._current = self._identify(keys[0])

    def __repr__(self) -> str:
        return f"<Vault of {len(self._ciphers)} keys>"

    @staticmethod
    def _identify(key: bytes) -> bytes:
        return hashlib.sha256(b"postern vault key\0" + key).digest()[:_ID]

    def seal(self, secret: bytes, place: str) -> bytes:
        """`place`: what the secret is bound to, such as `identity.keystore:UUID:private_key`."""
        nonce = os.urandom(_NONCE)
        head = _VERSION + self._current
        return head + nonce + self._ciphers[self._current].encrypt(nonce, secret, head + place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises VaultError; never tells anything of the secret."""
        head, nonce = sealed[: 1 + _ID], sealed[1 + _ID : 1 + _ID + _NONCE]
        cipher = self._ciphers.get(head[1:])
        if head[:1] != _VERSION or cipher is None:
            raise VaultError(f"{place}: sealed under a master key that is not configured (POSTERN_MASTER_KEY_PREVIOUS)")
        try:
            return cipher.decrypt(nonce, sealed[1 + _ID + _NONCE :], head + place.encode())
        except InvalidTag as error:
            raise VaultError(f"{place}: the sealed value was changed or belongs elsewhere") from error

    def is_current(self, sealed: bytes) -> bool:
        return sealed[: 1 + _ID] == _VERSION + self._current


def fingerprint(secret: bytes, place: str) -> str:
    """What an export shows in place of a secret: tells whether it is the same, and nothing else of it.

    Bound to the place; and slow on purpose for what is short enough to be guessed, so that passwords cannot be
    tried quickly against it. A private key cannot be guessed.
    """
    if len(secret) > _GUESSABLE:
        return hashlib.sha256(b"postern fingerprint\0" + place.encode() + b"\0" + secret).hexdigest()[:32]
    digest = hashlib.scrypt(secret, salt=b"postern fingerprint\0" + place.encode(), n=2**14, r=8, p=1, dklen=16)
    return digest.hex()
