"""Private keys of the keystores in force, parsed once; and the tokens that are signed with one."""

from time import time
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.core.decision import Identity
from gateway.core.snapshot import Keystore, Snapshot, TokenSettings
from identity.core import jwt

TOKENS = 4096  # that are kept; beyond it all are made anew


class Keys:
    def __init__(self) -> None:
        self._keys: dict[bytes, Any] = {}
        self._tokens: dict[tuple[str, frozenset[str]], tuple[bytes, float]] = {}

    def of(self, keystore: Keystore) -> Any:
        key = self._keys.get(keystore.key)
        if key is None:
            key = self._keys[keystore.key] = load_pem_private_key(keystore.key, None)
        return key

    def identity_token(self, settings: TokenSettings, identity: Identity) -> tuple[bytes, float]:
        """`Postern-Identity` of a user, and until when (seconds since 1970-01-01 UTC) it may be used.

        Made once for half its life.
        """
        index, now = (identity.user, identity.groups), time()
        known = self._tokens.get(index)
        if known is None or known[1] <= now:
            token = jwt.identity_token(
                self.of(settings.keystore), settings.keystore.certificate, issuer=settings.issuer,
                audience=settings.audience, user=identity.user, groups=sorted(identity.groups),
                now=int(now), lifetime=settings.lifetime,
            )  # fmt: skip
            if len(self._tokens) >= TOKENS:
                self._tokens.clear()
            known = self._tokens[index] = token, now + settings.lifetime / 2
        return known

    def swap(self, snapshot: Snapshot) -> None:
        """Forget what the snapshot has no longer, and what was signed before it."""
        live = {keystore.key for keystore in snapshot.keystores.values()}
        self._keys = {pem: key for pem, key in self._keys.items() if pem in live}
        self._tokens.clear()
