"""New passwords against a list of breached ones."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from console.models import Operator, Role
from console.passwords import NotBreached
from tests.console.conftest import PASSWORD


def listed(path: Path, passwords: list[str], *, counts: bool = True, end: str = "\r\n") -> str:
    digests = sorted(hashlib.sha1(each.encode(), usedforsecurity=False).hexdigest().upper() for each in passwords)
    lines = [f"{each}:{number}{end}" if counts else f"{each}{end}" for number, each in enumerate(digests)]
    path.write_bytes("".join(lines).encode())
    return str(path)


def is_refused(path: str, password: str) -> bool:
    try:
        NotBreached(path).validate(password)
    except ValidationError as error:
        assert "was in a breach" in error.messages[0]
        return True
    return False


@given(st.sets(st.text("abc", min_size=1, max_size=4), max_size=40), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_what_is_in_the_list_is_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, passwords: set[str], counts: bool, end: str
) -> None:
    path = listed(tmp_path_factory.mktemp("list") / "list", sorted(passwords), counts=counts, end=end)
    for password in passwords:
        assert is_refused(path, password)
    for other in ("d", "abcabc", *(f"{each}d" for each in passwords)):
        assert not is_refused(path, other)


def test_without_a_list_nothing_is_looked_up() -> None:
    assert not is_refused("", "qwerty")


@pytest.mark.parametrize("content", [None, b"qwerty\npassword\n", b"x" * 10_000], ids=["missing", "words", "no-lines"])
def test_a_list_that_is_none_refuses_every_password(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(ValidationError, match="cannot be read, so none can be set"):
        NotBreached(str(tmp_path / "list")).validate("whatever it is")


def test_an_operators_new_password_is_looked_up(client: Client, db: None, settings: Any, tmp_path: Path) -> None:
    path = listed(tmp_path / "list", ["correct horse battery staple", "others"])
    settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": "console.passwords.NotBreached", "OPTIONS": {"path": path}}]
    olivia = Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)
    client.force_login(olivia)
    new = {"new_password": "correct horse battery staple", "new_password_again": "correct horse battery staple"}
    answer = client.post("/account/", {"current_password": PASSWORD} | new)
    assert (answer.status_code, "was in a breach" in answer.content.decode()) == (422, True)
    other = {"new_password": "another horse battery staple", "new_password_again": "another horse battery staple"}
    assert client.post("/account/", {"current_password": PASSWORD} | other).status_code == 302
