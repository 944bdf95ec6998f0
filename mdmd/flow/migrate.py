"""
An integrator moves enrollments here from another server, as raw check-ins.

Nobody shows a certificate: the integrator vouches for what it sends. The first
certificate that such a device then shows is pinned to it.
"""

from mdmd.errors import BadMessage
from mdmd.interfaces.checkins import IEnrollments
from mdmd.interfaces.identity import Identity
from mdmd.mdm.checkin import (
    Authenticate,
    CheckOut,
    SetBootstrapToken,
    TokenUpdate,
    decode_checkin,
)

VOUCHED = Identity("")  # no certificate: what the store takes for "whatever comes first"


class Migration:
    """The story of ``PUT /migration``."""

    def __init__(self, enrollments: IEnrollments) -> None:
        self._enrollments = enrollments

    async def take(self, body: bytes) -> None:
        """
        Take one check-in as the other server had it from the device.

        :raises BadMessage: it is none of those that make an enrollment.
        """
        message = decode_checkin(body)
        match message:
            case Authenticate():
                await self._enrollments.authenticate(message, VOUCHED)
            case TokenUpdate():
                await self._enrollments.token_update(message, VOUCHED)
            case SetBootstrapToken():
                await self._enrollments.set_bootstrap_token(message, VOUCHED)
            case CheckOut():
                await self._enrollments.check_out(message.enrollment, VOUCHED, message.raw)
            case _:
                raise BadMessage(
                    "only Authenticate, TokenUpdate, SetBootstrapToken and CheckOut can be migrated"
                )
