"""Whom a truststore believes."""

import time
from typing import Any

import pytest
from cryptography import x509

from identity.core import chains
from identity.core.certificates import Certificate
from identity.core.reasons import IdentityReason
from tests.factories import partner_ca
from tests.identity.forging import forge
from tests.minting import Minted, authority, crl, mint

SUB = authority("CN=Sub CA,O=Acme", partner_ca())
ALICE = mint("CN=alice", SUB)
DIRECT = mint("CN=direct", partner_ca())


def store(*anchors: Minted, crls: tuple[bytes, ...] = (), hard: bool = True) -> chains.Truststore:
    certificates = tuple(anchor.certificate for anchor in anchors)
    return chains.Truststore("store", certificates, tuple(chains.load_crl(der, certificates) for der in crls), hard)


def judge(
    minted: Minted, truststore: chains.Truststore, above: tuple[Minted, ...] = (), now: float | None = None
) -> object:
    intermediates = tuple(link.certificate for link in above)
    return chains.judge(minted.certificate, intermediates, truststore, time.time() if now is None else now).reason


def test_through_an_intermediate_that_came_along() -> None:
    assert judge(ALICE, store(partner_ca()), (SUB,)) is None
    verdict = chains.judge(ALICE.certificate, (SUB.certificate,), store(partner_ca()), time.time())
    assert verdict.chain == (SUB.certificate, partner_ca().certificate)


def test_whether_an_authority_below_another_is_an_anchor_too_changes_no_chain() -> None:
    """A rule means the one above: a truststore that is given the one below too must not shut its users out."""
    whole = (SUB.certificate, partner_ca().certificate)
    assert chains.judge(ALICE.certificate, (), store(SUB, partner_ca()), time.time()).chain == whole
    assert chains.judge(ALICE.certificate, (), store(SUB), time.time()).chain == whole[:1]
    pinned = store(DIRECT, partner_ca())
    assert chains.judge(DIRECT.certificate, (), pinned, time.time()).chain == whole[1:]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({"days": (-9, -1)}, id="has-expired"),
        pytest.param({"basic": (x509.BasicConstraints(True, 0), True), "below": {"authority": True}}, id="path-length"),
        pytest.param({"extensions": [(x509.NameConstraints([x509.DNSName("a.example")], None), True)]},
                     id="name-constraints"),
    ],
)  # fmt: skip
def test_a_chain_ends_where_it_would_not_hold(made: dict[str, Any]) -> None:
    """What an anchor issued is believed for that anchor; it is one above's, too, only where that one permits it."""
    made = dict(made)
    below = made.pop("below", {})
    root = forge("Root", authority=True, **made)
    sub = forge("Sub", root, authority=True)
    issuer = forge("Below", sub, **below) if below else sub
    names = x509.SubjectAlternativeName([x509.DNSName("b.example")])
    leaf = forge("x", issuer, extensions=[(names, False)])
    above = (issuer.certificate,) if below else ()
    verdict = chains.judge(leaf.certificate, above, store(sub, root), time.time())
    assert verdict.reason is None
    assert verdict.chain == (*above, sub.certificate)


def test_an_intermediate_that_is_missing() -> None:
    truststore = store(partner_ca())
    verdict = chains.judge(ALICE.certificate, (), truststore, time.time())
    assert verdict.reason is IdentityReason.CERTIFICATE_UNTRUSTED
    assert "CN=Sub CA, O=Acme is not in truststore store" in verdict.words


def test_an_intermediate_in_the_truststore_is_an_anchor() -> None:
    assert judge(ALICE, store(SUB)) is None
    assert judge(DIRECT, store(SUB)) is IdentityReason.CERTIFICATE_UNTRUSTED


def test_an_authority_of_the_same_name_is_another() -> None:
    impostor = authority("CN=Partner CA,O=Acme")
    assert judge(mint("CN=alice", impostor), store(partner_ca())) is IdentityReason.CERTIFICATE_UNTRUSTED
    assert judge(mint("CN=alice", impostor), store(partner_ca()), (impostor,)) is IdentityReason.CERTIFICATE_UNTRUSTED


