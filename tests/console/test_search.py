"""One search over all kinds, however a thing is spelled where it was copied from."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client

from gateway.topology.entries import SECTIONS
from identity.models import Certificate
from tests import factories
from tests.factories import partner_ca
from tests.minting import mint


def found(client: Client, text: str) -> dict[str, list[str]]:
    answer = client.get("/search/", {"q": text})
    assert answer.status_code == 200
    return {each.kind: [hit.name for hit in each.hits] for each in answer.context["found"]}


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        pytest.param("whoami", "services", "orders:whoami", id="part-of-a-name"),
        pytest.param("/orders", "services", "orders:whoami", id="a-path"),
        pytest.param("reverse://reg", "endpoints", "orders", id="a-url"),
        pytest.param("127.0.0.1:3", "ports", "ext", id="an-address"),
        pytest.param("CN=ALICE", "certificates", "alice", id="a-subject-in-capitals"),
        pytest.param("Partner CA", "truststores", "partners", id="an-authority-in-a-truststore"),
        pytest.param("partner.example", "mapping_rules", "by-dns", id="what-a-rule-asks-for"),
        pytest.param("alice", "users", "alice", id="a-user"),
    ],
)
def test_what_it_looks_into(text: str, kind: str, name: str, owner: Client, world: dict[str, Model]) -> None:
    assert name in found(owner, text)[kind]


def test_every_kind_is_looked_into(owner: Client, world: dict[str, Model]) -> None:
    for kind in SECTIONS:
        assert str(world[kind]) in found(owner, str(world[kind]))[kind]


@pytest.mark.parametrize("form", ["plain", "upper", "colons", "blanks", "half", "serial", "serial-colons", "0x"])
def test_fingerprints_and_serials_in_any_spelling(form: str, owner: Client, world: dict[str, Model]) -> None:
    row: Any = world["certificates"]
    sha256, serial = row.sha256, row.serial.zfill(len(row.serial) + len(row.serial) % 2)
    pairs = [sha256[i : i + 2] for i in range(0, 64, 2)]
    text = {
        "plain": sha256, "upper": sha256.upper(), "colons": ":".join(pairs).upper(), "blanks": " ".join(pairs),
        "half": ":".join(pairs[3:12]), "serial": serial, "0x": f"0x{serial.upper()}",
        "serial-colons": ":".join(serial[i : i + 2] for i in range(0, len(serial), 2)),
    }[form]  # fmt: skip
    assert found(owner, text)["certificates"] == ["alice"]


def test_alternative_names_are_told_where_they_match(owner: Client) -> None:
    minted = mint("CN=x", partner_ca(), san=["dns:a.partner.example", "email:alice@partner.example"])
    factories.CertificateFactory(name="several", minted=minted)
    (certificates,) = owner.get("/search/", {"q": "alice@"}).context["found"]
    assert certificates.hits[0].text == "email:alice@partner.example"


def test_the_one_of_exactly_this_name_comes_first_and_the_list_has_the_rest(owner: Client) -> None:
    for number in range(12):
        factories.UserFactory(name=f"a-{number:02}-bob")
    factories.UserFactory(name="bob")
    (users,) = owner.get("/search/", {"q": "bob"}).context["found"]
    assert users.hits[0].name == "bob"
    assert len(users.hits) == 8 and users.more
    assert 'href="/users/?q=bob"' in owner.get("/search/", {"q": "bob"}).content.decode()


def test_nothing_found_is_said(owner: Client) -> None:
    assert "Nothing has" in owner.get("/search/", {"q": "nobody-like-this"}).content.decode()
    assert "Two letters" in owner.get("/search/", {"q": "a"}).content.decode()


def test_it_takes_few_queries(owner: Client, world: dict[str, Model], django_assert_max_num_queries: Any) -> None:
    for number in range(12):
        factories.UserFactory(name=f"alice-{number}")
    sha256 = Certificate.objects.get().sha256
    for text in ("alice", sha256, "/orders"):
        with django_assert_max_num_queries(20):
            owner.get("/search/", {"q": text})


def test_a_trace_id_leads_to_its_refusal_where_refusals_have_pages(
    owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from console.views import search

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    monkeypatch.setattr(search, "_refusal", lambda trace: f"/refusals/{trace}/")
    for text in (trace, trace.upper(), f"00-{trace}-00f067aa0ba902b7-01"):
        assert owner.get("/search/", {"q": text})["Location"] == f"/refusals/{trace}/"


def test_a_serial_number_that_was_printed_in_pairs_begins_with_a_zero(owner: Client, world: dict[str, Model]) -> None:
    Certificate.objects.update(serial="a1b2c3d4e5f60")
    for text in ("0a:1b:2c:3d:4e:5f:60", "0A1B2C3D4E5F60"):
        assert found(owner, text)["certificates"] == ["alice"]
    answer = owner.get("/certificates/", {"q": "0A:1B:2C:3D:4E:5F:60"})
    assert [row[0][1][0].text for row in answer.context["table"]] == ["alice"]
