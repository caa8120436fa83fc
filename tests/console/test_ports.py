"""Ports: a form for each type, the pair as one step, lists with their lines."""

from typing import Any

import pytest
from django.db.models import ProtectedError
from django.test import Client

from gateway.audit import change_set
from gateway.models import ChangeSet, Dial, Port, PortType, Unconfirmed
from gateway.unconfirmed import take_back
from tests import factories
from tests.minting import mint


@pytest.fixture
def edge(db: None) -> Any:
    return factories.NodeFactory(name="edge")


@pytest.fixture
def stores(db: None) -> tuple[Any, Any]:
    """A keystore and a truststore."""
    return factories.KeystoreFactory(), factories.TruststoreFactory()


@pytest.fixture
def pair(edge: Any, stores: tuple[Any, Any]) -> dict[str, Any]:
    """What is typed for a pair that is right."""
    keystore, truststore = stores
    limits = {}
    return {
        "node": str(edge.pk),
        "external-name": "ext",
        "external-enabled": "on",
        "external-bind": "127.0.0.1:8443",
        "external-tls_keystore": str(keystore.pk),
        "external-tls_truststore": str(truststore.pk),
        "external-client_auth": "request",
        "external-accept_basic": "unknown",
        "external-wait": "5",
        "external-service_default": "deny",
        "external-service_allow": "/orders",
        "external-ip_default": "allow",
        "registration-name": "reg",
        "registration-enabled": "on",
        "registration-bind": "127.0.0.1:8444",
        "registration-tls_keystore": str(keystore.pk),
        "registration-tls_truststore": str(truststore.pk),
        "registration-ip_default": "allow",
        **limits,
    }


class TestPair:
    def test_both_are_added_by_one_change(self, owner: Client, pair: dict[str, Any]) -> None:
        answer = owner.post("/ports/add/pair/", pair)
        assert answer.status_code == 302, answer.context["form"].external.errors
        external, registration = Port.objects.get(name="ext"), Port.objects.get(name="reg")
        assert external.registration_port == registration
        assert external.service_access == {"default": "deny", "allow": ["/orders"], "deny": []}
        assert registration.client_auth == "require"
        assert {change.name for change in ChangeSet.objects.latest("id").changes.all()} == {"ext", "reg"}
        assert not Unconfirmed.objects.exists()

    def test_both_go_away_again_unless_they_are_confirmed(self, owner: Client, pair: dict[str, Any]) -> None:
        assert owner.post("/ports/add/pair/", pair | {"goes_back": "on"}).status_code == 302
        assert Port.objects.count() == 2
        assert take_back(Unconfirmed.objects.get().pk, "tests")
        assert not Port.objects.exists()

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            pytest.param({"registration-bind": "reg.example:8444"}, "listen at an IP address", id="registration"),
            pytest.param({"external-bind": "8443"}, "needs a port number", id="external"),
            pytest.param({"registration-bind": "127.0.0.1:8443"}, "two ports cannot share", id="one-address-for-both"),
            pytest.param({"registration-name": "ext"}, "already exists", id="one-name-for-both"),
            pytest.param({"node": ""}, "This field is required", id="no-node"),
            pytest.param({"registration-tls_keystore": ""}, "This field is required", id="no-keystore"),
            pytest.param({"external-tls_keystore": ""}, "Only a port with TLS can ask", id="request-without-tls"),
        ],
    )
    def test_one_that_is_wrong_adds_neither(
        self, owner: Client, pair: dict[str, Any], wrong: dict[str, str], words: str
    ) -> None:
        before = ChangeSet.objects.count()
        answer = owner.post("/ports/add/pair/", pair | wrong)
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert not Port.objects.exists()
        assert ChangeSet.objects.count() == before

    def test_an_internal_node_has_no_such_pair(self, owner: Client, pair: dict[str, Any]) -> None:
        inside = factories.NodeFactory(name="inside", role="internal")
        assert owner.post("/ports/add/pair/", pair | {"node": str(inside.pk)}).status_code == 422


SHOWN = [
    pytest.param("regular", {"bind", "tls_truststore"}, {"registration_port", "client_truststore"}, id="regular"),
    pytest.param("external", {"registration_port", "authenticate", "wait"}, {"connections_min"}, id="external"),
    pytest.param("registration", {"bind", "tls_keystore"}, {"client_auth", "service_default"}, id="registration"),
    pytest.param("internal", {"client_truststore", "dial_address_0"}, {"bind", "wait"}, id="internal"),
]


