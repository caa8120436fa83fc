"""Which certificate a name chooses, and of which hosts a connection may speak."""

import pytest

from gateway.core.server_names import ServerNames
from gateway.core.snapshot import Keystore
from tests.minting import mint


def keystore(name: str, *san: str, common_name: str = "server") -> Keystore:
    return Keystore(name, (mint(f"CN={common_name}", san=san, purpose="server").certificate,), b"")


NAMES = ServerNames(
    [
        keystore("first", "dns:a.example", "ip:192.0.2.1"),
        keystore("second", "dns:b.example", "dns:*.b.example"),
        keystore("third", "dns:one.b.example"),
        keystore("old", common_name="Old.example"),
    ]
)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("a.example", "first"),
        ("B.EXAMPLE", "second"),
        ("b.example.", "second"),
        ("two.b.example", "second"),
        ("one.b.example", "third"),
        ("x.two.b.example", "first"),
        ("old.example", "old"),
        ("unknown.example", "first"),
        ("", "first"),
        (None, "first"),
    ],
)
def test_what_is_shown(asked: str | None, chosen: str) -> None:
    assert NAMES.choose(asked).name == chosen


@pytest.mark.parametrize(
    ("asked", "host", "admitted"),
    [
        pytest.param("b.example", "b.example", True, id="the-name-itself"),
        pytest.param("b.example", "B.example:8443", True, id="case-and-port"),
        pytest.param("b.example", "two.b.example", True, id="another-of-the-certificate"),
        pytest.param("b.example", "a.example", False, id="another-certificate"),
        pytest.param("two.b.example", "one.b.example", True, id="covered-though-another-is-nearer"),
        pytest.param("one.b.example", "b.example", False, id="not-the-wildcard-s"),
        pytest.param("a.example", "unknown.example", False, id="nobody-s"),
        pytest.param("unknown.example", "unknown.example", True, id="asked-for-though-nobody-s"),
        pytest.param("unknown.example", "b.example", False, id="from-unknown-to-known"),
        pytest.param(None, "192.0.2.1:8443", True, id="by-address"),
        pytest.param(None, "[2001:db8::1]:8443", True, id="by-another-address"),
        pytest.param(None, "a.example", True, id="no-name-and-the-first"),
        pytest.param(None, "b.example", False, id="no-name-and-another"),
    ],
)
def test_of_what_it_may_speak(asked: str | None, host: str, admitted: bool) -> None:
    assert NAMES.admits(asked, host) is admitted
