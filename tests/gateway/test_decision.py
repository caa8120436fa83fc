"""The laws of the decision, over generated configurations and requests."""

import base64
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import CredentialKind, Decision, Facts, Outcome, PasswordVerdict, decide
from gateway.core.document import from_document
from gateway.core.reasons import GatewayReason
from gateway.core.snapshot import Snapshot
from identity.core.assertions import Proof
from identity.core.reasons import IdentityReason
from identity.core.trace import words
from tests.factories import partner_ca
from tests.minting import Minted, authority, mint

NOW = time.time()
ALICE = mint("CN=alice,O=Partner One,OU=Orders", partner_ca(), san=["dns:alice.partner.example"])
STRANGER = mint("CN=stranger,O=Partner Two", partner_ca())
ROGUE = mint("CN=alice,O=Partner One", authority("CN=Partner CA,O=Acme"))
EXPIRED = mint("CN=alice,O=Partner One", partner_ca(), days=(-30, -1))
SERVER = mint("CN=alice,O=Partner One", partner_ca(), purpose="server")
GROUPS = ["Partners", "Gateways", "Suspended", "Administrators"]

groups = st.lists(st.sampled_from(GROUPS), unique=True)
acls = st.fixed_dictionaries({"allowed": st.lists(st.sampled_from([*GROUPS, "Everybody"]), unique=True),
                              "denied": st.lists(st.sampled_from([*GROUPS, "Anonymous"]), unique=True)})  # fmt: skip


def port(**more: Any) -> dict[str, Any]:
    return {
        "type": "regular", "host": "127.0.0.1", "number": 1, "keystore": "", "truststore": "partners",
        "server_name": "", "client_auth": "request", "client_truststore": "", "accept_basic": True,
        "authenticate": False, "explain": False, "registration_port": "", "wait": 5.0, "connect": [],
        "connections": {"min": 1, "spare": 1, "max": 4},
        "service_access": {"default": "allow", "allow": [], "deny": []},
        "ip_access": {"default": "allow", "allow": [], "deny": []}, "trusted_proxies": [], "limits": {},
    } | more  # fmt: skip


def document(**more: Any) -> dict[str, Any]:
    service = {"path": "/orders", "methods": [], "backend": "", "builtin": "whoami", "acl": "Partners",
               "identity_headers": [], "forward_authorization": False, "timeout": 1.0, "trailers": []}  # fmt: skip
    anchor = base64.b64encode(partner_ca().der).decode()
    return {
        "format": 1,
        "revision": 1,
        "node": {"name": "inside", "role": "internal"},
        "ports": {"https": port(), "dial": port(type="internal", host="", truststore="", client_truststore="partners")},
        "services": {"orders": service, "open": service | {"path": "/open", "acl": "Anonymous"}},
        "apis": {},
        "endpoints": {},
        "registrations": {"channel": registration()},
        "users": {
            "Default": {"groups": ["Everybody", "Anonymous"], "enabled": True},
            "alice": {"groups": ["Everybody", "Partners"], "enabled": True},
            "bob": {"groups": ["Everybody", "Partners"], "enabled": True},
            "gone": {"groups": ["Everybody", "Partners"], "enabled": False},
        },
        "acls": {
            "Default": {"allowed": ["Everybody"], "denied": ["Anonymous"]},
            "Anonymous": {"allowed": ["Everybody"], "denied": []},
            "Partners": {"allowed": ["Partners"], "denied": ["Suspended"]},
        },
        "certificates": {ALICE.certificate.sha256: {"name": "a", "user": "alice", "logs_in": True, "blocked": False}},
        "mapping_rules": {},
        "truststores": {"partners": {"anchors": [anchor], "crls": [], "hard": True}},
        "keystores": {},
        "token": None,
    } | more


def registration(**more: Any) -> dict[str, Any]:
    return {"port": "reg", "node": "inside", "certificate_sha256": "0" * 64, "enabled": True, "allow_test": False,
            "paths": [], "may_assert": {"truststores": None, "groups": None}} | more  # fmt: skip