@pytest.mark.parametrize(("kind", "there", "away"), SHOWN)
def test_a_type_shows_only_what_speaks(owner: Client, kind: str, there: set[str], away: set[str]) -> None:
    fields = set(owner.get(f"/ports/add/{kind}/").context["form"].fields)
    assert there <= fields
    assert not away & fields


def test_every_type_can_be_added_and_an_unknown_one_not(owner: Client) -> None:
    for kind in PortType.values:
        assert owner.get(f"/ports/add/{kind}/").status_code == 200
    assert owner.get("/ports/add/sideways/").status_code == 302


@pytest.fixture
def regular(db: None) -> Any:
    return factories.RegularPortFactory(name="inside-http", bind="127.0.0.1:9000")


def send(owner: Client, port: Port, **typed: Any) -> Any:
    base = {"name": port.name, "node": str(port.node_id), "enabled": "on", "bind": port.bind, "client_auth": "password",
            "accept_basic": "unknown", "service_default": "deny", "ip_default": "allow"}  # fmt: skip
    return owner.post(f"/ports/{port.pk}/", base | typed)


class TestLists:
    @pytest.mark.parametrize(
        ("field", "lines", "words"),
        [
            pytest.param("service_allow", "/ok\n/a/../b", "Line 2: ", id="dots"),
            pytest.param("service_deny", "\n\nnot-there", "Line 3: there is no service or API", id="no-such-service"),
            pytest.param("ip_allow", "10.0.0.0/8\n10.0.0.1/8", "Line 2: ", id="host-bits"),
            pytest.param("ip_deny", "localhost", "is no network", id="a-name"),
            pytest.param("trusted_proxies", "10.0.0.0/8\nx", "Line 2: ", id="proxies"),
        ],
    )
    def test_a_wrong_line_is_named(self, owner: Client, regular: Any, field: str, lines: str, words: str) -> None:
        answer = send(owner, regular, **{field: lines})
        assert answer.status_code == 422
        assert words in " ".join(answer.context["form"].errors[field])

    def test_lines_become_lists_and_lines_again(self, owner: Client, regular: Any) -> None:
        assert send(owner, regular, service_allow="/a\n\n /b ", ip_deny="192.0.2.0/24").status_code == 302
        regular.refresh_from_db()
        assert regular.service_access["allow"] == ["/a", "/b"]
        assert regular.ip_access["deny"] == ["192.0.2.0/24"]
        assert ">\n/a\n/b</textarea>" in owner.get(f"/ports/{regular.pk}/").content.decode()

    def test_allowed_and_denied_at_once_is_told(self, owner: Client, regular: Any) -> None:
        answer = send(owner, regular, service_allow="/a", service_deny="/a")
        assert "allowed and denied at once" in answer.content.decode()


class TestTLS:
    def test_further_keystores_versions_and_ciphers(self, owner: Client, regular: Any) -> None:
        further = factories.KeystoreFactory(minted=mint("CN=b", san=["dns:b.example"], purpose="server"))
        chosen = {"tls_keystore": str(factories.KeystoreFactory().pk), "tls_keystores": [str(further.pk)]}
        answer = send(owner, regular, tls_min_version="1.3", tls_ciphers="compatible", **chosen)
        assert answer.status_code == 302
        regular.refresh_from_db()
        assert (regular.tls_min_version, regular.tls_ciphers) == ("1.3", "compatible")
        assert regular.tls_keystores.get() == further
        page = owner.get(f"/keystores/{further.pk}/").content.decode()
        assert regular.name in page, "the keystore tells where it is used"

    @pytest.mark.parametrize(
        ("san", "words"), [(["dns:localhost"], "are both for localhost"), (["email:a@b.example"], "names no host")]
    )
    def test_keystores_that_no_name_could_choose(self, owner: Client, regular: Any, san: list[str], words: str) -> None:
        further = factories.KeystoreFactory(minted=mint("CN=b", san=san, purpose="server"))
        chosen = {"tls_keystore": str(factories.KeystoreFactory().pk), "tls_keystores": [str(further.pk)]}
        answer = send(owner, regular, **chosen)
        assert answer.status_code == 422
        assert words in " ".join(answer.context["form"].errors["tls_keystores"])

    def test_a_keystore_that_a_port_shows_by_name_stays(self, regular: Any) -> None:
        further = factories.KeystoreFactory(minted=mint("CN=b", san=["dns:b.example"], purpose="server"))
        with change_set("tests", "a further keystore"):
            regular.tls_keystores.add(further)
        with pytest.raises(ProtectedError), change_set("tests", "away"):
            further.delete()


