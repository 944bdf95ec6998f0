"""Who sends a request."""

from collections.abc import MutableMapping

import attrs


@attrs.frozen
class Identity:
    """
    The certificate that came with a request, already verified against our CA.

    An empty fingerprint is for check-ins that an integrator vouches for
    (migration): no pin is asked for, and the first certificate that the
    enrollment shows later is pinned.
    """

    fingerprint: str  # lower-case hex SHA-256 of the DER
    serial: str = ""  # lower-case hex
    not_after: int = 0  # epoch seconds
    not_before: int = 0
    expired: bool = False  # let in all the same, to fetch its renewal
    query: str = ""  # of the URL that was asked; the request's event tells it


# What a story adds to the one log line of its request; never a secret.
Notes = MutableMapping[str, object]