def with_acl(member_of: list[str], acl: dict[str, list[str]], channel: dict[str, Any] | None = None) -> Snapshot:
    """`alice` in these groups, the service under this ACL."""
    users = document()["users"] | {"alice": {"groups": ["Everybody", *member_of], "enabled": True}}
    acls_ = document()["acls"] | {"Partners": acl}
    return from_document(document(users=users, acls=acls_, registrations={"channel": channel or registration()}))


def ask(snapshot: Snapshot, minted: Minted | None = None, **more: Any) -> Decision:
    facts = Facts(snapshot.ports["https"], "192.0.2.7", "GET", "/orders")
    if minted is not None:
        facts.certificate, facts.proof = minted.certificate, Proof.TLS
    for name, value in more.items():
        setattr(facts, name, value)
    return decide(facts, snapshot, NOW)


def inward(snapshot: Snapshot, minted: Minted | None = None, **more: Any) -> Decision:
    """As asked through a tunnel."""
    channel = snapshot.registrations["channel"]
    return ask(snapshot, minted, port=snapshot.ports["dial"], registration=channel, **more)


def basic(user: str, password: str = "x") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_mapped_certificate_runs_as_its_user() -> None:
    decision = ask(from_document(document()), ALICE)
    assert (decision.outcome, decision.identity and decision.identity.user) == (Outcome.EXECUTE, "alice")
    assert [step.check for step in decision.steps] == [
        "address", "path", "port access", "certificate", "mapping", "user", "ACL"
    ]  # fmt: skip
    assert all(step.passed for step in decision.steps)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param({"minted": STRANGER}, IdentityReason.CERTIFICATE_UNMAPPED, id="trusted-but-mapped-to-nobody"),
        pytest.param({"minted": ROGUE}, IdentityReason.CERTIFICATE_UNTRUSTED, id="an-authority-of-the-same-name"),
        pytest.param({"minted": EXPIRED}, IdentityReason.CERTIFICATE_EXPIRED, id="expired"),
        pytest.param({"minted": SERVER}, IdentityReason.CERTIFICATE_UNTRUSTED, id="a-server-shown-as-a-client"),
        pytest.param({"minted": partner_ca()}, IdentityReason.CERTIFICATE_UNTRUSTED, id="an-authority-is-no-client"),
        pytest.param({}, IdentityReason.AUTHENTICATION_REQUIRED, id="nothing-shown"),
        pytest.param({"authorization": "Basic !"}, IdentityReason.INVALID_CREDENTIALS, id="malformed-password"),
        pytest.param({"authorization": basic("Default"), "password": PasswordVerdict.RIGHT},
                     IdentityReason.INVALID_CREDENTIALS, id="Default-cannot-log-in"),
        pytest.param({"authorization": basic("nobody"), "password": PasswordVerdict.RIGHT},
                     IdentityReason.INVALID_CREDENTIALS, id="unknown-user"),
        pytest.param({"authorization": basic("gone"), "password": PasswordVerdict.RIGHT},
                     IdentityReason.INVALID_CREDENTIALS, id="disabled-user-by-password"),
        pytest.param({"authorization": basic("alice"), "password": PasswordVerdict.THROTTLED},
                     IdentityReason.INVALID_CREDENTIALS, id="throttled"),
        pytest.param({"target": "/nowhere"}, GatewayReason.NOT_FOUND, id="no-such-service"),
        pytest.param({"target": "/orders/..%2fopen"}, GatewayReason.REQUEST_MALFORMED, id="encoded-slash"),
        pytest.param({"target": "*", "method": "OPTIONS"}, GatewayReason.NOT_IMPLEMENTED, id="asterisk-form"),
        pytest.param({"target": "h:443", "method": "CONNECT"}, GatewayReason.NOT_IMPLEMENTED, id="connect"),
        pytest.param({"peer": "not an address"}, GatewayReason.IP_DENIED, id="no-address"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_reason(facts: dict[str, Any], reason: object) -> None:
    decision = ask(from_document(document()), **facts)
    assert (decision.outcome, decision.reason) == (Outcome.REFUSE, reason)
    assert decision.steps[-1].passed is False, "the last step is the one that decided"


def test_a_password_is_checked_outside_and_decided_inside() -> None:
    snapshot = from_document(document())
    first = ask(snapshot, authorization=basic("alice", "secret"))
    assert (first.outcome, first.user and first.user.name, first.password) == (Outcome.VERIFY, "alice", "secret")
    assert "secret" not in repr(first)
    right = ask(snapshot, authorization=basic("alice"), password=PasswordVerdict.RIGHT)
    assert right.outcome is Outcome.EXECUTE
    wrong = ask(snapshot, authorization=basic("alice"), password=PasswordVerdict.WRONG)
    assert wrong.reason is IdentityReason.INVALID_CREDENTIALS


def test_a_certificate_decides_before_a_password() -> None:
    decision = ask(from_document(document()), STRANGER, authorization=basic("alice"), password=PasswordVerdict.RIGHT)
    assert decision.reason is IdentityReason.CERTIFICATE_UNMAPPED


@given(groups, acls)
def test_denied_beats_allowed(member_of: list[str], acl: dict[str, list[str]]) -> None:
    snapshot = with_acl(member_of, acl)
    decision = ask(snapshot, ALICE)
    held = {"Everybody", *member_of}
    admitted = not held & set(acl["denied"]) and bool(held & set(acl["allowed"]))
    assert (decision.outcome is Outcome.EXECUTE) is admitted
    if not admitted:
        assert decision.reason is IdentityReason.ACL_DENIED


@given(groups, acls, st.sampled_from([*GROUPS, "Everybody"]))
def test_adding_a_denial_never_admits(member_of: list[str], acl: dict[str, list[str]], denied: str) -> None:
    before = ask(with_acl(member_of, acl), ALICE)
    after = ask(with_acl(member_of, acl | {"denied": [*acl["denied"], denied]}), ALICE)
    assert not (after.outcome is Outcome.EXECUTE and before.outcome is not Outcome.EXECUTE)


entries = st.lists(st.sampled_from(["/orders", "/", "/open", "orders"]), unique=True)


@given(entries, entries, st.sampled_from(["allow", "deny"]))
def test_a_denied_path_is_denied_whatever_is_allowed(allow: list[str], deny: list[str], default: str) -> None:
    access = {"default": default, "allow": allow, "deny": deny}
    snapshot = from_document(document(ports={"https": port(service_access=access)}))
    decision = ask(snapshot, ALICE)
    shown = not {"/orders", "/", "orders"} & set(deny) and (
        default == "allow" or bool({"/orders", "/", "orders"} & set(allow))
    )
    assert (decision.reason is not GatewayReason.SERVICE_NOT_ON_PORT) is shown


@given(groups, acls, groups)
def test_a_channel_that_carries_fewer_groups_admits_nobody_more(
    member_of: list[str], acl: dict[str, list[str]], carried: list[str]
) -> None:
    free = with_acl(member_of, acl)
    limited = with_acl(member_of, acl, registration(may_assert={"truststores": None, "groups": carried or ["None"]}))
    if inward(limited, ALICE).outcome is Outcome.EXECUTE:
        assert ask(free, ALICE).outcome is Outcome.EXECUTE


@given(st.sampled_from([None, ALICE, STRANGER, ROGUE, EXPIRED, SERVER]), st.sampled_from(list(PasswordVerdict)),
       st.sampled_from([None, basic("alice"), basic("Default"), basic("x"), "Basic", "Basic ????", "Bearer t"]),
       st.sampled_from(["/orders", "/open", "/orders/../open", "/open/x"]), st.booleans())  # fmt: skip
def test_a_credential_that_is_not_right_never_ends_as_Default(
    minted: Minted | None, verdict: PasswordVerdict, authorization: str | None, target: str, tunnelled: bool
) -> None:
    snapshot = from_document(document())
    how = inward if tunnelled else ask
    decision = how(snapshot, minted, password=verdict, authorization=authorization, target=target)
    shown = minted is not None or (authorization is not None and authorization.startswith("Basic"))
    if decision.identity is not None and decision.identity.anonymous:
        assert not shown
    if decision.outcome is Outcome.EXECUTE and shown:
        assert decision.identity is not None and decision.identity.user == "alice"


rules = st.builds(
    lambda name, priority, user, san, subject: (
        name,
        {"priority": priority, "issuer_spki_sha256": "", "subject": subject, "san": san, "user": user,
         "user_from": None},
    ),
    st.sampled_from("abcdef"), st.integers(1, 3), st.sampled_from(["alice", "bob"]),
    st.sampled_from(["", "dns:*.partner.example", "dns:*.other.example"]),
    st.sampled_from([{}, {"O": ["partner one"]}, {"O": ["partner two"]}, {"OU": ["orders"], "O": ["partner one"]}]),
)  # fmt: skip


some_rules = st.lists(rules, max_size=6, unique_by=lambda rule: rule[0])


@given(some_rules.flatmap(lambda r: st.tuples(st.just(r), st.permutations(r))))
def test_the_order_of_rules_of_one_priority_never_matters(pair: tuple[list[Any], list[Any]]) -> None:
    one, other = (ask(from_document(document(certificates={}, mapping_rules=dict(r))), ALICE) for r in pair)
    assert (one.reason, one.identity) == (other.reason, other.identity)


def test_rules_that_disagree_refuse() -> None:
    both = {
        name: {"priority": 5, "issuer_spki_sha256": "", "subject": {"O": ["partner one"]}, "san": "", "user": name,
               "user_from": None}
        for name in ("alice", "bob")
    }  # fmt: skip
    decision = ask(from_document(document(certificates={}, mapping_rules=both)), ALICE)
    assert decision.reason is IdentityReason.MAPPING_AMBIGUOUS


def test_a_blocked_certificate_logs_in_by_no_rule_either() -> None:
    rule = {"priority": 1, "issuer_spki_sha256": "", "subject": {}, "san": "dns:*.partner.example", "user": "alice",
            "user_from": None}  # fmt: skip
    blocked = {ALICE.certificate.sha256: {"name": "a", "user": "alice", "logs_in": True, "blocked": True}}
    decision = ask(from_document(document(certificates=blocked, mapping_rules={"r": rule})), ALICE)
    assert decision.reason is IdentityReason.CERTIFICATE_UNMAPPED


def test_a_rules_issuer_is_compared_by_key() -> None:
    impostor = authority("CN=Partner CA,O=Acme")
    anchors = [base64.b64encode(ca.der).decode() for ca in (partner_ca(), impostor)]
    rule = {"priority": 1, "issuer_spki_sha256": partner_ca().certificate.spki_sha256, "subject": {}, "san": "",
            "user": None, "user_from": "cn"}  # fmt: skip
    stores = {"partners": {"anchors": anchors, "crls": [], "hard": True}}
    snapshot = from_document(document(certificates={}, mapping_rules={"r": rule}, truststores=stores))
    assert ask(snapshot, ALICE).outcome is Outcome.EXECUTE
    assert ask(snapshot, mint("CN=alice", impostor)).reason is IdentityReason.CERTIFICATE_UNMAPPED


def test_a_test_is_taken_only_where_the_registration_allows_it() -> None:
    for allowed in (True, False):
        snapshot = from_document(document(registrations={"channel": registration(allow_test=allowed)}))
        decision = inward(snapshot, ALICE, proof=Proof.TEST)
        assert (decision.outcome is Outcome.EXECUTE) is allowed
        if not allowed:
            assert decision.reason is IdentityReason.ASSERTION_NOT_PERMITTED


def test_administrators_are_not_carried_unless_they_are_listed() -> None:
    users = document()["users"] | {"alice": {"groups": ["Everybody", "Administrators"], "enabled": True}}
    acls_ = document()["acls"] | {"Partners": {"allowed": ["Administrators"], "denied": []}}
    listed = registration(may_assert={"truststores": None, "groups": ["Administrators"]})
    for entry, outcome in ((registration(), Outcome.REFUSE), (listed, Outcome.EXECUTE)):
        snapshot = from_document(document(users=users, acls=acls_, registrations={"channel": entry}))
        assert inward(snapshot, ALICE).outcome is outcome
    assert ask(snapshot, ALICE).outcome is Outcome.EXECUTE, "called directly he is an administrator"


def test_a_channel_carries_its_paths_alone() -> None:
    snapshot = from_document(document(registrations={"channel": registration(paths=["/open"])}))
    assert inward(snapshot, ALICE).reason is GatewayReason.NOT_ON_CHANNEL
    assert inward(snapshot, ALICE, target="/open/x").outcome is Outcome.EXECUTE


def test_what_is_denied_is_told_before_who_asks() -> None:
    access = {"default": "deny", "allow": ["/open"], "deny": []}
    snapshot = from_document(document(ports={"https": port(service_access=access)}))
    for target in ("/orders", "/nowhere"):
        assert ask(snapshot, target=target).reason is GatewayReason.SERVICE_NOT_ON_PORT


@pytest.mark.parametrize(
    ("access", "address", "admitted"),
    [
        ({"default": "allow", "deny": ["192.0.2.0/24"]}, "192.0.2.7", False),
        ({"default": "deny", "allow": ["192.0.2.0/24"]}, "192.0.2.7", True),
        ({"default": "deny", "allow": ["192.0.2.0/24"], "deny": ["192.0.2.7"]}, "192.0.2.7", False),
        ({"default": "allow", "deny": ["192.0.2.0/24"]}, "::ffff:192.0.2.7", False),
        ({"default": "allow", "deny": ["2001:db8::/32"]}, "2001:db8::1", False),
    ],
    ids=["denied", "allowed", "deny-wins", "mapped-into-IPv6", "IPv6"],
)
def test_addresses(access: dict[str, Any], address: str, admitted: bool) -> None:
    full = {"default": "allow", "allow": [], "deny": []} | access
    snapshot = from_document(document(ports={"https": port(ip_access=full)}))
    assert (ask(snapshot, ALICE, peer=address).reason is not GatewayReason.IP_DENIED) is admitted


def test_forwarded_addresses_count_from_trusted_proxies_alone() -> None:
    access = {"default": "allow", "allow": [], "deny": ["203.0.113.9"]}
    trusting = from_document(document(ports={"https": port(ip_access=access, trusted_proxies=["192.0.2.0/24"])}))
    told = {"forwarded_for": ("198.51.100.1, 203.0.113.9, 192.0.2.8",)}
    assert ask(trusting, ALICE, **told).reason is GatewayReason.IP_DENIED
    plain = from_document(document(ports={"https": port(ip_access=access)}))
    assert ask(plain, ALICE, **told).outcome is Outcome.EXECUTE


def test_an_unchanged_entry_is_taken_over_with_what_is_remembered_of_it() -> None:
    first = from_document(document())
    second = from_document(document(revision=2), first)
    assert second.truststores["partners"] is first.truststores["partners"]
    assert second.ports["https"] is first.ports["https"]
    changed = document(revision=3, ports=document()["ports"] | {"https": port(explain=True)})
    third = from_document(changed, second)
    assert third.ports["https"] is not first.ports["https"]
    assert third.ports["dial"] is first.ports["dial"]


def replaced(until: float, **more: Any) -> Snapshot:
    """Alice's certificate on file, to log in until then; and a rule that means her besides."""
    entry = {"name": "a", "user": "alice", "logs_in": True, "blocked": False, "logs_in_until": until} | more
    rule = {"priority": 1, "issuer_spki_sha256": "", "subject": {}, "san": "dns:alice.partner.example",
            "user": "alice", "user_from": None}  # fmt: skip
    return from_document(document(certificates={ALICE.certificate.sha256: entry}, mapping_rules={"r": rule}))


def test_a_certificate_that_was_replaced_logs_in_until_its_time_and_by_no_rule_afterwards() -> None:
    before, after = ask(replaced(NOW + 60), ALICE), ask(replaced(NOW - 60), ALICE)
    assert before.identity is not None
    assert before.identity.user == "alice"
    assert before.until == NOW + 60, "what is open is asked again then"
    assert after.reason is IdentityReason.CERTIFICATE_UNMAPPED
    words = " ".join(map(str, after.steps[-1]))
    assert "it was replaced, to log in until" in words


def test_the_end_is_its_own_moment() -> None:
    assert ask(replaced(NOW), ALICE).reason is IdentityReason.CERTIFICATE_UNMAPPED


def test_one_that_is_mapped_to_nobody_is_asked_again_when_its_time_is_over() -> None:
    assert ask(replaced(NOW + 60, user=None), ALICE).until == NOW + 60


def test_a_decision_holds_no_longer_than_the_certificate() -> None:
    decision = ask(from_document(document()), ALICE)
    assert decision.until <= ALICE.certificate.not_after
    assert decision.credential is CredentialKind.CERTIFICATE


# --- blocked, and for some ports alone ---


def test_a_blocked_certificate_is_refused_by_a_node_that_maps_nobody_too() -> None:
    passing = port(type="external", registration_port="reg")
    blocked = {"certificates": [ALICE.certificate.sha256], "of_disabled_users": []}
    for entry, outcome in (({}, Outcome.PASS), ({"blocked": blocked}, Outcome.REFUSE)):
        snapshot = from_document(document(ports={"https": passing}, users={}, certificates={}, **entry))
        decision = ask(snapshot, ALICE)
        assert decision.outcome is outcome
    assert decision.reason is IdentityReason.CERTIFICATE_UNMAPPED


def limited(*ports: str) -> Snapshot:
    """`alice` for these ports alone."""
    users = document()["users"] | {"alice": {"groups": ["Everybody", "Partners"], "enabled": True, "ports": [*ports]}}
    return from_document(document(users=users))


def test_a_user_for_the_internal_port_is_worth_nothing_at_another() -> None:
    snapshot = limited("dial")
    for credential in ({"minted": ALICE}, {"authorization": basic("alice"), "password": PasswordVerdict.RIGHT}):
        assert inward(snapshot, **credential).outcome is Outcome.EXECUTE
    assert ask(snapshot, ALICE).reason is IdentityReason.CERTIFICATE_UNMAPPED


@pytest.mark.parametrize("user", ["alice", "gone"], ids=["for-another-port", "disabled"])
def test_a_password_that_counts_for_nothing_cannot_be_told_from_a_wrong_one(user: str) -> None:
    snapshot = limited("dial")
    asked = ask(snapshot, authorization=basic(user))
    unknown = ask(snapshot, authorization=basic("nobody-at-all"))
    assert asked.user is not None and unknown.user is not None
    assert asked.user.password_hash == unknown.user.password_hash == "", "what is verified is nobody's password"
    answers = [
        ask(snapshot, authorization=basic(name), password=verdict)
        for name, verdict in (
            (user, PasswordVerdict.RIGHT),
            (user, PasswordVerdict.WRONG),
            ("bob", PasswordVerdict.WRONG),
        )
    ]
    assert {(answer.reason, answer.detail) for answer in answers} == {
        (IdentityReason.INVALID_CREDENTIALS, "user or password is wrong")
    }
    told = words(answers[0].steps[-1].against)
    assert told == (
        "the user is disabled" if user == "gone" else "the user is for ports dial only, and this is port https"
    )
