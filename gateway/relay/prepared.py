"""What a request came to, kept for those that come again with the same head from the same caller."""

from typing import Any

from gateway.core.decision import Decision
from gateway.core.snapshot import Endpoint, Snapshot
from gateway.relay.heads import Head

PARTIES = 8  # for which one head is remembered; of a registration port that is the internal nodes that share its work


class Prepared:
    """What requests with one head from one caller come to, worked out once.

    Good while `snapshot` is in force and until `until` (seconds since 1970-01-01 UTC).

    Attributes:
        head: that they have; None where it holds for several.
        pool, path: whose connections they go on by, and by what path; None where none has gone on yet.
        endpoint, answer_timeout: as the exchange has them.
        written: the head as it goes on, but for its last line, and until when it may be used, by the party whom it is
            written for: the same of `Upstream`.
    """

    __slots__ = ("answer_timeout", "decision", "endpoint", "head", "path", "pool", "snapshot", "until", "written")

    def __init__(self, decision: Decision, snapshot: Snapshot, until: float, head: Head | None = None) -> None:
        self.decision, self.snapshot, self.until, self.head = decision, snapshot, until, head
        self.pool: Any = None
        self.path = ""
        self.endpoint: Endpoint | None = None
        self.answer_timeout = 0.0
        self.written: dict[object, tuple[bytes, float]] = {}

    def keep(self, party: object, written: bytes, until: float) -> None:
        """How the head goes on to `party`, and until when (as `until`)."""
        if len(self.written) >= PARTIES:
            self.written.clear()
        self.written[party] = written, until
