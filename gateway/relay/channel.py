"""The internal node's end of a channel: what comes through a registration's tunnels is believed here, or not.

No socket: takes the fields that speak on a tunnel and gives the credential that they prove.
"""

from collections.abc import Callable
from typing import Any

from gateway.core.headers import parse_client_cert, parse_client_cert_chain
from gateway.core.reasons import Reason
from gateway.core.snapshot import Registration
from identity.core import assertions
from identity.core.assertions import SKEW, AssertionInvalid, Proof
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.core.chains import MAX_INTERMEDIATES
from identity.core.reasons import IdentityReason

_REMEMBERED = 4096  # credentials per channel


class Credential:
    """What a caller proved, as the edge states it; or why that is not believed.

    Attributes:
        valid_until: seconds since 1970-01-01 UTC in this node's clock.
        decisions, decided_by: remembered by the connections of the channel for this credential alone, and the
            snapshot that they were made by.
    """

    __slots__ = ("certificate", "decided_by", "decisions", "intermediates", "problem", "proof", "valid_until")

    def __init__(
        self,
        certificate: Certificate | None = None,
        intermediates: tuple[Certificate, ...] = (),
        proof: Proof | None = None,
        valid_until: float = float("inf"),
        problem: tuple[Reason, str] | None = None,
    ) -> None:
        self.certificate, self.intermediates, self.proof = certificate, intermediates, proof
        self.valid_until, self.problem = valid_until, problem
        self.decisions: dict[object, Any] = {}
        self.decided_by: object = None


class Channel:
    """All tunnels of one registration that this node dialled from one port to one address."""

    def __init__(self, registration: Registration, nonce: str) -> None:
        self.registration = registration
        self.audience = assertions.audience(registration.name, nonce)
        self._known: dict[tuple[bytes, bytes | None, bytes | None], Credential] = {}
        self._nobody = Credential()

    def credential(self, fields: dict[bytes, bytes], tunnel_key: Any, clock: Callable[[], float]) -> Credential:
        """What the fields of one request prove. Verified once; remembered while it is good.

        Args:
            tunnel_key: public key of the certificate that the registration port showed in this tunnel's handshake.
        """
        token = fields.get(b"postern-assertion")
        shown, chain = fields.get(b"client-cert"), fields.get(b"client-cert-chain")
        if token is None:
            if shown is None and chain is None:
                return self._nobody
            return Credential(problem=(IdentityReason.ASSERTION_INVALID, "a certificate came without an assertion"))
        now = clock()
        key = token, shown, chain
        known = self._known.get(key)
        if known is not None and now < known.valid_until:
            return known
        credential = self._verify(token, shown, chain, tunnel_key, now)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        if credential.problem is None:
            self._known[key] = credential
        return credential

    def _verify(
        self, token: bytes, shown: bytes | None, chain: bytes | None, tunnel_key: Any, now: float
    ) -> Credential:
        try:
            if shown is None:
                raise AssertionInvalid("Client-Cert", "missing: the certificate that the assertion names")
            certificate = from_der(parse_client_cert(shown))
            above = parse_client_cert_chain(chain or b"")
            if len(above) > MAX_INTERMEDIATES:
                raise AssertionInvalid("Client-Cert-Chain", f"{len(above)} certificates; at most {MAX_INTERMEDIATES}")
            intermediates = tuple(from_der(der) for der in above)
            claims = assertions.verify(
                token,
                tunnel_key=tunnel_key,
                certificate=certificate,
                issuer=self.registration.port,
                audience=self.audience,
                now=now,
            )
        except (AssertionInvalid, CertificateError, ValueError) as error:
            return Credential(problem=(IdentityReason.ASSERTION_INVALID, str(error)))
        return Credential(certificate, intermediates, claims.proof, claims.expires_at + SKEW)
