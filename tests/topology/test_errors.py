"""What is refused: each problem in its place, with what would be right; all of them at once; and nothing is changed."""

from pathlib import Path

import pytest
from django.core.management import call_command, execute_from_command_line
from django.core.management.base import CommandError

from gateway.audit import change_set
from gateway.models import Node, Port
from identity.models import MappingRule, User
from tests import minting
from tests.topology.conftest import Change, File, exported

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # the file's shape
        pytest.param(lambda f: f.topology.update(portz=[]), 'portz: there is no such section; did you mean "ports"?',
                     id="unknown-section"),
        pytest.param(lambda f: f.topology.update(version=2), "version: is 2; version: 1 is understood",
                     id="another-version"),
        pytest.param(lambda f: f.topology.pop("version"), "version: is None; version: 1 is understood",
                     id="no-version"),
        pytest.param(lambda f: f.topology.update(users={"alice": {}}), "users: must be a list of entries",
                     id="a-mapping-for-a-list"),
        pytest.param(lambda f: f.topology["users"].append({"groups": []}), "users[#3].name: every entry needs a name",
                     id="no-name"),
        pytest.param(lambda f: f.topology["users"].append("carol"), "users[#3].name: every entry needs a name",
                     id="no-entry"),
        pytest.param(lambda f: f.topology["users"].append({"name": 7}), "users[#3].name: every entry needs a name",
                     id="a-name-that-is-no-text"),
        pytest.param(lambda f: f.topology["users"].append({"name": "alice"}), "users[alice].name: is given twice",
                     id="a-name-given-twice"),
        pytest.param(lambda f: f.topology["users"].append({"name": "a b"}), "users[a b].name: Use letters, digits",
                     id="an-unsafe-name"),
        # fields and their types
        pytest.param(lambda f: f.entry("ports", "ext").update(clientauth="require"),
                     'ports[ext].clientauth: there is no such field; did you mean "client_auth"?', id="unknown-field"),
        pytest.param(lambda f: f.entry("ports", "ext")["tls"].update(keystor="server"),
                     'ports[ext].tls.keystor: there is no such field; did you mean "keystore"?',
                     id="unknown-field-of-a-part"),
        pytest.param(lambda f: f.entry("ports", "ext")["tls"].update(min_version=1.1),
                     'ports[ext].tls.min_version: there is no "1.1"', id="an-old-version"),
        pytest.param(lambda f: f.entry("ports", "ext")["tls"].update(ciphers="HIGH"),
                     'ports[ext].tls.ciphers: there is no "HIGH"; one of strong, compatible', id="ciphers"),
        pytest.param(lambda f: f.entry("ports", "ext")["tls"].update(keystores=["server"]),
                     "ports[ext].tls.keystores: server is the port's keystore already", id="a-keystore-twice"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(crls=[{"url": "ftp://x/y"}]),
                     "truststores[partners].crls[0].url: Give an http or https URL", id="crl-url"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(crls=[{"url": "http://x/y", "every": "1s"}]),
                     "truststores[partners].crls[0].every: must be 60 s to 30 days", id="crl-every"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(crls=[{"uri": "http://x/y"}]),
                     "truststores[partners].crls[0].uri: there is no such field", id="crl-field"),
        pytest.param(lambda f: f.entry("ports", "dial")["connect"][0].update(host="x"),
                     "ports[dial].connect[0].host: there is no such field", id="unknown-field-of-a-list"),
        pytest.param(lambda f: f.entry("ports", "ext").pop("type"), "ports[ext].type: is missing; one of regular",
                     id="no-type"),
        pytest.param(lambda f: f.entry("ports", "ext").update(type="external port"),
                     'ports[ext].type: there is no "external port"; did you mean "external"?', id="no-such-type"),
        pytest.param(lambda f: f.entry("ports", "ext").update(type=["external"]), "ports[ext].type: there is no",
                     id="a-list-for-a-choice"),
        pytest.param(lambda f: f.entry("services", "orders").pop("path"), "services[orders].path: is missing",
                     id="no-path"),
        pytest.param(lambda f: f.entry("services", "orders").pop("node"),
                     "services[orders].node: is missing; name a node", id="no-node"),
        pytest.param(lambda f: f.entry("services", "orders").update(description=5),
                     "services[orders].description: must be a text, not a number; put it in quotes", id="no-text"),
        pytest.param(lambda f: f.entry("ports", "ext").update(explain="yes"),
                     "ports[ext].explain: must be true or false", id="no-boolean"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(allowed="Partners"),
                     "acls[PartnerApi].allowed: must be a list: [Partners]", id="a-text-for-a-list"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(allowed=[["Partners"]]),
                     "acls[PartnerApi].allowed: must be a list of texts", id="a-list-of-lists"),
        pytest.param(lambda f: f.entry("ports", "ext").update(tls="server"),
                     "ports[ext].tls: must be fields with values", id="a-text-for-fields"),
        pytest.param(lambda f: f.entry("ports", "ext").update(limits={1: 2}),
                     "ports[ext].limits: must be fields with values", id="a-number-for-a-field"),
        pytest.param(lambda f: f.entry("ports", "dial").update(connect={"address": "x"}),
                     "ports[dial].connect: must be a list of entries", id="fields-for-a-list"),
        pytest.param(lambda f: f.entry("ports", "dial").update(connections={"min": -1}),
                     "ports[dial].connections.min: must be a whole number, 0 or more", id="a-negative-number"),
        pytest.param(lambda f: f.entry("ports", "dial").update(connections={"min": 9, "max": 3}),
                     "ports[dial]: connections: min and spare cannot exceed max", id="min-above-max"),
        pytest.param(lambda f: f.entry("ports", "ext").update(wait="soon"),
                     "ports[ext].wait: must be a duration, like 500ms, 5s or 2m", id="no-duration"),
        pytest.param(lambda f: f.entry("ports", "ext").update(wait=float("nan")),
                     "ports[ext].wait: must be a duration", id="a-duration-that-is-no-number"),
        pytest.param(lambda f: f.entry("services", "orders").update(timeout="2h"), "services[orders].timeout: Ensure",
                     id="a-duration-out-of-range"),
        # names of other objects
        pytest.param(lambda f: f.entry("ports", "ext").update(registration_port="regg"),
                     'ports[ext].registration_port: there is no port "regg"; did you mean "reg"?', id="dangling"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(allowed=["Partner"]),
                     'acls[PartnerApi].allowed: there is no group "Partner"; did you mean "Partners"?', id="no-group"),
        pytest.param(lambda f: f.entry("ports", "dial").update(service_access={"allow": ["order"]}),
                     'ports[dial].service_access: there is no service or API "order"; did you mean "orders"?',
                     id="no-service"),
        pytest.param(lambda f: f.entry("endpoints", "caller").update(url="reverse://rog/orders"),
                     'endpoints[caller].url: there is no port "rog"; did you mean "reg"?', id="no-registration-port"),
        pytest.param(lambda f: f.entry("ports", "dial")["connect"][0].update(registration="inside"),
                     'ports[dial].connect[0].registration: there is no registration "inside"', id="no-registration"),
        pytest.param(lambda f: f.topology.update(mapping_rules=[{"name": "r", "issuer": "CN=None", "user": "bob"}]),
                     "mapping_rules[r].issuer: No truststore holds an authority CN=None", id="no-authority"),
        # contradictions
        pytest.param(lambda f: f.entry("ports", "ext").pop("registration_port"),
                     "ports[ext].registration_port: An external port needs its registration port.", id="no-pair"),
        pytest.param(lambda f: f.entry("ports", "reg").update(bind=f.entry("ports", "ext")["bind"]),
                     "two ports cannot share an address", id="two-ports-on-one-address"),
        pytest.param(lambda f: f.entry("ports", "ext").update(bind="gateway"),
                     "ports[ext].bind: 'gateway' needs a port number", id="no-address"),
        pytest.param(lambda f: f.entry("acls", "PartnerApi").update(denied=["Partners"]),
                     "acls[PartnerApi].denied: Partners: allowed and denied at once", id="allowed-and-denied"),
        pytest.param(lambda f: f.entry("users", "alice").update(groups=["Everybody"]),
                     "users[alice].groups: Everybody: membership follows", id="fixed-membership"),
        pytest.param(lambda f: f.entry("users", "bob").update(password="short"),
                     "users[bob].password: A password has 8 to 1024 characters", id="a-short-password"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(user="Default"),
                     "certificates[alice].user: A certificate cannot be mapped to Default", id="mapped-to-Default"),
        pytest.param(lambda f: f.topology["certificates"].append({"name": "twin", "certificate": "pki/alice.pem"}),
                     "certificates[twin]: This certificate is on file already, as alice", id="a-certificate-twice"),
        pytest.param(lambda f: f.topology["endpoints"].append(
                         {"name": "e", "url": "https://x:1", "identity": "certificate"}),
                     "endpoints[e].keystore: Identity certificate needs a keystore", id="no-keystore"),
        pytest.param(lambda f: f.entry("endpoints", "caller").update(keystore="server"), "would have no effect",
                     id="a-keystore-without-effect"),
        pytest.param(lambda f: f.entry("endpoints", "caller").update(url="https://inside:8443", identity="caller"),
                     "Use reverse://", id="caller-over-https"),
        pytest.param(lambda f: f.entry("endpoints", "caller").update(url="reverse://ext/orders"),
                     "endpoints[caller].url: ext is a port of type external", id="reverse-to-no-registration-port"),
        pytest.param(lambda f: f.entry("services", "orders").update(backend="http://x"), "exactly one of the two",
                     id="backend-and-builtin"),
        pytest.param(lambda f: f.entry("services", "orders").update(path="/a/../b"),
                     "services[orders].path: '/a/../b' is not in normal form", id="a-path-that-is-not-normal"),
        pytest.param(lambda f: f.entry("ports", "ext").update(ip_access={"deny": ["10.0.0.1/8"]}),
                     "ports[ext].ip_access: '10.0.0.1/8' is no network", id="host-bits-set"),
        pytest.param(lambda f: f.entry("ports", "ext").update(limits={"requests": 0}),
                     "ports[ext].limits: requests: must be at least 1", id="a-limit-out-of-range"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(node="edge"),
                     "only an internal node dials in", id="an-edge-that-dials"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(
                         next_certificate="pki/inside-client.pem"),
                     "registrations[inside-at-reg].next_certificate: This is the present certificate",
                     id="followed-by-itself"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(next_certificate="pki/alice.key"),
                     "registrations[inside-at-reg].next_certificate: ", id="followed-by-no-certificate"),
        pytest.param(lambda f: f.topology["registrations"].append(
                         {"name": "second", "port": "reg", "node": "inside", "certificate": "pki/bob.pem",
                          "next_certificate": "pki/inside-client.pem"}),
                     "registrations[second].next_certificate: Registration inside-at-reg at this port has this",
                     id="followed-by-another-node"),
        pytest.param(lambda f: f.entry("registrations", "inside-at-reg").update(may_assert={"groups": []}),
                     "may_assert.groups: an empty list would assert nobody", id="nobody-to-assert"),
        pytest.param(lambda f: f.entry("users", "alice").update(ports=["exit"]),
                     'users[alice].ports: there is no port "exit"; did you mean "ext"?', id="for-a-port-that-is-not"),
        pytest.param(lambda f: f.entry("certificates", "bob").update(ports=[]),
                     "certificates[bob].ports: an empty list would mean nowhere", id="for-no-port"),
        pytest.param(lambda f: f.entry("users", "alice").update(ports=["ext", "ext"]),
                     "users[alice].ports: A port is named twice", id="for-a-port-twice"),
        pytest.param(lambda f: f.topology["users"].append({"name": "Default", "ports": ["ext"]}),
                     "users[Default].ports: Default stands for callers without a credential", id="Default-for-a-port"),
        pytest.param(lambda f: f.topology["acls"].append({"name": "Default", "allowed": ["Partners"]}),
                     "acls[Default].allowed: Default is predefined and keeps its groups: [Everybody]",
                     id="a-predefined-ACL-changed"),
        pytest.param(lambda f: f.topology["users"].append({"name": "Default", "enabled": False}),
                     "users[Default]: Default stands for callers without a credential", id="Default-disabled"),
        # files
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate="pki/none.pem"),
                     "certificates[alice].certificate: pki/none.pem cannot be read: No such file", id="no-file"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate="pki"),
                     "certificates[alice].certificate: pki is no file", id="a-folder"),
        pytest.param(lambda f: f.entry("certificates", "alice").pop("certificate"),
                     "certificates[alice].certificate: is missing; give a file, or PEM", id="no-certificate"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate=5),
                     "certificates[alice].certificate: must be a path, or PEM, not a number", id="a-number-for-a-file"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate="pki/alice.key"),
                     "certificates[alice].certificate: pki/alice.key: The file", id="a-key-for-a-certificate"),
        pytest.param(lambda f: f.entry("keystores", "server").update(private_key="pki/alice.key"),
                     "keystores[server].private_key: The private key does not belong to",
                     id="a-key-that-does-not-match"),
        pytest.param(lambda f: f.entry("keystores", "server").update(private_key="pki/alice.pem"),
                     "keystores[server].private_key: This is a certificate", id="a-certificate-for-a-key"),
        pytest.param(lambda f: f.entry("keystores", "server").pop("private_key"),
                     "keystores[server].private_key: is missing; give a file, or PEM", id="no-key"),
        pytest.param(lambda f: f.entry("keystores", "server").update(next={"from": "2030-01-01"}),
                     "keystores[server].next.certificate: is missing; give a file, or PEM", id="a-time-for-nothing"),
        pytest.param(lambda f: f.entry("keystores", "server").update(
                         next={"certificate": "pki/alice.pem", "private_key": "pki/bob.key"}),
                     "keystores[server].private_key: The private key does not belong to",
                     id="a-renewal-that-does-not-match"),
        pytest.param(lambda f: f.entry("keystores", "server").update(next={"from": "soon"}),
                     "keystores[server].next.from: must be a date or a time, like 2027-03-31", id="no-time"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(logs_in_until=7),
                     "certificates[alice].logs_in_until: must be a date or a time", id="a-number-for-a-time"),
        pytest.param(lambda f: f.entry("certificates", "alice").update(certificate={"file": "a", "pass": "secret"}),
                     "certificates[alice].certificate: must be a path, or PEM, or {file: …, password: …}",
                     id="fields-that-are-no-file"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(crls="pki/alice.pem"),
                     "truststores[partners].crls: This is not a revocation list", id="a-certificate-for-a-list"),
        pytest.param(lambda f: f.entry("truststores", "partners").update(
                         crls=minting.crl_pem(minting.authority("CN=Partner CA,O=Acme")).decode()),
                     "truststores[partners].crls: The revocation list names CN=Partner CA, O=Acme as its issuer and is "
                     "not signed by it", id="a-list-of-somebody-else"),
    ],
)  # fmt: skip
def test_an_error_names_entry_field_and_cause(small: File, change: Change, said: str) -> None:
    change(small)
    assert said in small.errors()


