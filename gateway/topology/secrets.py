"""The secrets of a row, whatever its kind: sealed columns, and the hash of a user's password.

What undo takes from a row and gives back to one; nothing here is shown.
"""

from typing import Any

from django.db.models import Model

from identity.models import User, sealing

_PASSWORD_HASH = "password_hash"  # noqa: S105 - the name of a column


def secret_columns(row: Model) -> tuple[str, ...]:
    return (_PASSWORD_HASH,) if isinstance(row, User) else tuple(getattr(row, "SEALED", ()))


def open_secret(row: Any, column: str) -> bytes:
    """b"" where nothing is stored. Raises VaultError."""
    if column == _PASSWORD_HASH:
        return str(row.password_hash).encode()
    return sealing.open_sealed(row, column)


def put_secret(row: Any, column: str, secret: bytes) -> None:
    """Into the row; it is saved by the caller."""
    if column == _PASSWORD_HASH:
        row.password_hash = secret.decode()
    else:
        sealing.seal(row, column, secret)
