"""What pages tell before anything is saved, and of what is stored: of mapping rules and ACLs."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.models import ChangeSet
from identity.models import Group, MappingRule
from tests import factories
from tests.api.conftest import Caller
from tests.minting import mint

# --- mapping rules ---


@pytest.fixture
def on_file(db: None) -> None:
    """Two of a partner, one of them mapped, and one of somebody else."""
    alice = factories.UserFactory(name="alice")
    factories.UserFactory(name="bob")
    for name, organisation, user in (("left", "One", None), ("mapped", "One", alice), ("other", "Two", None)):
        minted = mint(f"CN={name},O={organisation}", factories.partner_ca())
        factories.CertificateFactory(name=name, minted=minted, user=user)


def fates(answer: Any) -> dict[str, tuple[str, list[str]]]:
    return {each["text"]: (each["mark"], each["certificates"]) for each in answer.json()["fates"]}


def test_a_rule_tells_what_it_would_do_and_is_not_stored(owner: Caller, on_file: None) -> None:
    before = ChangeSet.objects.count()
    answer = owner.post("/mapping_rules/one/preview", {"user": "alice", "subject": {"O": ["One"]}})
    assert (answer.status_code, answer.json()["matches"], answer.json()["grave"]) == (200, 2, False)
    assert fates(answer) == {
        "would be let in, as alice": ("good", ["left"]),
        "would be decided by a mapping of their own, which comes before every rule": ("note", ["mapped"]),
    }
    assert (MappingRule.objects.count(), ChangeSet.objects.count()) == (0, before)


def test_what_would_become_ambiguous_is_grave(owner: Caller, on_file: None) -> None:
    factories.MappingRuleFactory(name="first", san="", subject={"O": ["One"]}, user__name="carol", priority=100)
    found = owner.post("/mapping_rules/second/preview", {"user": "alice", "subject": {"O": ["One"]}, "priority": 100})
    assert found.json()["grave"] is True
    (mark, names), *_ = fates(found).values()
    assert (mark, names) == ("bad", ["left"])
    assert [each["mark"] for each in found.json()["rules"]] == ["bad"]
    assert "rule first matches that too" in found.json()["rules"][0]["text"]


def test_a_stored_rule_is_compared_with_what_it_is(owner: Caller, on_file: None) -> None:
    owner.put("/mapping_rules/one", {"user": "alice", "subject": {"O": ["One"]}})
    found = owner.post("/mapping_rules/one/preview", {"user": "bob", "subject": {"O": ["Two"]}})
    assert fates(found)["would no longer run as alice, and be refused"] == ("bad", ["left"])
    assert fates(found)["would be let in, as bob"] == ("good", ["other"])
    assert owner.get("/mapping_rules/one").json()["user"] == "alice"


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        pytest.param({"user": "nobody", "subject": {"O": ["One"]}}, "user", 422, id="no-such-user"),
        pytest.param({"user": "alice"}, "", 422, id="no-condition"),
        pytest.param({"user": "alice", "sobject": {}}, "sobject", 422, id="misspelt"),
    ],
)
def test_what_is_no_rule_is_refused_as_by_put(
    body: dict[str, Any], field: str, status: int, owner: Caller, on_file: None
) -> None:
    looked, put = owner.post("/mapping_rules/one/preview", body), owner.put("/mapping_rules/one", body)
    assert (looked.status_code, looked.json()["errors"][0]["field"]) == (status, field)
    assert looked.json() == put.json()


def test_looking_ahead_at_rules_takes_what_the_page_takes(caller_of: Callable[..., Caller], on_file: None) -> None:
    body = {"user": "alice", "subject": {"O": ["One"]}}
    assert caller_of("operator").post("/mapping_rules/one/preview", body).status_code == 403
    assert caller_of("security").post("/mapping_rules/one/preview", body).status_code == 200


# --- ACLs ---


def test_whom_an_acl_lets_in_is_told(caller_of: Callable[..., Caller]) -> None:
    viewer = caller_of("viewer")
    gold = factories.GroupFactory(name="Gold")
    for name in ("ada", "bob", "eve"):
        factories.UserFactory(name=name, groups=[gold], enabled=name != "eve")
    factories.UserFactory(name="out")
    factories.ACLFactory(name="gold", allowed=[gold])
    factories.ACLFactory(name="all", allowed=[Group.objects.get(name="Everybody")])
    told = viewer.get("/acls/gold/admission").json()
    assert told == {
        "words": "It lets in 2 users, and nobody without a credential.",
        "everybody": False,
        "strangers": False,
        "count": 2,
        "users": ["ada", "bob"],
    }
    cut = viewer.get("/acls/gold/admission?limit=1").json()
    assert (cut["count"], cut["users"]) == (2, ["ada"])
    everybody = viewer.get("/acls/all/admission").json()
    assert (everybody["everybody"], everybody["strangers"]) == (True, True)
    assert viewer.get("/acls/none/admission").status_code == 404
