"""The statement that crosses the tunnel: what is taken, and everything that is not."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.core import assertions
from identity.core.assertions import AssertionInvalid, Claims, Proof
from tests.factories import partner_ca, server_ca
from tests.minting import mint

NOW = 1_800_000_000
ALICE = mint("CN=alice", partner_ca())
EDGES = {kind: mint("CN=edge", server_ca(), purpose="server", key=kind) for kind in ("ec", "ec384", "ed25519", "rsa")}
AUDIENCE = assertions.audience("inside-at-reg", "nonce-of-this-start")
CLAIMS = Claims("reg", AUDIENCE, ALICE.certificate.sha256, Proof.TLS, NOW, NOW + 60)


def verify(token: bytes, *, edge: str = "ec", **more: Any) -> Claims:
    asked: dict[str, Any] = {
        "tunnel_key": EDGES[edge].key.public_key(),
        "certificate": ALICE.certificate,
        "issuer": "reg",
        "audience": AUDIENCE,
        "now": NOW + 1,
    }
    return assertions.verify(token, **(asked | more))


@pytest.mark.parametrize("kind", EDGES)
def test_each_kind_of_key_signs_and_verifies(kind: str) -> None:
    token = assertions.sign(CLAIMS, EDGES[kind].key)
    assert verify(token, edge=kind) == CLAIMS


def test_a_token_by_the_certificates_own_key() -> None:
    claims = replace(CLAIMS, proof=Proof.KEY)
    assert verify(assertions.sign(claims, ALICE.key)).proof is Proof.KEY
    with pytest.raises(AssertionInvalid, match="signature"):
        verify(assertions.sign(claims, EDGES["ec"].key))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param(
            {"audience": assertions.audience("other", "nonce-of-this-start")}, "aud", id="another-registration"
        ),
        pytest.param({"audience": assertions.audience("inside-at-reg", "older-nonce")}, "aud", id="an-earlier-start"),
        pytest.param({"issuer": "reg2"}, "iss", id="another-registration-port"),
        pytest.param({"now": NOW + 66}, "exp", id="after-its-minute"),
        pytest.param({"now": NOW - 6}, "iat", id="before-its-time"),
        pytest.param({"certificate": mint("CN=bob", partner_ca()).certificate}, "cnf", id="another-certificate"),
        pytest.param({"tunnel_key": EDGES["ed25519"].key.public_key()}, "header", id="another-kind-of-key"),
        pytest.param({"tunnel_key": mint("CN=x", server_ca()).key.public_key()}, "signature", id="another-key"),
    ],
)
def test_a_token_is_worth_nothing_elsewhere_or_later(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(AssertionInvalid) as caught:
        verify(assertions.sign(CLAIMS, EDGES["ec"].key), **changes)
    assert caught.value.field == field


@given(st.floats(-1e6, 1e6))
def test_a_token_holds_for_its_minute_and_the_skew_alone(offset: float) -> None:
    token = assertions.sign(CLAIMS, EDGES["ec"].key)
    try:
        verify(token, now=NOW + offset)
    except AssertionInvalid:
        assert offset < -assertions.SKEW or offset >= 60 + assertions.SKEW
    else:
        assert -assertions.SKEW <= offset < 60 + assertions.SKEW


@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    token = bytearray(assertions.sign(CLAIMS, EDGES["ec"].key))
    place = data.draw(st.integers(0, len(token) - 1))
    token[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[place]))
    with pytest.raises(AssertionInvalid):
        verify(bytes(token))


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(token: bytes) -> None:
    with pytest.raises(AssertionInvalid):
        verify(token)


def part(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")


PAYLOAD = {
    "iss": "reg", "aud": AUDIENCE, "prf": "tls", "iat": NOW, "exp": NOW + 60,
    "cnf": {"x5t#S256": base64.urlsafe_b64encode(bytes.fromhex(ALICE.certificate.sha256)).rstrip(b"=").decode()},
}  # fmt: skip
HEADER = {"alg": "ES256", "typ": "postern-assertion+jwt"}


def signed(header: Any = HEADER, payload: Any = PAYLOAD) -> bytes:
    body = part(header) + b"." + part(payload)
    return body + b"." + base64.urlsafe_b64encode(assertions.raw_signature(body, EDGES["ec"].key)).rstrip(b"=")


def test_what_is_written_by_hand_in_the_one_spelling_is_taken() -> None:
    assert verify(signed()) == CLAIMS


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed({"alg": "none", "typ": HEADER["typ"]}), id="alg-none"),
        pytest.param(signed({"alg": "HS256", "typ": HEADER["typ"]}), id="alg-of-another-family"),
        pytest.param(signed(HEADER | {"crit": ["x"]}), id="crit"),
        pytest.param(signed(HEADER | {"jwk": {}}), id="a-key-of-its-own"),
        pytest.param(signed(payload=PAYLOAD | {"admin": True}), id="another-claim"),
        pytest.param(signed(payload={k: v for k, v in PAYLOAD.items() if k != "exp"}), id="no-expiry"),
        pytest.param(signed(payload=PAYLOAD | {"exp": NOW + 3600}), id="longer-lived-than-we-sign"),
        pytest.param(signed(payload=PAYLOAD | {"exp": NOW}), id="over-before-it-begins"),
        pytest.param(signed(payload=PAYLOAD | {"exp": float(NOW + 60)}), id="a-fractional-time"),
        pytest.param(signed(payload=PAYLOAD | {"iat": True}), id="a-time-that-is-none"),
        pytest.param(signed(payload=PAYLOAD | {"prf": "word"}), id="an-unknown-proof"),
        pytest.param(signed(payload=PAYLOAD | {"aud": [AUDIENCE]}), id="a-list-of-audiences"),
        pytest.param(signed() + b"=", id="padding"),
        pytest.param(signed() + b".", id="four-parts"),
        pytest.param(signed().rpartition(b".")[0] + b".", id="no-signature"),
        pytest.param(signed().rpartition(b".")[0], id="two-parts"),
        pytest.param(b"x" * 5000, id="too-long"),
    ],
)
def test_what_is_not_exactly_ours_is_refused(token: bytes) -> None:
    with pytest.raises(AssertionInvalid):
        verify(token)


def test_a_claim_given_twice_is_refused() -> None:
    text = json.dumps(PAYLOAD, separators=(",", ":")).replace('"prf":"tls"', '"prf":"test","prf":"tls"')
    body = part(HEADER) + b"." + base64.urlsafe_b64encode(text.encode()).rstrip(b"=")
    token = body + b"." + base64.urlsafe_b64encode(assertions.raw_signature(body, EDGES["ec"].key)).rstrip(b"=")
    with pytest.raises(AssertionInvalid, match="twice"):
        verify(token)
