"""Sign-on by an OpenID Connect provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636).

Knows the protocol, and neither rows nor requests. The provider's answers come over the network, so each is bounded,
and none is believed before its signature and every claim that matters are checked.
"""

import base64
import hashlib
import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.utils.translation import gettext

MAX_ANSWER = 256 * 1024  # bytes of one answer of the provider's
TIMEOUT = 5.0  # seconds
SKEW = 60  # seconds by which the provider's clock may differ
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CURVES: dict[str, tuple[str, Any, Any]] = {
    "P-256": ("ES256", ec.SECP256R1(), hashes.SHA256()),
    "P-384": ("ES384", ec.SECP384R1(), hashes.SHA384()),
    "P-521": ("ES512", ec.SECP521R1(), hashes.SHA512()),
}


class SignOnFailed(Exception):
    """Says in words what was wrong, for whoever keeps the console; nothing secret."""


@dataclass(frozen=True, slots=True)
class Client:
    """This console, as the provider knows it."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-on on its way, kept by the browser. `again`: it must prove who it is now, not some time ago."""

    state: str
    nonce: str
    verifier: str
    began: float
    next_url: str
    again: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def begin(client: Client, redirect_uri: str, next_url: str, *, again: bool, now: float) -> tuple[str, Flow]:
    """Where the browser goes, and what it has to bring back. Raises SignOnFailed."""
    flow = Flow(*(secrets.token_urlsafe(32) for _ in range(3)), now, next_url, again)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(flow.verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(client.scopes),
        "state": flow.state,
        "nonce": flow.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    if again:
        query |= {"max_age": "0", "prompt": "login"}
    endpoint = _endpoint(discover(client), "authorization_endpoint")
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urllib.parse.urlencode(query)}", flow


def finish(client: Client, flow: Flow, answer: dict[str, str], redirect_uri: str, *, now: float) -> dict[str, Any]:
    """The claims of who signed on. `answer`: what the provider sent the browser back with. Raises SignOnFailed."""
    if not secrets.compare_digest(answer.get("state", "").encode(), flow.state.encode()):
        raise SignOnFailed(gettext("The answer belongs to another sign-on. Begin again."))
    if answer.get("iss", client.issuer) != client.issuer:  # RFC 9207
        raise SignOnFailed(gettext("The answer came from another provider."))
    if "code" not in answer:
        raise SignOnFailed(
            gettext("The provider refused: {given}").format(given=answer.get("error", "no reason given")[:100])
        )
    about = discover(client)
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect_uri,
        "code_verifier": flow.verifier,
        "client_id": client.client_id,
    }
    headers = {}
    if client.client_secret:
        pair = ":".join(urllib.parse.quote(part, safe="") for part in (client.client_id, client.client_secret))
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    tokens = _fetch(_endpoint(about, "token_endpoint"), headers, urllib.parse.urlencode(form).encode())
    keys = _fetch(_endpoint(about, "jwks_uri")).get("keys")
    claims = verified(tokens.get("id_token"), keys if isinstance(keys, list) else [])
    check(claims, client, flow, now=now)
    return claims


def discover(client: Client) -> dict[str, Any]:
    """What the provider says of itself (OpenID Connect Discovery 1.0)."""
    about = _fetch(f"{client.issuer.rstrip('/')}/.well-known/openid-configuration")
    if about.get("issuer") != client.issuer:
        raise SignOnFailed(
            gettext("The provider calls itself {get!r}, CONSOLE_OIDC_ISSUER {issuer!r}.").format(
                get=about.get("issuer"), issuer=client.issuer
            )
        )
    return about


def _endpoint(about: dict[str, Any], name: str) -> str:
    url = about.get(name)
    if not isinstance(url, str):
        raise SignOnFailed(gettext("The provider names no {name}.").format(name=name))
    _check_url(url)
    return url


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise SignOnFailed(gettext("{url} is not HTTPS; who is in between could sign on as anybody.").format(url=url))


