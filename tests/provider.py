"""An OpenID Connect provider on a socket of its own: logs everybody in as the one that a test says."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CLIENT, SECRET = "postern console", "the client's secret"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@dataclass
class Provider:
    """`with Provider() as idp:`; tests change its attributes to make it answer otherwise."""

    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "4711", "preferred_username": "erika"})
    alg: str = "RS256"
    forge: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    sign_with: Any = None  # another key than the one that it publishes
    header: dict[str, Any] = field(default_factory=dict)
    refuse: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def __enter__(self) -> "Provider":
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._codes: dict[str, dict[str, list[str]]] = {}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # --- what is asked ---

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        match parts.path:
            case "/.well-known/openid-configuration":
                about = {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys",
                }
                self._json(request, about | self.about)
            case "/keys":
                other = self._jwk("ES256", "another") if self.alg != "ES256" else self._jwk("RS256", "another")
                self._json(request, {"keys": [other, self._jwk(self.alg, "current")]})
            case "/authorize":
                self.asked.append(query)
                code = secrets.token_urlsafe(8)
                self._codes[code] = query
                back = {"state": query["state"][0]} | ({"error": self.refuse} if self.refuse else {"code": code})
                request.send_response(302)
                request.send_header("Location", f"{query['redirect_uri'][0]}?{urlencode(back)}")
                request.end_headers()
            case _:
                request.send_error(404)

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        form = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        asked = self._codes.pop(form["code"][0], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=")
        wanted = base64.b64encode(f"{quote(CLIENT, safe='')}:{quote(SECRET, safe='')}".encode()).decode()
        good = (
            asked is not None
            and asked["code_challenge"] == [challenge.decode()]
            and asked["redirect_uri"] == form["redirect_uri"]
            and request.headers["Authorization"] == f"Basic {wanted}"
        )
        if not good or asked is None:
            request.send_error(400)
            return
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"][0]}
        if "max_age" in asked:
            claims["auth_time"] = now
        self._json(request, {"access_token": "x", "id_token": self._token(self.forge(claims | self.claims))})

    def _json(self, request: BaseHTTPRequestHandler, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    # --- its keys ---

    def _token(self, claims: dict[str, Any]) -> str:
        header = {"alg": self.alg, "kid": "current"} | self.header
        signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
        return f"{signed}.{encode(self._sign(signed.encode()))}"

    def _sign(self, signed: bytes) -> bytes:
        key = self.sign_with or KEYS[self.alg]
        match key:
            case rsa.RSAPrivateKey():
                return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePrivateKey():
                size = (key.curve.key_size + 7) // 8
                digest: Any = hashes.SHA256() if size == 32 else hashes.SHA384()
                r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
                return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        return bytes(key.sign(signed))

    def _jwk(self, alg: str, kid: str) -> dict[str, str]:
        public = KEYS[alg].public_key()
        match public:
            case rsa.RSAPublicKey():
                numbers = public.public_numbers()
                return {"kid": kid, "kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), "use": "sig"}
            case ec.EllipticCurvePublicKey():
                point, size = public.public_numbers(), (public.curve.key_size + 7) // 8
                curve = f"P-{public.curve.key_size}"
                return {"kid": kid, "kty": "EC", "crv": curve, "x": number(point.x, size), "y": number(point.y, size)}
        return {"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": encode(public.public_bytes_raw())}


def number(value: int, size: int = 0) -> str:
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
