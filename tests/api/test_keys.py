"""Keystores, certificates and machines over the API; and what takes a token that was made for it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.utils import timezone

from console.models import CONFIRMED
from gateway import enrolments
from gateway.core.enrolment import read_bundle
from gateway.models import Change, ChangeSet, Enrolment, Registration
from identity.core.authority import new_key, request
from identity.core.files import chain_from
from identity.models import Certificate, Keystore, User
from tests import factories
from tests.api.conftest import Caller
from tests.console.test_keystores import answered
from tests.minting import crl_pem, mint

ASKED = {"subject": "CN=gateway.example,O=Acme", "names": ["dns:gateway.example"]}


@pytest.fixture
def unattended(caller_of: Callable[..., Caller]) -> Caller:
    """What runs by itself: with every permission, and not made for what is asked again for."""
    return caller_of("owner", "view", "change_identity", "change_gateway", "change_operators")


def is_asked(answer: Any) -> bool:
    return answer.status_code == 403 and 'scope="confirmed"' in answer["WWW-Authenticate"]


# --- keystores ---


def test_a_key_is_made_here_once_and_never_shown(owner: Caller) -> None:
    looked = owner.post("/keystores/made/generate?dry_run=true", ASKED)
    assert (looked.status_code, Keystore.objects.exists()) == (200, False)
    made = owner.post("/keystores/made/generate", ASKED | {"days": 30})
    assert (made.status_code, made.json()["changes"][0]["action"]) == (201, "added")
    row = Keystore.objects.get(name="made")
    assert row.certificate.self_issued and "PRIVATE KEY" not in made.content.decode()
    again = owner.post("/keystores/made/generate", ASKED)
    assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "name")
    wrong = owner.post("/keystores/more/generate", ASKED | {"names": ["gateway.example"]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "names")


def test_a_renewal_runs_by_itself(unattended: Caller, world: dict[str, Model]) -> None:
    """Nobody has to be there: its key is here, and what answers the request has to be of it."""
    row: Any = world["keystores"]
    registration: Any = world["registrations"]
    Registration.objects.filter(pk=registration.pk).update(sha256=row.sha256)
    before = row.sha256
    assert unattended.post("/keystores/edge-server/ask", {}).status_code == 200
    request = unattended.get("/keystores/edge-server/request")
    assert (request.status_code, request["Content-Type"]) == (200, "application/x-pem-file; charset=utf-8")
    answer = answered(request.content.decode(), factories.server_ca())
    told = unattended.post("/keystores/edge-server/answer", {"certificate": answer}, Change_Message="of this year")
    changed = {each["section"]: each["after"] for each in told.json()["changes"]}
    assert changed["keystores"]["next"]["certificate"] == answer
    registration.refresh_from_db()
    assert registration.next_sha256 == chain_from(answer.encode())[0].sha256, "whoever knows it admits both"
    assert ChangeSet.objects.latest("id").message.startswith("of this year (token")
    assert unattended.post("/keystores/edge-server/swap").status_code == 200
    row.refresh_from_db()
    assert row.sha256 != before
    assert row.sha256 == registration.next_sha256
    again = unattended.post("/keystores/edge-server/swap")
    assert (again.status_code, again.json()["code"]) == (409, "in_the_way")


def test_the_answer_may_wait_for_its_time_or_be_dropped(unattended: Caller, world: dict[str, Model]) -> None:
    unattended.post("/keystores/edge-server/ask", {"kind": "same", "names": ["dns:new.example"]})
    request = unattended.get("/keystores/edge-server/request").content.decode()
    answer = answered(request, factories.server_ca())
    late = unattended.post("/keystores/edge-server/answer", {"certificate": answer, "at": "2020-01-01T00:00:00Z"})
    assert (late.status_code, late.json()["errors"][0]["field"]) == (422, "at")
    at = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = unattended.post("/keystores/edge-server/answer", {"certificate": answer, "at": at}).json()
    assert told["changes"][0]["after"]["next"]["from"] == at
    assert unattended.post("/keystores/edge-server/drop").json()["changes"][0]["after"].get("next") is None


@pytest.mark.parametrize("field", ["private_key", "certificate"])
def test_a_key_that_is_brought_takes_a_token_made_for_it(
    field: str, unattended: Caller, owner: Caller, world: dict[str, Model]
) -> None:
    """Wherever in the request it is."""
    other = mint("CN=gateway.example", factories.server_ca(), purpose="server")
    sent = {"certificate": other.pem} | {field: other.pem + other.key_pem if field == "certificate" else other.key_pem}
    assert is_asked(unattended.post("/keystores/edge-server/answer", sent))
    assert Keystore.objects.get(name="edge-server").renewal == ""
    assert owner.post("/keystores/edge-server/answer", sent).status_code == 200


def test_no_way_round_it(unattended: Caller, owner: Caller, world: dict[str, Model]) -> None:
    other = mint("CN=gateway.example", factories.server_ca(), purpose="server")
    pair = {"certificate": other.pem, "private_key": other.key_pem}
    entry = owner.get("/keystores/edge-server").json()
    before = ChangeSet.objects.count()
    assert is_asked(unattended.put("/keystores/edge-server", pair))
    assert is_asked(unattended.put("/keystores/new", pair))
    assert is_asked(unattended.put("/keystores/edge-server", entry | {"next": pair}))
    assert is_asked(unattended.delete("/keystores/edge-server"))
    assert is_asked(unattended.post("/apply", {"version": 1, "keystores": [{"name": "edge-server"} | pair]}))
    assert ChangeSet.objects.count() == before
    assert unattended.put("/keystores/edge-server?dry_run=true", pair).status_code == 200, "nothing comes of it"
    assert unattended.put("/keystores/edge-server", entry | {"description": "at the door"}).status_code == 200
    changed = owner.put("/keystores/edge-server", pair).json()["revision"]
    assert is_asked(unattended.post(f"/changes/{changed}/undo"))
    assert owner.post(f"/changes/{changed}/undo").status_code == 200


# --- letting in again ---


@pytest.mark.parametrize("kind", ["certificates", "users", "registrations"])
def test_shutting_out_is_for_everybody_who_may_and_letting_in_is_asked(
    kind: str, unattended: Caller, owner: Caller, world: dict[str, Model]
) -> None:
    name = world[kind].name  # type: ignore[attr-defined]
    open_entry = owner.get(f"/{kind}/{name}").json()
    assert unattended.post(f"/{kind}/{name}/block").status_code == 200
    assert is_asked(unattended.post(f"/{kind}/{name}/unblock"))
    assert is_asked(unattended.put(f"/{kind}/{name}", open_entry))
    assert is_asked(unattended.post(f"/bulk/{kind}", {"action": "unblock", "names": [name]}))
    assert is_asked(unattended.post("/apply", {"version": 1, kind: [open_entry]}))
    blocked = ChangeSet.objects.latest("id").pk
    assert is_asked(unattended.post(f"/changes/{blocked}/undo"))
    if kind == "certificates":  # or it would be another that is blocked
        other = mint("CN=other", factories.partner_ca()).pem
        assert is_asked(unattended.put(f"/{kind}/{name}", open_entry | {"blocked": True, "certificate": other}))
    if kind != "users":  # something still uses the user
        assert is_asked(unattended.delete(f"/{kind}/{name}"))
    assert owner.post(f"/{kind}/{name}/unblock").status_code == 200


def test_several_at_once(owner: Caller, world: dict[str, Model]) -> None:
    for name in ("bob", "carol"):
        factories.UserFactory(name=name)
    joined = {"action": "join", "names": ["bob", "carol"], "group": "Partners"}
    looked = owner.post("/bulk/users?dry_run=true", joined).json()
    assert [(each["name"], each["after"]["groups"]) for each in looked["changes"]] == [
        ("bob", ["Partners"]), ("carol", ["Partners"]),
    ]  # fmt: skip
    done = owner.post("/bulk/users", joined).json()
    assert ChangeSet.objects.get(pk=done["revision"]).message == "2 users added to group Partners (token t1)"
    assert set(User.objects.get(name="bob").groups.values_list("name", flat=True)) == {"Partners"}
    before = ChangeSet.objects.count()
    for body, field in (
        ({"action": "block", "names": ["bob", "nobody"]}, "names"),
        ({"action": "join", "names": ["bob"]}, "group"),
        ({"action": "join", "names": ["bob"], "group": "Everybody"}, "group"),
        ({"action": "block", "names": ["bob"], "group": "Partners"}, "group"),
    ):
        answer = owner.post("/bulk/users", body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), body
    kept = owner.post("/bulk/users", {"action": "delete", "names": ["alice", "bob"]})
    assert (kept.status_code, kept.json()["code"]) == (409, "in_the_way")
    assert (ChangeSet.objects.count(), User.objects.filter(name="bob").exists()) == (before, True)


# --- certificates ---


def test_a_certificate_is_looked_at_before_it_is_stored(owner: Caller, world: dict[str, Model]) -> None:
    known: Any = world["certificates"]
    found = owner.post("/certificate-preview", {"certificate": known.certificate.pem()}).json()
    assert (found["on_file"], found["sha256"]) == ("alice", known.sha256)
    other = mint(known.certificate.parsed.subject.rfc4514_string(), factories.partner_ca())
    found = owner.post("/certificate-preview", {"certificate": other.chain_pem}).json()
    assert (found["on_file"], found["may_renew"]) == (None, ["alice"])
    assert {each["mark"] for each in found["findings"]} <= {"good", "note", "bad"}
    wrong = owner.post("/certificate-preview", {"certificate": "none"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "certificate")


def test_one_takes_anothers_place_and_both_log_in_for_a_while(owner: Caller, world: dict[str, Model]) -> None:
    old: Any = world["certificates"]
    external: Any = world["ports"]
    limited = owner.get("/certificates/alice").json() | {"ports": [external.name]}
    assert owner.put("/certificates/alice", limited).status_code == 200
    new = mint(old.certificate.parsed.subject.rfc4514_string(), factories.partner_ca())
    until = (timezone.localdate() + timedelta(days=7)).isoformat()
    told = owner.post("/certificates/alice/replace", {"certificate": new.pem, "name": "alice-2", "old_until": until})
    assert told.status_code == 200, told.json()
    changes = {each["name"]: each for each in told.json()["changes"]}
    assert {name: each["action"] for name, each in changes.items()} == {"alice-2": "added", "alice": "changed"}
    assert changes["alice-2"]["after"]["user"] == "alice"
    assert changes["alice-2"]["after"]["ports"] == [external.name], "what was limited stays so"
    assert changes["alice"]["after"]["logs_in_until"] > until
    other = mint("CN=mallory", factories.partner_ca())
    refused = owner.post("/certificates/alice/replace", {"certificate": other.pem})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "certificate")


@pytest.mark.parametrize("day", ["2020-01-01", "20290101", "01/02/2029", "2029-02-30"])
def test_the_last_day_of_the_old_one_is_a_day_to_come(day: str, owner: Caller, world: dict[str, Model]) -> None:
    old: Any = world["certificates"]
    new = mint(old.certificate.parsed.subject.rfc4514_string(), factories.partner_ca())
    answer = owner.post("/certificates/alice/replace", {"certificate": new.pem, "old_until": day})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "old_until")


def test_a_mapping_is_taken_away_and_a_stranger_shut_out(unattended: Caller, world: dict[str, Model]) -> None:
    assert unattended.post("/certificates/alice/unmap").status_code == 200
    assert Certificate.objects.get(name="alice").user is None
    stranger = mint("CN=stranger", factories.partner_ca())
    looked = unattended.post("/certificate-block?dry_run=true", {"certificate": stranger.pem}).json()
    assert [each["action"] for each in looked["changes"]] == ["added"]
    assert not Certificate.objects.filter(sha256=stranger.certificate.sha256).exists()
    assert unattended.post("/certificate-block", {"certificate": stranger.pem}).status_code == 200
    assert Certificate.objects.get(sha256=stranger.certificate.sha256).blocked


# --- truststores ---


def test_a_list_takes_the_place_of_the_one_before(owner: Caller, world: dict[str, Model]) -> None:
    entry = owner.get("/truststores/partners").json()
    revoked = mint("CN=revoked", factories.partner_ca())
    first, second = (crl_pem(factories.partner_ca(), each).decode() for each in ([], [revoked]))
    assert owner.post("/truststores/partners/crl", {"crl": first}).status_code == 200
    told = owner.post("/truststores/partners/crl", {"crl": second}).json()
    after = told["changes"][0]["after"]
    assert len(after["crls"]) == 1
    assert {name: value for name, value in after.items() if name != "crls"} == entry, "and nothing else changes"
    wrong = owner.post("/truststores/partners/crl", {"crl": "none"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "crl")


# --- machines ---


def test_a_machine_is_enrolled_and_disowned(unattended: Caller, owner: Caller, world: dict[str, Model]) -> None:
    node = world["ports"].node.name  # type: ignore[attr-defined]
    assert is_asked(unattended.post(f"/nodes/{node}/enrol", {}))
    told = owner.post(f"/nodes/{node}/enrol", {"address": "edge.example:9443"})
    bundle = read_bundle(told.json()["bundle"])
    assert (told.status_code, bundle.node) == (200, node)
    assert "no-store" in told["Cache-Control"]
    assert bundle.secret not in str(Change.objects.get(kind="enrolments").after)
    machine = owner.get(f"/nodes/{node}/machine").json()
    assert (machine["awaited"], machine["enrolled"], machine["address"]) == (True, False, "edge.example:9443")
    assert owner.post(f"/nodes/{node}/enrol", {}).status_code == 200, "where it is reached is known by now"
    assert Enrolment.objects.get().address == "edge.example:9443"
    wrong = owner.post(f"/nodes/{node}/enrol", {"address": "edge"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "address")
    assert unattended.post(f"/nodes/{node}/disown").json()["awaited"] is False


def test_the_authority_is_exchanged(caller_of: Callable[..., Caller], world: dict[str, Model]) -> None:
    may = caller_of("owner", "view", "change_authority", CONFIRMED)
    node = world["ports"].node  # type: ignore[attr-defined]
    assert may.get("/authority").json()["signs"] == ""
    bundle = enrolments.offer(node, "test", None)
    enrolments.certify(node.name, request(new_key(), node.name), bundle.key)
    first = may.get("/authority").json()
    assert (first["exchanging"], first["nodes"]) == (
        False, [{"name": node.name, "standing": "current", "linked": False}]
    )  # fmt: skip
    assert may.post("/authority/drop", {}).json()["code"] == "in_the_way"
    second = may.post("/authority/exchange").json()
    assert (second["exchanging"], second["before"], second["behind"]) == (True, first["signs"], [node.name])
    assert may.post("/authority/exchange").status_code == 409
    refused = may.post("/authority/drop", {"giving_up": ["somebody"]})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (409, "giving_up")
    assert node.name in refused.json()["detail"]
    last = may.post("/authority/drop", {"giving_up": [node.name]}).json()
    assert (last["signs"], last["before"], last["nodes"][0]["standing"]) == (second["signs"], "", "cut_off")
    assert may.get(f"/nodes/{node.name}/machine").json()["lost"] is True