def test_every_error_is_told_at_once_in_the_files_order(small: File) -> None:
    small.entry("ports", "ext").update(wait="soon", explain="yes", typ="external")
    small.entry("certificates", "alice").update(usage="ssl", user="alicia")
    small.entry("services", "orders").update(path="orders", methods=["FETCH"])
    assert [line.partition(": ")[0] for line in small.errors().splitlines()] == [
        "certificates[alice].user",
        "certificates[alice].usage",
        "services[orders].path",
        "ports[ext].explain",
        "ports[ext].wait",
        "ports[ext].typ",
    ]


def test_what_only_follows_from_another_error_is_not_told(small: File) -> None:
    """`ext` names `reg`, the endpoint and the registration too; what is wrong is that `reg` has no keystore."""
    small.entry("ports", "reg")["tls"] = {"keystore": "servr", "truststore": "servers"}
    assert small.errors() == 'ports[reg].tls.keystore: there is no keystore "servr"; did you mean "server"?\n'


def test_a_circle_of_names_is_told(small: File) -> None:
    """The registration port would list an API that goes through it."""
    small.entry("ports", "reg")["service_access"] = {"allow": ["orders-api"]}
    assert 'ports[reg].service_access: there is no service or API "orders-api"' in small.errors()


# --- what names a changed object ---


