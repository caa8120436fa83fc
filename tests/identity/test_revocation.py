"""Revocation lists: which are taken, what they say, and of whom."""

import time

import pytest
from cryptography import x509

from identity.core import chains
from identity.core.reasons import IdentityReason
from identity.core.revocation import RevocationList, load_crl, newest
from tests.identity.forging import forge, list_of, name, usage, with_sha1
from tests.minting import Minted

ROOT = forge("Root", authority=True)
SUB = forge("Sub", ROOT, authority=True)
ALICE = forge("alice", SUB)
REVOKED, UNKNOWN = IdentityReason.CERTIFICATE_REVOKED, IdentityReason.REVOCATION_UNKNOWN
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def point(**more: object) -> x509.IssuingDistributionPoint:
    fields = {"full_name": None, "relative_name": None, "only_contains_user_certs": False,
              "only_contains_ca_certs": False, "only_some_reasons": None, "indirect_crl": False,
              "only_contains_attribute_certs": False}  # fmt: skip
    return x509.IssuingDistributionPoint(**(fields | more))  # type: ignore[arg-type]


def uri(text: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(text)]


def judged(
    leaf: Minted,
    anchors: list[Minted],
    lists: list[bytes],
    above: tuple[Minted, ...] = (),
    *,
    hard: bool = True,
    awaited: tuple[str, ...] = (),
) -> IdentityReason | None:
    certificates = tuple(each.certificate for each in anchors)
    crls = tuple(load_crl(der, certificates, of_others=True) for der in lists)
    store = chains.Truststore("store", certificates, crls, hard, awaited=awaited)
    return chains.judge(leaf.certificate, tuple(each.certificate for each in above), store, time.time()).reason


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (list_of(ROOT, extensions=[(x509.DeltaCRLIndicator(1), True)]), r"only changes to another \(delta\)"),
        (list_of(ROOT, extensions=[(point(indirect_crl=True), True)]), r"other authorities too \(indirect\)"),
        (list_of(ROOT, [5], entry_extensions=[(x509.CertificateIssuer([x509.DirectoryName(name("x"))]), True)]),
         r"entries of other authorities \(indirect\)"),
        (list_of(ROOT, extensions=[(STRANGE, True)]), "critical extension that is not understood: 1.2.3.4"),
        (list_of(ROOT, [5], entry_extensions=[(STRANGE, True)]), "an entry with a critical extension: 1.2.3.4"),
        (list_of(ROOT, extensions=[(point(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})), True)]),
         "some reasons alone"),
        (list_of(ROOT, extensions=[(point(only_contains_attribute_certs=True), True)]), "attribute certificates"),
        (list_of(ROOT, extensions=[(point(full_name=[x509.DirectoryName(name("x"))]), True)]), "without a URI"),
        (with_sha1(list_of(ROOT), ROOT), "SHA-1; SHA-1 is refused"),
        (list_of(forge("Root", authority=True)), "is not signed by it"),
        (list_of(SUB), "has no authority CN=Sub"),
        (b"\x30\x00", "not a revocation list"),
    ],
)  # fmt: skip
def test_lists_that_are_not_taken(der: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        load_crl(der, [ROOT.certificate])


def test_what_is_known_or_not_critical_is_taken() -> None:
    extensions = [(STRANGE, False), (x509.CRLNumber(7), False)]
    reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
    crl = load_crl(list_of(ROOT, [5], extensions=extensions, entry_extensions=[(reason, False)]), [ROOT.certificate])
    assert (crl.number, crl.revoked, crl.scope) == (7, frozenset({5}), "")


def test_who_names_key_usages_must_name_crl_sign() -> None:
    signs = forge("A", authority=True, extensions=[(usage(key_cert_sign=True, crl_sign=True), True)])
    not_lists = forge("B", authority=True, extensions=[(usage(key_cert_sign=True), True)])
    assert load_crl(list_of(signs), [signs.certificate]).revoked == frozenset()
    with pytest.raises(ValueError, match="cRLSign"):
        load_crl(list_of(not_lists), [not_lists.certificate])


def test_an_authority_between_that_was_revoked() -> None:
    lists = [list_of(ROOT, [SUB.x509.serial_number])]
    assert judged(ALICE, [ROOT], lists, (SUB,)) is REVOKED


def test_a_list_of_an_authority_that_the_client_sends() -> None:
    """It counts once that authority stands in the path, and its key has signed the list."""
    revoking = list_of(SUB, [ALICE.x509.serial_number])
    assert judged(ALICE, [ROOT], [revoking], (SUB,)) is REVOKED
    assert judged(forge("bob", SUB), [ROOT], [revoking], (SUB,)) is None
    assert judged(ALICE, [ROOT], [list_of(SUB, days=(-9, -1))], (SUB,)) is UNKNOWN
    assert judged(ALICE, [ROOT], [list_of(ROOT), revoking], (SUB,)) is REVOKED, "beside that of the one above"
    assert judged(ALICE, [ROOT, SUB], [revoking]) is REVOKED, "and where it is an anchor itself"


def test_nobody_else_speaks_for_it() -> None:
    impostor = forge("Sub", authority=True)
    assert judged(ALICE, [ROOT], [list_of(impostor, [ALICE.x509.serial_number])], (SUB,)) is None
    assert judged(ALICE, [ROOT], [list_of(SUB, [SUB.x509.serial_number])], (SUB,)) is None, "nor does it for itself"
    not_lists = forge("B", ROOT, authority=True, extensions=[(usage(key_cert_sign=True), True)])
    leaf = forge("x", not_lists)
    assert judged(leaf, [ROOT], [list_of(not_lists, [leaf.x509.serial_number])], (not_lists,)) is None, "no cRLSign"


def test_of_an_authority_that_is_sent_the_newest_list_decides() -> None:
    older, newer = list_of(SUB, [ALICE.x509.serial_number], days=(-9, -1)), list_of(SUB)
    assert judged(ALICE, [ROOT], [older, newer], (SUB,)) is None


def test_a_list_that_never_came_may_be_of_whoever_has_none() -> None:
    leaf, url = forge("x", ROOT), ("http://a.example/1.crl",)
    assert judged(leaf, [ROOT], [], awaited=url) is UNKNOWN
    assert judged(leaf, [ROOT], [], awaited=url, hard=False) is None
    assert judged(leaf, [ROOT], [list_of(ROOT)], awaited=url) is None, "the list of another is waited for"
    assert judged(ALICE, [ROOT], [list_of(ROOT)], (SUB,), awaited=url) is UNKNOWN, "as that of an authority between"
    assert judged(ALICE, [SUB, ROOT], [list_of(SUB)], awaited=url) is UNKNOWN, "or of one above an anchor"


def test_an_anchor_that_another_anchor_has_revoked() -> None:
    """An intermediate in a truststore is an anchor; the root beside it still has its say."""
    assert judged(ALICE, [ROOT, SUB], [list_of(ROOT, [SUB.x509.serial_number])]) is REVOKED
    assert judged(ALICE, [SUB, ROOT], [list_of(ROOT)]) is None
    assert judged(ALICE, [SUB, ROOT], [list_of(ROOT, days=(-9, -1))]) is UNKNOWN


def test_a_list_from_the_future_tells_nothing_yet() -> None:
    leaf = forge("x", ROOT)
    assert judged(leaf, [ROOT], [list_of(ROOT, days=(1, 9))]) is UNKNOWN
    assert judged(leaf, [ROOT], [list_of(ROOT, days=(1, 9))], hard=False) is None


def test_soft_passes_over_what_is_stale_and_never_over_what_is_revoked() -> None:
    leaf = forge("x", ROOT)
    stale = list_of(ROOT, [leaf.x509.serial_number], days=(-9, -1))
    assert judged(leaf, [ROOT], [stale], hard=False) is REVOKED


def test_the_newest_list_of_an_authority_decides() -> None:
    leaf = forge("x", ROOT)
    older, newer = list_of(ROOT, [leaf.x509.serial_number], days=(-9, -1)), list_of(ROOT)
    assert judged(leaf, [ROOT], [newer, older]) is None
    assert judged(leaf, [ROOT], [older, newer]) is None


def test_two_keys_of_one_name_have_a_list_each() -> None:
    """An authority that has renewed its key."""
    other = forge("Root", authority=True)
    leaf, lists = forge("x", other), [list_of(ROOT), list_of(other, [5])]
    assert judged(leaf, [ROOT, other], lists) is None
    assert len(newest(load_crl(der, [ROOT.certificate, other.certificate]) for der in lists)) == 2


def test_a_list_about_clients_or_authorities_alone() -> None:
    clients = list_of(ROOT, [5], extensions=[(point(only_contains_user_certs=True), True)])
    authorities = list_of(ROOT, [SUB.x509.serial_number], extensions=[(point(only_contains_ca_certs=True), True)])
    assert judged(ALICE, [ROOT], [clients], (SUB,)) is UNKNOWN
    assert judged(ALICE, [ROOT], [clients, authorities], (SUB,)) is REVOKED
    assert judged(forge("x", ROOT), [ROOT], [clients, authorities]) is None
    assert judged(forge("x", ROOT, serial=5), [ROOT], [clients, authorities]) is REVOKED


def test_a_list_for_one_distribution_point() -> None:
    lists = [list_of(ROOT, [5], extensions=[(point(full_name=uri("http://a.example/1.crl")), True)])]

    def leaf(where: str) -> Minted:
        points = x509.CRLDistributionPoints([x509.DistributionPoint(uri(where), None, None, None)])
        return forge("x", ROOT, serial=5, extensions=[(points, False)])

    assert judged(leaf("http://a.example/1.crl"), [ROOT], lists) is REVOKED
    assert judged(leaf("http://a.example/2.crl"), [ROOT], lists) is UNKNOWN
    assert judged(forge("x", ROOT), [ROOT], lists) is UNKNOWN


def test_the_last_second_of_a_list_is_in_it() -> None:
    leaf = forge("x", ROOT)
    crl = load_crl(list_of(ROOT), [ROOT.certificate])
    assert isinstance(crl, RevocationList)
    assert crl.next_update is not None
    store = chains.Truststore("store", (ROOT.certificate,), (crl,))
    assert chains.judge(leaf.certificate, (), store, crl.next_update + 0.5).reason is None
    assert chains.judge(leaf.certificate, (), store, crl.next_update + 1).reason is UNKNOWN
