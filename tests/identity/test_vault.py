"""Sealed at rest: opens where it was sealed, and nowhere else."""

import os

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import given
from hypothesis import strategies as st

from identity.core.vault import Vault, VaultError
from identity.models import Keystore
from tests.factories import EndpointFactory, KeystoreFactory
from tests.minting import mint

OLD, NEW = b"o" * 32, b"n" * 32


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_is_sealed_opens_in_its_place(secret: bytes, place: str) -> None:
    vault = Vault([OLD])
    sealed = vault.seal(secret, place)
    assert vault.open(sealed, place) == secret
    with pytest.raises(VaultError):
        vault.open(sealed, place + "!")


@given(st.data())
def test_no_changed_byte_opens(data: st.DataObject) -> None:
    vault = Vault([OLD])
    sealed = bytearray(vault.seal(b"secret", "here"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VaultError):
        vault.open(bytes(sealed), "here")


def test_a_previous_key_opens_and_does_not_seal() -> None:
    sealed = Vault([OLD]).seal(b"secret", "here")
    rotated = Vault([NEW, OLD])
    assert rotated.open(sealed, "here") == b"secret"
    assert not rotated.is_current(sealed)
    assert rotated.is_current(rotated.seal(b"secret", "here"))
    with pytest.raises(VaultError, match="POSTERN_MASTER_KEY_PREVIOUS"):
        Vault([NEW]).open(sealed, "here")


@pytest.mark.django_db
def test_a_key_that_was_moved_to_another_row_does_not_open() -> None:
    one, other = KeystoreFactory(), KeystoreFactory()
    Keystore.objects.filter(pk=other.pk).update(private_key=one.private_key)
    with pytest.raises(VaultError):
        Keystore.objects.get(pk=other.pk).open_private_key()


@pytest.mark.django_db
def test_no_key_and_no_password_is_stored_in_the_clear() -> None:
    pair = mint("CN=x")
    keystore = KeystoreFactory(minted=pair)
    endpoint = EndpointFactory(identity="basic", username="batch", password="correct horse")
    assert b"PRIVATE" not in bytes(keystore.private_key)
    assert b"correct horse" not in bytes(endpoint.password)
    assert keystore.open_private_key().decode() == pair.key_pem
    assert endpoint.open_password() == "correct horse"
    assert "PRIVATE" not in repr(keystore)


@pytest.mark.django_db
def test_the_master_key_is_rotated(settings: object) -> None:
    keystore = KeystoreFactory()
    secret, before = keystore.open_private_key(), bytes(keystore.private_key)
    settings.POSTERN_MASTER_KEY_PREVIOUS = [settings.POSTERN_MASTER_KEY]  # type: ignore[attr-defined]
    settings.POSTERN_MASTER_KEY = os.urandom(32)  # type: ignore[attr-defined]
    call_command("rotate-master-key")
    settings.POSTERN_MASTER_KEY_PREVIOUS = []  # type: ignore[attr-defined]
    keystore.refresh_from_db()
    assert bytes(keystore.private_key) != before
    assert keystore.open_private_key() == secret


@pytest.mark.django_db
def test_a_rotation_without_the_old_key_changes_nothing(settings: object) -> None:
    keystore = KeystoreFactory()
    before = bytes(keystore.private_key)
    settings.POSTERN_MASTER_KEY = os.urandom(32)  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("rotate-master-key")
    keystore.refresh_from_db()
    assert bytes(keystore.private_key) == before
