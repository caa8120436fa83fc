"""What a node takes as the console's word, and what it does not."""

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Delivery, DeliveryError, check_order, sign, verify
from identity.core import authority
from identity.core.authority import AuthorityError, Pair

NOW = authority.utc_now()
OURS, OTHER = (authority.new_authority(NOW) for _ in range(2))
CONSOLE, STRANGE = (authority.certify_console(each, NOW) for each in (OURS, OTHER))
KEY = authority.new_key()
NODE = Pair(authority.certify_node(OURS, authority.request(KEY, "edge"), "edge", NOW), KEY)


def made(console: Pair = CONSOLE, **more: object) -> Delivery:
    fields = {"node": "edge", "revision": 7, "stands_on": "", "body": b"{}", "now": 0.0} | more
    return sign(console, **fields)  # type: ignore[arg-type]


def test_the_console_is_believed() -> None:
    statement = verify(made(), (OURS.parsed,), "edge")
    assert (statement.node, statement.revision, statement.digest) == ("edge", 7, statement.sha256)
    assert Delivery.of(made().head(), b"{}").body == b"{}"


@pytest.mark.parametrize(
    ("delivery", "words"),
    [
        pytest.param(made(STRANGE), "not from this installation's authority", id="another-installation"),
        pytest.param(made(NODE), "that of urn:postern:node:edge, and not the console's", id="a-node-signs"),
        pytest.param(made(node="inside"), "meant for node inside", id="another-node's"),
        pytest.param(dataclasses.replace(made(), body=b"{ }"), "not the one that was signed", id="changed-body"),
        pytest.param(dataclasses.replace(made(), signed=made(revision=8).signed), "signature", id="changed-statement"),
        pytest.param(dataclasses.replace(made(), signature="00"), "signature", id="no-signature"),
        pytest.param(dataclasses.replace(made(), certificate="none"), "cannot be read", id="no-certificate"),
    ],
)
def test_anybody_else_is_not(delivery: Delivery, words: str) -> None:
    with pytest.raises(DeliveryError, match=words):
        verify(delivery, (OURS.parsed,), "edge")


@given(st.binary(min_size=1, max_size=40), st.integers(0, 39), st.integers(1, 255))
def test_no_byte_of_the_body_can_be_changed(body: bytes, at: int, by: int) -> None:
    changed = bytearray(body)
    changed[at % len(body)] ^= by
    with pytest.raises(DeliveryError, match="not the one that was signed"):
        verify(dataclasses.replace(made(body=body), body=bytes(changed)), (OURS.parsed,), "edge")


def test_nothing_goes_back_and_a_difference_follows_on_its_own_document() -> None:
    whole = verify(made(), (OURS.parsed,), "edge")
    check_order(whole, 7, "another")  # the same revision again, whole: from another console
    with pytest.raises(DeliveryError, match="older than 8"):
        check_order(whole, 8, "")
    after = verify(made(revision=8, stands_on=whole.digest), (OURS.parsed,), "edge")
    check_order(after, 7, whole.digest)
    with pytest.raises(DeliveryError, match="another document"):
        check_order(after, 7, "another")
    assert after.digest not in (whole.digest, after.sha256)


def test_a_delivery_that_lacks_a_part_is_told() -> None:
    with pytest.raises(DeliveryError, match="lacks its statement"):
        Delivery.of({"signed": "x"}, b"")


def test_a_snapshot_stays_signed_when_the_console_s_certificate_has_ended() -> None:
    old = authority.certify_console(OURS, NOW - timedelta(days=400))
    assert verify(made(old), (OURS.parsed,), "edge").revision == 7


def test_a_node_is_named_by_who_certifies_it_and_not_by_itself() -> None:
    certificate = authority.certify_node(OURS, authority.request(KEY, "console"), "inside", NOW)
    assert authority.node_of(x509.load_pem_x509_certificate(certificate.encode()), (OURS.parsed,)) == "inside"
    with pytest.raises(AuthorityError, match="console, and not a node's"):
        authority.node_of(CONSOLE.parsed, (OURS.parsed,))


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    asked = authority.request(KEY, "edge")
    lines = asked.splitlines()
    lines[3] = lines[3][::-1]
    with pytest.raises(AuthorityError):
        authority.certify_node(OURS, "\n".join(lines), "edge", NOW)
    with pytest.raises(AuthorityError, match="no certificate request"):
        authority.certify_node(OURS, "x", "edge", NOW)


def test_certificates_are_renewed_a_month_before_their_end() -> None:
    assert not authority.is_due(NODE.parsed, NOW)
    assert authority.is_due(NODE.parsed, NOW + timedelta(days=authority.CERTIFICATE_DAYS - 29))


def test_a_clock_that_is_ten_minutes_off_refuses_no_certificate() -> None:
    for off in (timedelta(minutes=-10), timedelta(minutes=10)):
        assert NODE.parsed.not_valid_before_utc < NOW + off < NODE.parsed.not_valid_after_utc