class TestLimits:
    def test_only_what_differs_is_kept(self, owner: Client, regular: Any) -> None:
        assert send(owner, regular, limit_header_fields="64", limit_requests="1000").status_code == 302
        regular.refresh_from_db()
        assert regular.limits == {"header_fields": 64}

    def test_the_default_is_shown_where_nothing_is_set(self, owner: Client, regular: Any) -> None:
        assert 'placeholder="10000"' in owner.get(f"/ports/{regular.pk}/").content.decode()

    def test_what_is_out_of_range_is_told_at_its_field(self, owner: Client, regular: Any) -> None:
        answer = send(owner, regular, limit_header_timeout="0")
        assert "must be at least" in " ".join(answer.context["form"].errors["limit_header_timeout"])


class TestDials:
    @pytest.fixture
    def dial(self, db: None) -> Any:
        return factories.InternalPortFactory(name="dial")

    def typed(self, port: Port, *rows: tuple[str, Any]) -> dict[str, Any]:
        base = {"name": port.name, "node": str(port.node_id), "enabled": "on", "client_auth": "request",
                "tls_keystore": str(port.tls_keystore_id), "tls_truststore": str(port.tls_truststore_id),
                "client_truststore": str(port.client_truststore_id), "accept_basic": "unknown",
                "connections_min": "2", "connections_spare": "2", "connections_max": "64",
                "service_default": "deny", "ip_default": "allow"}  # fmt: skip
        for number, (address, registration) in enumerate(rows):
            base[f"dial_address_{number}"] = address
            base[f"dial_registration_{number}"] = str(registration.pk) if registration else ""
        return base

    def test_rows_are_added_and_taken_away(self, owner: Client, dial: Any) -> None:
        registration = dial.connect.get().registration
        rows = [("edge-1.example:8444", registration), ("", None), ("edge-2.example:8444", registration)]
        assert owner.post(f"/ports/{dial.pk}/", self.typed(dial, *rows)).status_code == 302
        assert [each.address for each in dial.connect.all()] == ["edge-1.example:8444", "edge-2.example:8444"]

    @pytest.mark.parametrize(
        ("address", "registered", "words"),
        [
            pytest.param("edge.example:8444", False, "Choose a registration", id="as-nothing"),
            pytest.param("", True, "Give host and port number", id="nowhere"),
            pytest.param("edge.example", True, "needs a port number", id="without-a-number"),
            pytest.param("", False, "An internal port dials somewhere", id="no-row"),
        ],
    )
    def test_a_row_is_whole(self, owner: Client, dial: Any, address: str, registered: bool, words: str) -> None:
        registration = dial.connect.get().registration if registered else None
        before = list(Dial.objects.values_list("address", flat=True))
        answer = owner.post(f"/ports/{dial.pk}/", self.typed(dial, (address, registration)))
        assert answer.status_code == 422
        assert words in answer.content.decode()
        assert list(Dial.objects.values_list("address", flat=True)) == before

    def test_a_registration_of_another_node_is_refused_and_nothing_kept(self, owner: Client, dial: Any) -> None:
        other = factories.RegistrationFactory(name="of-another")
        answer = owner.post(f"/ports/{dial.pk}/", self.typed(dial, ("edge.example:8444", other)) | {"name": "renamed"})
        assert answer.status_code == 422
        assert "of-another is of node" in answer.content.decode()
        dial.refresh_from_db()
        assert dial.name == "dial"
        assert dial.connect.count() == 1


def test_two_ports_do_not_share_an_address(owner: Client, regular: Any) -> None:
    typed = {"name": "second", "node": str(regular.node_id), "bind": "127.0.0.1:9000", "client_auth": "password",
             "accept_basic": "unknown", "service_default": "deny", "ip_default": "allow", "enabled": "on"}  # fmt: skip
    answer = owner.post("/ports/add/regular/", typed)
    assert answer.status_code == 422
    assert "inside-http listens at 127.0.0.1:9000 already" in answer.content.decode()


def test_a_port_keeps_its_type(owner: Client, regular: Any) -> None:
    send(owner, regular, type="external")
    regular.refresh_from_db()
    assert regular.type == "regular"


def test_what_nobody_records_is_not_written(regular: Any) -> None:
    with change_set("tests", "a limit"):
        regular.limits = {"requests": 5}
        regular.save()
    assert ChangeSet.objects.latest("id").message == "a limit"