@pytest.mark.parametrize(
    ("minted", "reason"),
    [
        pytest.param(mint("CN=x", partner_ca(), days=(-9, -1)), IdentityReason.CERTIFICATE_EXPIRED, id="over"),
        pytest.param(mint("CN=x", partner_ca(), days=(1, 9)), IdentityReason.CERTIFICATE_EXPIRED, id="not-yet"),
        pytest.param(mint("CN=x", partner_ca(), purpose="server"), IdentityReason.CERTIFICATE_UNTRUSTED, id="server"),
        pytest.param(mint("CN=x", partner_ca(), purpose="none"), None, id="no-purposes-means-any"),
        pytest.param(mint("CN=x", partner_ca(), purpose="both"), None, id="client-among-others"),
        pytest.param(mint("CN=x", partner_ca(), key="rsa"), None, id="rsa"),
        pytest.param(mint("CN=x", partner_ca(), key="ed25519"), None, id="ed25519"),
        pytest.param(mint("CN=x", partner_ca(), key="rsa1024"), IdentityReason.CERTIFICATE_UNTRUSTED, id="weak-key"),
        pytest.param(partner_ca(), IdentityReason.CERTIFICATE_UNTRUSTED, id="an-authority-is-no-client"),
        pytest.param(mint("CN=alone"), IdentityReason.CERTIFICATE_UNTRUSTED, id="signed-by-itself"),
        pytest.param(mint("CN=x", mint("CN=leaf", partner_ca())), IdentityReason.CERTIFICATE_UNTRUSTED,
                     id="signed-by-one-that-may-not"),
    ],
)  # fmt: skip
def test_what_a_client_may_be(minted: Minted, reason: object) -> None:
    assert judge(minted, store(partner_ca()), minted.above) is reason


def test_nobody_is_trusted_by_an_empty_truststore() -> None:
    assert judge(DIRECT, store()) is IdentityReason.CERTIFICATE_UNTRUSTED


def test_a_revoked_certificate() -> None:
    lists = crl(partner_ca(), [DIRECT])
    assert judge(DIRECT, store(partner_ca(), crls=(lists,))) is IdentityReason.CERTIFICATE_REVOKED
    assert judge(mint("CN=other", partner_ca()), store(partner_ca(), crls=(lists,))) is None


def test_a_revoked_intermediate() -> None:
    assert (
        judge(ALICE, store(partner_ca(), crls=(crl(partner_ca(), [SUB]),)), (SUB,))
        is IdentityReason.CERTIFICATE_REVOKED
    )


def test_a_list_speaks_for_the_authority_that_signed_it_alone() -> None:
    assert judge(ALICE, store(partner_ca(), crls=(crl(partner_ca()),)), (SUB,)) is None


def test_a_list_that_has_run_out_is_hard_or_soft() -> None:
    over = crl(partner_ca(), days=(-9, -1))
    assert judge(DIRECT, store(partner_ca(), crls=(over,))) is IdentityReason.REVOCATION_UNKNOWN
    assert judge(DIRECT, store(partner_ca(), crls=(over,), hard=False)) is None


def test_a_list_of_an_impostor_is_not_taken() -> None:
    impostor = authority("CN=Partner CA,O=Acme")
    with pytest.raises(ValueError, match="not signed by it"):
        chains.load_crl(crl(impostor, [DIRECT]), (partner_ca().certificate,))
    with pytest.raises(ValueError, match="has no authority"):
        chains.load_crl(crl(authority("CN=Other")), (partner_ca().certificate,))


def test_a_verdict_is_remembered_until_it_may_change() -> None:
    truststore = store(partner_ca())
    leaf: Certificate = DIRECT.certificate
    first = chains.judge(leaf, (), truststore, time.time())
    assert chains.judge(leaf, (), truststore, time.time()) is first
    assert judge(DIRECT, truststore, now=leaf.not_after + 1) is IdentityReason.CERTIFICATE_EXPIRED
    assert judge(DIRECT, truststore) is None


def test_a_certificate_that_was_not_yet_valid_is_judged_again_when_it_is() -> None:
    early = mint("CN=early", partner_ca(), days=(1, 9))
    truststore = store(partner_ca())
    assert judge(early, truststore) is IdentityReason.CERTIFICATE_EXPIRED
    assert judge(early, truststore, now=early.certificate.not_before + 1) is None
