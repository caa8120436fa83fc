"""The internal node's end of a channel: what comes through a registration's tunnels is believed here, or not.

No socket: takes the fields that speak on a tunnel and gives the credential that they prove.
"""

from gateway.core.headers import parse_client_cert, parse_client_cert_chain
from gateway.core.reasons import Reason
from gateway.core.snapshot import Registration
from gateway.relay.memo import Memo
from identity.core import assertions
from identity.core.assertions import SKEW, AssertionInvalid, Proof
from identity.core.certificates import Certificate, CertificateError, from_der
from identity.core.chains import MAX_INTERMEDIATES
from identity.core.reasons import IdentityReason

_REMEMBERED = 2048  # credentials per witness and generation
_WITNESSES = 16  # certificates of one registration port; it has one, and another after a renewal


class Credential:
    """What a caller proved, as the edge states it; or why that is not believed.

    Attributes:
        valid_until: seconds since 1970-01-01 UTC in this node's clock.
    """

    __slots__ = ("certificate", "intermediates", "problem", "proof", "valid_until")

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


class Channel:
    """All tunnels of one registration that this node dialled from one port to one address.

    `registration`: as it is in force; what is in its truststores may change while tunnels stand.
    """

    def __init__(self, registration: Registration, nonce: str) -> None:
        self.registration = registration
        self.audience = assertions.audience(registration.name, nonce)
        self._witnesses: dict[str, Witness] = {}

    def witness(self, certificate: Certificate) -> "Witness":
        """Who speaks on tunnels whose handshake showed this certificate of the registration port."""
        known = self._witnesses.get(certificate.sha256)
        if known is None:
            if len(self._witnesses) >= _WITNESSES:
                self._witnesses.clear()
            known = self._witnesses[certificate.sha256] = Witness(self, certificate)
        return known


class Witness:
    """A registration port under one certificate: what it states about callers counts when that key signed it."""

    def __init__(self, channel: Channel, certificate: Certificate) -> None:
        self._channel = channel
        self._audience = channel.audience
        self._key = certificate.parsed.public_key()
        self._known = Memo(_REMEMBERED)
        self._nobody = Credential()

    @property
    def registration(self) -> Registration:
        return self._channel.registration

    def credential(self, fields: dict[bytes, bytes], now: float) -> Credential:
        """What the fields of one request prove. Verified once; remembered while it is good.

        `now`: seconds since 1970-01-01 UTC.
        """
        token = fields.get(b"postern-assertion")
        shown, chain = fields.get(b"client-cert"), fields.get(b"client-cert-chain")
        if token is None:
            if shown is None and chain is None:
                return self._nobody
            return Credential(problem=(IdentityReason.ASSERTION_INVALID, "a certificate came without an assertion"))
        key = token, shown, chain
        known: Credential | None = self._known.get(key)
        if known is not None and now < known.valid_until:
            return known
        credential = self._verify(token, shown, chain, now)
        if credential.problem is None:
            self._known.put(key, credential)
        return credential

    def _verify(self, token: bytes, shown: bytes | None, chain: bytes | None, now: float) -> Credential:
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
                tunnel_key=self._key,
                certificate=certificate,
                issuer=self.registration.port,
                audience=self._audience,
                now=now,
            )
        except (AssertionInvalid, CertificateError, ValueError) as error:
            return Credential(problem=(IdentityReason.ASSERTION_INVALID, str(error)))
        return Credential(certificate, intermediates, claims.proof, claims.expires_at + SKEW)