def test_a_node_keeps_the_role_that_its_ports_need(small: File) -> None:
    small.say()
    said = small.errors(text="version: 1\nnodes: [{name: inside, role: edge}]\n")
    assert "ports[dial].type: inside is edge; a port of type internal needs a node that is internal." in said
    assert "registrations[inside-at-reg].node: inside is edge; only an internal node dials in." in said
    assert Node.objects.get(name="inside").role == "internal"


def test_a_registration_port_keeps_its_type_while_it_is_needed(small: File) -> None:
    small.say()
    text = "version: 1\nports: [{name: reg, node: edge, type: regular, bind: '127.0.0.1:8444'}]\n"
    said = small.errors(text=text)
    for place in ("ports[ext].registration_port", "registrations[inside-at-reg].port", "endpoints[caller].url"):
        assert f"{place}: reg is" in said
    assert Port.objects.get(name="reg").type == "registration"


def test_an_authority_stays_while_a_rule_means_it(small: File) -> None:
    small.topology["mapping_rules"] = [{"name": "all", "issuer": "CN=Partner CA,O=Acme", "user": "alice"}]
    small.say()
    text = "version: 1\ntruststores: [{name: partners, certificates: pki/server-ca.pem}]\n"
    assert "mapping_rules[all].issuer: No truststore would hold CN=Partner CA" in small.errors(text=text)
    small.topology["truststores"] = small.topology["truststores"][1:]
    for port in small.topology["ports"]:
        port.pop("client_truststore", None)
        port["tls"] = {"keystore": "server", "truststore": "servers"} if port["name"] != "plain" else {}
        if port["name"] in ("ext", "dial"):
            port["client_auth"] = "password"
    small.entry("registrations", "inside-at-reg").pop("may_assert")
    assert "mapping_rules[all].issuer: No truststore would hold" in small.errors("--prune")
    assert MappingRule.objects.exists()