class _Stay(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is none."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _fetch(url: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> dict[str, Any]:
    _check_url(url)
    request = urllib.request.Request(url, body, {"Accept": "application/json", **(headers or {})})  # noqa: S310
    where = urllib.parse.urlsplit(url).netloc
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT) as response:
            data = response.read(MAX_ANSWER + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise SignOnFailed(
            gettext("{where} answered {code} to {path}.").format(
                where=where, code=error.code, path=urllib.parse.urlsplit(url).path
            )
        ) from error
    except OSError as error:
        raise SignOnFailed(gettext("{where} cannot be reached: {error}").format(where=where, error=error)) from error
    try:
        found = json.loads(data) if len(data) <= MAX_ANSWER else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SignOnFailed(gettext("{where} answered with something else than a JSON object.").format(where=where))
    return found


# --- the ID token ---


def verified(token: Any, keys: list[Any]) -> dict[str, Any]:
    """The claims of an ID token that one of the provider's keys has signed. Raises SignOnFailed.

    The algorithm follows from the key; the token's own word on it must only be one that goes with that.
    """
    if not isinstance(token, str) or token.count(".") != 2:
        raise SignOnFailed(gettext("The provider sent no ID token."))
    head, payload, signature = token.split(".")
    header, claims = _object(head), _object(payload)
    signed = f"{head}.{payload}".encode()
    for jwk in keys:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
            continue
        if "kid" in header and jwk.get("kid", header["kid"]) != header["kid"]:
            continue
        try:
            if _signed_by(jwk, str(header.get("alg")), signed, _decode(signature)):
                return claims
        except (ValueError, KeyError, TypeError, InvalidSignature):
            continue
    raise SignOnFailed(gettext("The ID token is signed by none of the provider's keys."))


def _signed_by(jwk: dict[str, Any], alg: str, signed: bytes, signature: bytes) -> bool:
    """Raises InvalidSignature; False for an algorithm that does not go with the key."""
    match jwk["kty"]:
        case "RSA":
            key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
            paddings: dict[str, Any] = {
                "RS256": padding.PKCS1v15(),
                "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), 32),
            }
            if alg not in paddings or key.key_size < 2048:
                return False
            key.verify(signature, signed, paddings[alg], hashes.SHA256())
        case "EC":
            name, curve, digest = _CURVES[jwk["crv"]]
            size = (curve.key_size + 7) // 8
            if alg != name or len(signature) != 2 * size:
                return False
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            point = ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), curve).public_key()
            point.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
        case "OKP":
            if alg not in ("EdDSA", "Ed25519") or jwk["crv"] != "Ed25519":
                return False
            ed25519.Ed25519PublicKey.from_public_bytes(_decode(jwk["x"])).verify(signature, signed)
        case _:
            return False
    return True


def check(claims: dict[str, Any], client: Client, flow: Flow, *, now: float) -> None:
    """Whether the token is for us, for this sign-on and for now (Core, section 3.1.3.7). Raises SignOnFailed."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != client.issuer:
        raise SignOnFailed(gettext("The ID token is of another issuer."))
    if client.client_id not in audiences or (len(audiences) > 1 and claims.get("azp") != client.client_id):
        raise SignOnFailed(gettext("The ID token is for another client."))
    if not isinstance(claims.get("nonce"), str) or claims["nonce"] != flow.nonce:
        raise SignOnFailed(gettext("The ID token belongs to another sign-on."))
    expires, issued = claims.get("exp"), claims.get("iat")
    if not _is_time(expires) or not _is_time(issued) or expires <= now - SKEW or issued > now + SKEW:
        raise SignOnFailed(gettext("The ID token is over, or not yet valid; compare the clocks."))
    if flow.again and not (_is_time(claims.get("auth_time")) and claims["auth_time"] >= flow.began - SKEW):
        raise SignOnFailed(gettext("The provider did not ask again who you are."))
    if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
        raise SignOnFailed(gettext("The ID token names nobody."))


def values_of(claims: dict[str, Any], path: str) -> set[str]:
    """What a claim holds, as texts; `path` looks inside objects: `realm_access.roles`."""
    found: Any = claims
    for part in [path] if path in claims else path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return {each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str)}


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_decode(part))
    except ValueError as error:
        raise SignOnFailed(gettext("The ID token cannot be read.")) from error
    if not isinstance(found, dict):
        raise SignOnFailed(gettext("The ID token cannot be read."))
    return found


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _number(text: str) -> int:
    return int.from_bytes(_decode(text), "big")
