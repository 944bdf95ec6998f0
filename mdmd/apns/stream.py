"""One request to APNs, and what has come of it so far."""

import attrs

from mdmd.apns.message import Ended, Fate, read_reason


@attrs.define
class Stream:
    """A request that has begun to leave."""

    ticket: int
    unsent: bytes = b""  # what the peer's flow control did not take yet
    window: int = 0  # what it takes of this stream; kept only while there is something unsent
    status: int = 0
    apns_id: str = ""
    body: bytes = b""

    @property
    def fate(self) -> Fate:
        """Without an answer: a request whose end never left can't have been acted upon."""
        return Fate.NOT_PROCESSED if self.unsent else Fate.UNKNOWN

    def answer(self) -> Ended:
        """Make its end of what APNs said."""
        reason = "" if self.status == 200 else read_reason(self.body)
        return Ended(self.ticket, Fate.ANSWERED, self.status, reason, self.apns_id)