def test_both_ends_may_change_together(small: File) -> None:
    small.say()
    for section in ("services", "apis", "endpoints", "registrations"):
        del small.topology[section]
    small.topology["ports"] = [{"name": "plain", "node": "inside", "type": "regular", "bind": "127.0.0.1:8080"}]
    small.entry("nodes", "inside")["role"] = "standalone"
    small.say("--prune")
    assert Node.objects.get(name="inside").role == "standalone"


# --- YAML ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("version: 1\nports: [\n", "line 3, column 1", id="unfinished"),
        pytest.param(
            "version: 1\nusers: []\nusers: []\n", "line 3, column 1: 'users' is given twice", id="a-key-twice"
        ),
        pytest.param("version: 1\n\tusers: []\n", "line 2, column 1", id="a-tab"),
        pytest.param("", "The file holds no sections; it begins with version: 1.", id="empty"),
        pytest.param("- users\n", "The file holds no sections", id="a-list"),
        pytest.param("a: \x01\n", "This is not YAML", id="a-control-character"),
        pytest.param("[" * 100_000 + "]" * 100_000, "line 1 is nested too deeply", id="nested-too-deeply"),
        pytest.param("version: 1\nusers: [{name: 2026-13-45}]\n", "cannot be read; put it in quotes", id="no-date"),
        pytest.param("version: 1\n---\nversion: 1\n", "another document", id="two-documents"),
    ],
)
def test_what_is_no_yaml_is_told_by_line(small: File, text: str, said: str) -> None:
    assert said in small.errors(text=text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"Nothing was changed: .*none\.yaml cannot be read: No such file"):
        call_command("apply", str(tmp_path / "none.yaml"))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_bytes(b"version: 1 # \xff\n")
    with pytest.raises(CommandError, match=r"t\.yaml is no text in UTF-8 \(byte 14\)"):
        call_command("apply", str(tmp_path / "t.yaml"))


