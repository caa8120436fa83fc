"""The one place where models seal and open secrets.

A model lists its sealed columns in `SEALED`; the row's identity is part of what is authenticated.
"""

from functools import lru_cache

from django.apps import apps
from django.conf import settings
from django.db import models, transaction

from identity.core.vault import Vault


@lru_cache(maxsize=4)
def _vault_of(keys: tuple[bytes, ...]) -> Vault:
    return Vault(keys)


def vault() -> Vault:
    return _vault_of((settings.POSTERN_MASTER_KEY, *settings.POSTERN_MASTER_KEY_PREVIOUS))


def place(instance: models.Model, column: str) -> str:
    return f"{instance._meta.label_lower}:{instance.pk}:{column}"


def seal(instance: models.Model, column: str, secret: bytes) -> None:
    setattr(instance, column, vault().seal(secret, place(instance, column)) if secret else b"")


def open_sealed(instance: models.Model, column: str) -> bytes:
    """b"" where nothing is stored. Raises VaultError."""
    sealed = bytes(getattr(instance, column) or b"")
    return vault().open(sealed, place(instance, column)) if sealed else b""


def sealed_models() -> list[type[models.Model]]:
    return [model for model in apps.get_models() if getattr(model, "SEALED", ())]


def reseal_all() -> int:
    """Seal every stored secret with the current master key; returns how many were not. All or nothing.

    Raises:
        VaultError: one does not open with any configured key; nothing was changed.
    """
    changed = 0
    with transaction.atomic():
        for model in sealed_models():
            for row in model._default_manager.select_for_update().iterator():
                stale = [c for c in model.SEALED if (v := bytes(getattr(row, c) or b"")) and not vault().is_current(v)]  # type: ignore[attr-defined]
                for column in stale:
                    seal(row, column, open_sealed(row, column))
                    # Past save(): the configuration stays what it was, only its wrapping changes.
                    model._default_manager.filter(pk=row.pk).update(**{column: getattr(row, column)})
                changed += len(stale)
    return changed
