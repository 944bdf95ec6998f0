"""How pushes are, as values for operators and those who measure."""

import attrs


@attrs.frozen
class LineStatus:
    """A topic's line, as an operator sees it."""

    topic: str
    version: int  # of the push certificate in use
    not_after: int  # of it, epoch seconds
    connections: int
    draining: int  # connections that only wait for their last answers
    in_flight: int
    waiting: int
    delivered: int  # since the start
    refused: int  # answers other than 200 since the start
    reconnects: int
    last_error: str  # reason, in APNs' words or ours
    last_error_at: int  # epoch seconds, 0 if there was none
    alarm: str  # why nothing is sent now


@attrs.frozen
class WakerStatus:
    """How the waker is, as an operator sees it."""

    flying: int  # pushes between claim and record
    claimed: int  # since the start
    store_failures: int  # in a row, now
