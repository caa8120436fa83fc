"""What would change, in lines that people can read."""

import pytest

from gateway.models import Change
from gateway.topology.plan import describe
from tests import minting
from tests.topology.conftest import File

PARTNERS = minting.authority("CN=Partner CA,O=Acme")
OTHERS = minting.authority("CN=Other CA,O=Acme")


def known_by(minted: minting.Minted) -> str:
    return f"{minted.certificate.title} ({minted.certificate.sha256[:12]})"


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        pytest.param({}, {"explain": True}, "explain: (none) → true", id="set"),
        pytest.param({"blocked": True}, {}, "blocked: true → (none)", id="taken-away"),
        pytest.param({"groups": ["A"]}, {"groups": ["A", "B"]}, "groups: A → A, B", id="a-list"),
        pytest.param({"tls": {"keystore": "a", "server_name": "x"}}, {"tls": {"keystore": "b", "server_name": "x"}},
                     "tls.keystore: a → b", id="a-part"),
        pytest.param({"connect": [{"address": "x:1", "registration": "a"}]},
                     {"connect": [{"address": "x:2", "registration": "a"}]},
                     "connect: x:1 a → x:2 a", id="a-list-of-parts"),
        pytest.param({"password": {"kept": "0123456789abcdef"}}, {"password": {"kept": "fedcba9876543210"}},
                     "password: (secret 0123456789ab) → (secret fedcba987654)", id="a-secret"),
        pytest.param({"certificate": PARTNERS.pem}, {"certificate": OTHERS.pem},
                     f"certificate: {known_by(PARTNERS)} → {known_by(OTHERS)}", id="a-certificate"),
        pytest.param({"crls": []}, {"crls": [minting.crl_pem(PARTNERS).decode()]},
                     "crls: (none) → (revocation list of ", id="a-revocation-list"),
        pytest.param({"description": "a\nb"}, {"description": "x" * 100}, f"description: a b → {'x' * 79}…", id="long"),
    ],
)  # fmt: skip
def test_a_changed_field_stands_with_old_and_new(
    before: dict[str, object], after: dict[str, object], line: str
) -> None:
    change = Change(action="changed", kind="ports", name="ext", before={"name": "ext"} | before,
                    after={"name": "ext"} | after)  # fmt: skip
    head, *fields = describe(change)
    assert head == "~ ports ext"
    assert len(fields) == 1
    assert fields[0].startswith(f"    {line}")


@pytest.mark.parametrize(("action", "mark"), [("added", "+"), ("removed", "-")])
def test_what_comes_and_goes_takes_one_line(action: str, mark: str) -> None:
    assert describe(Change(action=action, kind="users", name="erin")) == [f"{mark} users erin"]


@pytest.mark.django_db
def test_removals_are_told_first(small: File) -> None:
    small.say()
    small.entry("users", "alice")["enabled"] = False
    small.topology["groups"].append({"name": "New"})
    small.topology["apis"] = []
    small.topology["services"] = small.topology["services"][:1]
    out, _ = small.run("--prune", "--dry-run")
    assert out.splitlines() == [
        "- services status",
        "- apis orders-api",
        "+ groups New",
        "~ users alice",
        "    enabled: (none) → false",
        "4 would change; nothing was changed.",
    ]
