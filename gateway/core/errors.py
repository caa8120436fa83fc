"""What a relay raises. A decision is never an error: it is returned.

* RelayError          every one has a `reason`, the code in answer, log and metric
    * MessageError    the peer broke the protocol
    * NotSent         no byte of the request left this node: another connection may be tried
    * SentInPart      some bytes left: never tried again, whoever asks
"""

from gateway.core.reasons import GatewayReason, Reason


class RelayError(Exception):
    """`words`: what happened, for the log and for callers of a port that explains."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason, self.words = reason, words


class MessageError(RelayError):
    """Malformed, ambiguous or over a limit: answered once, then the connection ends."""

    def __init__(self, words: str, reason: Reason = GatewayReason.REQUEST_MALFORMED) -> None:
        super().__init__(reason, words)


class NotSent(RelayError):
    """No byte of the request left this node."""


class SentInPart(RelayError):
    """Some bytes of the request left this node."""
