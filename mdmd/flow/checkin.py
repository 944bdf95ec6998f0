"""
A device checks in: it enrolls, renews its push token, or leaves.

Each kind of check-in is one method below and one atomic step in the store.
"""

from collections.abc import Awaitable, Callable, Mapping

from mdmd.errors import BadMessage, Gone, NoIdentity
from mdmd.interfaces.checkins import IEnrollments
from mdmd.interfaces.identity import Identity, Notes
from mdmd.interfaces.push import IWaker
from mdmd.mdm import declarations, plist
from mdmd.mdm.checkin import (
    Authenticate,
    CheckOut,
    DeclarativeManagement,
    GetBootstrapToken,
    GetToken,
    SetBootstrapToken,
    TokenUpdate,
    UserAuthenticate,
    decode_checkin,
)

TokenSource = Callable[[GetToken], Awaitable[bytes]]


class CheckIns:
    """
    The story of ``PUT /checkin``.

    :param accept_users: answer UserAuthenticate with an empty DigestChallenge,
        so that network users get a channel, instead of 410.
    :param token_sources: for GetToken, by TokenServiceType.
    """

    def __init__(
        self,
        enrollments: IEnrollments,
        waker: IWaker,
        accept_users: bool = False,
        token_sources: Mapping[str, TokenSource] | None = None,
    ) -> None:
        self._enrollments = enrollments
        self._waker = waker
        self._accept_users = accept_users
        self._token_sources = token_sources or {}

    async def answer(self, identity: Identity, body: bytes, noted: Notes | None = None) -> bytes:
        """
        Take one check-in, return what the device expects (``b""`` for most).

        :param noted: gets what the log is to tell: who, and which message.
        :raises BadMessage: it is no check-in we know; nothing was changed.
        :raises WrongIdentity: the certificate is not the one pinned to the device.
        :raises NoIdentity: it has expired.
        :raises Gone: UserAuthenticate, when users are declined.
        :raises NotHere: a declaration that does not exist.
        """
        if identity.expired:
            raise NoIdentity("the client certificate has expired")
        message = decode_checkin(body)
        if noted is not None:
            noted["enrollment"], noted["message"] = str(message.enrollment), type(message).__name__
            if isinstance(message, Authenticate | TokenUpdate):
                noted["topic"] = message.topic
        match message:
            case Authenticate():
                return await self._authenticate(identity, message)
            case TokenUpdate():
                return await self._token_update(identity, message)
            case CheckOut():
                return await self._check_out(identity, message)
            case SetBootstrapToken():
                return await self._set_bootstrap_token(identity, message)
            case GetBootstrapToken():
                return await self._get_bootstrap_token(identity, message)
            case UserAuthenticate():
                return await self._user_authenticate(identity, message)
            case GetToken():
                return await self._get_token(identity, message)
            case DeclarativeManagement():
                return await self._declarative_management(identity, message)

    async def _authenticate(self, identity: Identity, message: Authenticate) -> bytes:
        await self._enrollments.authenticate(message, identity)
        return b""

    async def _token_update(self, identity: Identity, message: TokenUpdate) -> bytes:
        await self._enrollments.token_update(message, identity)
        self._waker.nudge()
        return b""

    async def _check_out(self, identity: Identity, message: CheckOut) -> bytes:
        await self._enrollments.check_out(message.enrollment, identity, message.raw)
        return b""

    async def _set_bootstrap_token(self, identity: Identity, message: SetBootstrapToken) -> bytes:
        await self._enrollments.set_bootstrap_token(message, identity)
        return b""

    async def _get_bootstrap_token(self, identity: Identity, message: GetBootstrapToken) -> bytes:
        token = await self._enrollments.get_bootstrap_token(
            message.enrollment, identity, message.raw
        )
        return b"" if token is None else plist.dumps({"BootstrapToken": token})

    async def _user_authenticate(self, identity: Identity, message: UserAuthenticate) -> bytes:
        await self._enrollments.other_checkin(
            message.enrollment, identity, "mdm.UserAuthenticate", message.raw
        )
        if not self._accept_users:
            raise Gone("user channels of network accounts are not managed here")
        # The first message gets a challenge, an empty one: mdmd knows no user passwords.
        return plist.dumps({"DigestChallenge": ""}) if message.digest_response is None else b""

    async def _get_token(self, identity: Identity, message: GetToken) -> bytes:
        await self._enrollments.other_checkin(
            message.enrollment, identity, "mdm.GetToken", message.raw
        )
        source = self._token_sources.get(message.service_type)
        if source is None:
            raise BadMessage("no tokens of this TokenServiceType here")
        return plist.dumps({"TokenData": await source(message)})

    async def _declarative_management(
        self, identity: Identity, message: DeclarativeManagement
    ) -> bytes:
        await self._enrollments.other_checkin(
            message.enrollment, identity, "mdm.DeclarativeManagement", message.raw
        )
        return declarations.answer(message.endpoint, message.data)
