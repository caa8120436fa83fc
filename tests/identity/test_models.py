"""Users, groups, ACLs, certificates, rules and stores: what a row refuses, whoever writes it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models import Model, ProtectedError

from gateway.audit import change_set
from identity.models import ACL, Certificate, Group, Keystore, MappingRule, RevocationList, Truststore, User
from identity.models.base import PredefinedError
from tests import minting
from tests.factories import (
    ACLFactory,
    CertificateFactory,
    GroupFactory,
    KeystoreFactory,
    MappingRuleFactory,
    RegistrationFactory,
    TruststoreFactory,
    UserFactory,
    partner_ca,
    server_ca,
)
from tests.refusals import refused, refused_by_the_database

pytestmark = pytest.mark.django_db


# --- names ---


@pytest.mark.parametrize("name", ["a b", "a/b", "a\nb", "ä", "", "a,b", "a\x00b", "a" * 256, "a\n"])
def test_a_name_that_could_forge_a_header_is_refused(name: str) -> None:
    assert "name" in refused(GroupFactory(), name=name)


@pytest.mark.parametrize("name", ["a b", "", "a\nb", "a/b"])
def test_the_database_refuses_it_too(name: str) -> None:
    refused_by_the_database(GroupFactory(), name=name)


@pytest.mark.parametrize("name", ["a", "orders:submit", "alice@partner.example", "...", "A_b-9", "a" * 255])
def test_names_that_are_taken(name: str) -> None:
    assert GroupFactory(name=name).name == name


def test_a_name_is_given_once_in_each_kind() -> None:
    GroupFactory(name="x")
    assert "name" in refused(GroupFactory(), name="x")
    assert UserFactory(name="x").name == "x"


# --- what is predefined ---


def predefined() -> list[Any]:
    return [row for model in (User, Group, ACL) for row in model._default_manager.filter(predefined=True)]


def test_there_is_what_every_installation_has() -> None:
    assert {f"{type(row).__name__} {row}" for row in predefined()} == {
        "User Default", "Group Everybody", "Group Anonymous", "Group Administrators",
        "ACL Anonymous", "ACL Default", "ACL Administrators",
    }  # fmt: skip
    groups = {
        acl.name: ([g.name for g in acl.allowed.all()], [g.name for g in acl.denied.all()]) for acl in ACL.objects.all()
    }
    assert groups == {
        "Anonymous": (["Everybody"], []),
        "Default": (["Everybody"], ["Anonymous"]),
        "Administrators": (["Administrators"], []),
    }


def test_what_is_predefined_is_neither_deleted_nor_renamed() -> None:
    for row in predefined():
        with pytest.raises(PredefinedError, match="is predefined and cannot be deleted"), change_set("tests", "x"):
            row.delete()
        assert refused(row, name="Renamed") == {"name": [f"{type(row).objects.get(pk=row.pk)} is predefined and keeps "
                                                         "its name."]}  # fmt: skip


def test_nothing_becomes_predefined_or_ceases_to_be() -> None:
    assert "cannot be changed" in str(refused(GroupFactory(), predefined=True))
    assert "cannot be changed" in str(refused(Group.objects.get(name="Everybody"), predefined=False))


def test_a_predefined_description_may_be_changed() -> None:
    everybody = Group.objects.get(name="Everybody")
    with change_set("tests", "described"):
        everybody.description = "All of us"
        everybody.save()
    assert Group.objects.get(name="Everybody").description == "All of us"


@pytest.mark.parametrize("change", [
    pytest.param(lambda acl, group: acl.allowed.add(group), id="add"),
    pytest.param(lambda acl, group: acl.denied.add(group), id="deny"),
    pytest.param(lambda acl, group: acl.allowed.clear(), id="clear"),
    pytest.param(lambda acl, group: acl.allowed.set([group]), id="set"),
    pytest.param(lambda acl, group: group.allowing_acls.add(acl), id="from-the-group"),
])  # fmt: skip
def test_a_predefined_acl_keeps_its_groups(change: Callable[[ACL, Group], object]) -> None:
    acl, group = ACL.objects.get(name="Default"), GroupFactory()
    with pytest.raises(ValidationError), change_set("tests", "another meaning"):
        change(acl, group)
    assert [each.name for each in acl.allowed.all()] == ["Everybody"]


# --- users ---


def test_default_is_nobody_in_particular() -> None:
    default = User.objects.get(name="Default")
    assert default.effective_groups() == ["Everybody", "Anonymous"]
    with pytest.raises(ValidationError, match="cannot log in and has no password"):
        default.set_password("a long enough password")
    with pytest.raises(ValidationError, match="Everybody and Anonymous alone"), change_set("tests", "a member"):
        default.groups.add(GroupFactory())
    assert "Keep it out with an ACL" in str(refused(default, enabled=False))
    refused_by_the_database(default, enabled=False)
    refused_by_the_database(default, password_hash="scrypt$…")


@pytest.mark.parametrize("group", ["Everybody", "Anonymous"])
@pytest.mark.parametrize("from_the_group", [False, True])
def test_fixed_memberships_are_not_entered(group: str, from_the_group: bool) -> None:
    user, row = UserFactory(), Group.objects.get(name=group)
    with pytest.raises(ValidationError, match="membership follows"), change_set("tests", "a member"):
        row.users.add(user) if from_the_group else user.groups.add(row)


def test_groups_that_count_for_a_user() -> None:
    user = UserFactory(groups=[GroupFactory(name="B"), GroupFactory(name="A")])
    assert user.effective_groups() == ["Everybody", "A", "B"]


def test_a_password_is_hashed_and_checked() -> None:
    user = UserFactory(password="correct horse")
    assert "correct horse" not in user.password_hash
    assert user.has_password("correct horse")
    assert not user.has_password("wrong horse")
    assert not UserFactory().has_password("")


@pytest.mark.parametrize("password", ["short", "x" * 1025])
def test_passwords_of_a_length_that_is_refused(password: str) -> None:
    with pytest.raises(ValidationError, match="8 to 1024 characters"):
        UserFactory().set_password(password)


# --- groups and ACLs ---


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda group: UserFactory(groups=[group]), id="a-member"),
        pytest.param(lambda group: ACLFactory(allowed=[group]), id="allowed"),
        pytest.param(lambda group: ACLFactory(denied=[group]), id="denied"),
    ],
)
def test_a_group_in_use_is_not_deleted(use: Callable[[Group], Model]) -> None:
    group = GroupFactory()
    user = use(group)
    with pytest.raises(ProtectedError) as error, change_set("tests", "gone"):
        group.delete()
    assert error.value.protected_objects == {user}
    assert Group.objects.filter(pk=group.pk).exists()


def test_a_group_is_not_allowed_and_denied_at_once() -> None:
    group = GroupFactory()
    with pytest.raises(ValidationError, match="allowed and denied at once; keep one of the two"):
        ACLFactory(allowed=[group], denied=[group])


# --- certificates on file ---


def test_what_a_certificate_says_stands_in_columns() -> None:
    minted = minting.mint("CN=alice,O=Partner", partner_ca(), san=["dns:alice.example", "email:alice@example.org"])
    row = CertificateFactory(minted=minted)
    assert (row.sha256, row.subject, row.issuer) == (
        minted.certificate.sha256, "CN=alice, O=Partner", "CN=Partner CA, O=Acme",
    )  # fmt: skip
    assert row.alternative_names.splitlines() == ["dns:alice.example", "email:alice@example.org"]
    assert row.not_before < datetime.now(UTC) < row.not_after
    assert int(row.serial, 16) == minted.x509.serial_number


def test_columns_follow_the_certificate_and_nothing_else() -> None:
    row = CertificateFactory()
    with change_set("tests", "a forged column"):
        row.sha256, row.subject = "0" * 64, "CN=somebody else"
        row.save()
    assert Certificate.objects.get(pk=row.pk).sha256 == row.certificate.sha256 != "0" * 64
    assert "somebody else" not in Certificate.objects.get(pk=row.pk).subject


def test_a_certificate_is_on_file_once() -> None:
    minted = minting.mint("CN=alice", partner_ca())
    CertificateFactory(name="alice", minted=minted, user=UserFactory(name="alice"))
    with pytest.raises(ValidationError, match="on file already, as alice, mapped to alice"):
        CertificateFactory(minted=minted)
    other = CertificateFactory()
    refused_by_the_database(other, sha256=minted.certificate.sha256)


def test_nothing_is_mapped_to_default() -> None:
    default = User.objects.get(name="Default")
    assert "user" in refused(CertificateFactory(), user=default)
    assert "user" in refused(MappingRuleFactory(), user=default)


@pytest.mark.parametrize("der", [b"", b"not a certificate", b"\x30\x03\x02\x01\x01"])
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    assert refused(CertificateFactory(), der=der)


def test_an_unknown_usage_is_refused() -> None:
    row = CertificateFactory()
    assert "usage" in refused(row, usage="everything")
    refused_by_the_database(row, usage="everything")


def test_a_user_with_certificates_is_not_deleted() -> None:
    row = CertificateFactory(user=UserFactory())
    with pytest.raises(ProtectedError), change_set("tests", "gone"):
        row.user.delete()


def test_which_certificates_log_in() -> None:
    user = UserFactory()
    CertificateFactory(name="yes", user=user)
    CertificateFactory(name="blocked", user=user, blocked=True)
    CertificateFactory(name="other-use", user=user, usage="encrypt")
    CertificateFactory(name="unmapped")
    assert [row.name for row in Certificate.objects.logging_in()] == ["yes"]


# --- mapping rules ---


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"san": ""}, "__all__", id="no-condition"),
        pytest.param({"user_from": "cn"}, "__all__", id="user-and-user-from"),
        pytest.param({"user": None}, "__all__", id="neither"),
        pytest.param({"user": None, "user_from": "serial"}, "user_from", id="unknown-part"),
        pytest.param({"san": "alice.example"}, "san", id="a-name-without-its-kind"),
        pytest.param({"san": "dns:*"}, "san", id="every-name"),
        pytest.param({"san": "dns:a*.example"}, "san", id="a-part-of-a-label"),
        pytest.param({"subject": ["O=Acme"]}, "subject", id="a-list-for-a-subject"),
        pytest.param({"subject": {"O": []}}, "subject", id="no-values"),
        pytest.param({"subject": {"O": [""]}}, "subject", id="an-empty-value"),
        pytest.param({"subject": {"Org": ["Acme"]}}, "subject", id="an-unknown-attribute"),
        pytest.param({"issuer": "Partner CA"}, "issuer", id="no-distinguished-name"),
        pytest.param({"issuer": "CN=Nobody"}, "issuer", id="no-such-authority"),
        pytest.param({"priority": -1}, "priority", id="a-negative-priority"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(changes: dict[str, Any], field: str) -> None:
    assert field in refused(MappingRuleFactory(), **changes)


def test_the_database_knows_whom_a_rule_means() -> None:
    refused_by_the_database(MappingRuleFactory(), user_from="cn")
    refused_by_the_database(MappingRuleFactory(), user=None)


def test_a_rules_issuer_is_one_key_and_not_a_name() -> None:
    TruststoreFactory()
    rule = MappingRuleFactory(issuer="CN=PARTNER CA,O=acme")
    assert rule.issuer_spki_sha256 == partner_ca().certificate.spki_sha256
    TruststoreFactory(anchors=[minting.authority("CN=Partner CA,O=Acme")])
    assert "2 stored authorities with different keys" in str(refused(rule, priority=5))
    with change_set("tests", "no issuer"):
        rule.issuer = ""
        rule.save()
    assert rule.issuer_spki_sha256 == ""


def test_rules_stand_in_the_order_in_which_they_are_tried() -> None:
    MappingRuleFactory(name="b", priority=5)
    MappingRuleFactory(name="c", priority=1)
    MappingRuleFactory(name="a", priority=5)
    assert [rule.name for rule in MappingRule.objects.all()] == ["c", "a", "b"]


# --- stores ---


def test_a_truststore_holds_an_authority_once() -> None:
    store = TruststoreFactory()
    with pytest.raises(ValidationError, match="has this certificate already"), change_set("tests", "again"):
        again = store.certificates.model(truststore=store)
        again.set_certificate(partner_ca().certificate)
        again.full_clean()
        again.save()


def add_crl(store: Truststore, der: bytes) -> RevocationList:
    with change_set("tests", "a revocation list"):
        crl = RevocationList(truststore=store, der=der)
        crl.full_clean()
        crl.save()
    return crl


def test_a_revocation_list_says_until_when_it_speaks() -> None:
    store = TruststoreFactory(anchors=[partner_ca(), server_ca()])
    crl = add_crl(store, minting.crl(partner_ca()))
    assert crl.issuer == "CN=Partner CA, O=Acme"
    assert crl.next_update - crl.last_update == timedelta(days=8)
    assert not crl.overdue
    assert add_crl(store, minting.crl(server_ca(), days=(-9, -1))).overdue


def test_an_authority_has_one_revocation_list_in_a_truststore() -> None:
    store = TruststoreFactory()
    add_crl(store, minting.crl(partner_ca()))
    with pytest.raises(ValidationError, match="has a revocation list of this authority already"):
        add_crl(store, minting.crl(partner_ca()))


def test_what_is_no_revocation_list_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a revocation list"):
        add_crl(TruststoreFactory(), partner_ca().der)


def test_a_truststore_in_use_is_not_deleted() -> None:
    store = TruststoreFactory()
    registration = RegistrationFactory()
    with change_set("tests", "a limit"):
        registration.may_assert_truststores.add(store)
    for used in (store, registration.port.tls_truststore):
        with pytest.raises(ProtectedError), change_set("tests", "gone"):
            used.delete()


def test_an_unknown_word_on_revocation_is_refused() -> None:
    store = TruststoreFactory()
    assert "revocation" in refused(store, revocation="never")
    refused_by_the_database(store, revocation="never")


def test_a_keystore_takes_no_key_of_another_certificate() -> None:
    one, other = minting.mint("CN=one"), minting.mint("CN=other")
    with pytest.raises(ValidationError, match="does not belong to CN=one"):
        KeystoreFactory(minted=one).set_pair((one.certificate,), other.key)


@pytest.mark.parametrize("missing", ["chain", "private_key"])
def test_a_keystore_has_both_halves(missing: str) -> None:
    assert "needs a certificate and its private key" in str(refused(KeystoreFactory(), **{missing: ""}))


@pytest.mark.parametrize("key", ["ec", "ec384", "rsa", "ed25519"])
def test_a_keystore_gives_its_key_back(key: str) -> None:
    pair = minting.mint("CN=x", key=key)
    row = Keystore.objects.get(pk=KeystoreFactory(minted=pair).pk)
    assert row.open_private_key().decode() == pair.key_pem
    assert row.certificate == pair.certificate