# --- secrets ---

SECRET = "correcthorsebatterystaple" * 3  # as long as a key in base64


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("users: [{name: u, password: *SECRET}]", id="taken-for-an-alias"),
        pytest.param("users: [{name: u, password: !SECRET}]", id="taken-for-a-tag"),
        pytest.param("users: [{name: u, password: !SECRET!x y}]", id="taken-for-a-handle"),
        pytest.param("users: [{name: u, password: [SECRET]}]", id="a-list"),
        pytest.param("users: [{name: u, password: {kept: [SECRET]}}]", id="kept-wrongly"),
        pytest.param("users: [{name: u, password: SECRET, enabled: maybe}]", id="beside-another-error"),
        pytest.param("users: [{name: Default, password: SECRET}]", id="where-none-can-be"),
        pytest.param("endpoints: [{name: e, url: 'https://x:1', password: SECRET}]", id="of-an-endpoint"),
        pytest.param("keystores: [{name: k, certificate: SELF, private_key: SECRET}]", id="a-key-for-a-path"),
        pytest.param("keystores: [{name: k, certificate: SELF, private_key: [SECRET]}]", id="a-list-of-keys"),
        pytest.param("keystores: [{name: k, certificate: SELF, private_key: {kept: SECRET, also: SECRET}}]",
                     id="a-key-kept-wrongly"),
        pytest.param('keystores: [{name: k, certificate: SELF, private_key: "-----BEGIN SECRET"}]', id="no-pem"),
        pytest.param("keystores: [{name: k, certificate: SELF, private_key: KEY, private_key_password: SECRET}]",
                     id="a-pass-phrase-too-many"),
    ],
)  # fmt: skip
def test_no_error_tells_a_secret(small: File, text: str) -> None:
    for name, value in {"SECRET": SECRET, "SELF": "pki/alice.pem", "KEY": "pki/alice.key"}.items():
        text = text.replace(name, value)
    assert SECRET not in small.errors(text=f"version: 1\n{text}\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda f: f.entry("keystores", "server").update(
                         certificate="pki/alice.pem", private_key="pki/alice.key"),
                     "keystores[server].private_key: another key is stored, or none", id="another-key"),
        pytest.param(lambda f: f.entry("users", "bob").update(password="another password"),
                     "users[bob].password: another password is stored, or none", id="another-password"),
        pytest.param(lambda f: f.entry("users", "bob").pop("password"),
                     "users[bob].password: another password is stored, or none", id="no-password"),
        pytest.param(lambda f: f.entry("endpoints", "batch").update(password="another password"),
                     "endpoints[batch].password: another password is stored, or none", id="an-endpoints-password"),
    ],
)  # fmt: skip
def test_an_export_is_refused_where_another_secret_is_stored(small: File, change: Change, said: str) -> None:
    small.entry("users", "bob")["password"] = "the first password"
    batch = {"name": "batch", "url": "reverse://reg", "identity": "basic", "username": "bob", "password": "first one"}
    small.topology["endpoints"].append(batch)
    small.say()
    text = exported()
    change(small)
    small.say()
    assert said in small.errors(text=text)


def test_an_export_is_refused_where_no_secret_is_stored(small: File) -> None:
    small.say()
    text = exported()
    small.say("--prune", text="version: 1\n")
    assert "keystores[server].private_key: another key is stored, or none" in small.errors(text=text)


def test_a_change_elsewhere_does_not_come_between(small: File) -> None:
    """What the file does not name stays as it is, and is checked against it all the same."""
    small.say()
    with change_set("olivia", "by hand"):
        User(name="carol").save()
    small.topology["users"] = [{"name": "bob"}]
    small.say()
    assert User.objects.filter(name="carol").exists()


def test_the_exit_code_is_1_and_problems_go_to_standard_error(small: File, capsys: pytest.CaptureFixture[str]) -> None:
    small.entry("ports", "ext")["wait"] = "soon"
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(["manage.py", "apply", small.write()])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "ports[ext].wait: must be a duration, like 500ms, 5s or 2m",
        "CommandError: Nothing was changed: 1 error.",
    ]
