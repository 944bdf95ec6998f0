"""
Who gets the enrollment profile: everybody, who has a link, who knows the password.

A device that enrolls by itself shows what it is instead; it never gets a 401.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from mdmd.errors import NotHere
from mdmd.flow.automated import Invited
from mdmd.mdm.machine_info import software_update_required
from mdmd.web.respond import Answer, Refusal

_PROFILE = "application/x-apple-aspen-config"
_JSON = "application/json"
# A profile has a challenge in it, and perhaps a key.
_NO_STORE = ((b"Cache-Control", b"no-store"),)
_LOGIN = (b"WWW-Authenticate", b'Basic realm="enrollment", charset="UTF-8"')


class Access(StrEnum):
    """Who may fetch the profile, spelled as in the configuration."""

    OPEN = "open"
    LINK = "link"
    BASIC = "basic"
    OFF = "off"


class Enrolls(Protocol):
    """Enroll of :mod:`mdmd.flow`."""

    async def profile(self) -> bytes:
        """Make the enrollment profile."""

    async def by_link(self, secret: str) -> bytes:
        """Make the one that a one-time link leads to."""


class Invites(Protocol):
    """Automated of :mod:`mdmd.flow`."""

    async def invite(self, body: bytes) -> Invited:
        """Take a signed MachineInfo."""


class Door:
    """
    The door to ``/enroll``, and the sign that points to it.

    :param password: for ``basic``; whatever the user name is.
    :param url: of ``/enroll``, as devices reach it.
    :param account_driven: the kinds of account-driven enrollment, such as ``mdm-byod``.
    """

    def __init__(
        self,
        enroll: Enrolls,
        automated: Invites,
        access: Access,
        password: str,
        url: str,
        account_driven: Sequence[str],
    ) -> None:
        self._enroll = enroll
        self._automated = automated
        self._access = access
        self._password = password
        self._sign = json.dumps(
            {"Servers": [{"Version": each, "BaseURL": url} for each in account_driven]}
        ).encode()
        self._shows_sign = bool(account_driven)

    async def get(self, link: str, authorization: bytes) -> Answer:
        """
        Answer GET.

        :param link: the secret of a one-time link, "" if none was shown.
        :raises NotHere: the link is not good, or nobody gets a profile.
        :raises Refusal: 401, for people only.
        """
        if self._access is Access.OFF:
            raise NotHere("nobody enrolls here")
        if link:
            return _profile(await self._enroll.by_link(link))
        if self._access is Access.LINK:
            raise NotHere("enrolling here needs a link")
        if self._access is Access.BASIC and not self._knows_password(authorization):
            raise Refusal(401, "the password, please", _LOGIN)
        return _profile(await self._enroll.profile())

    async def post(self, body: bytes) -> Answer:
        """
        Answer POST: a signed MachineInfo.

        :raises BadMessage: it is not one.
        :raises BadSignature: nothing in it can be believed.
        :raises NotHere: automated enrollment is not set up, or nobody gets a profile.
        """
        if self._access is Access.OFF:
            raise NotHere("nobody enrolls here")
        invited = await self._automated.invite(body)
        if invited.update_to:
            return Answer(software_update_required(invited.update_to), _JSON, 403, _NO_STORE)
        return _profile(invited.profile)

    def well_known(self) -> Answer:
        """
        Answer ``/.well-known/com.apple.remotemanagement``.

        :raises NotHere: there is no account-driven enrollment.
        """
        if not self._shows_sign or self._access is Access.OFF:
            raise NotHere("no account-driven enrollment here")
        return Answer(self._sign, _JSON)

    def _knows_password(self, authorization: bytes) -> bool:
        kind, _, rest = authorization.partition(b" ")
        if kind.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return False
        return bool(self._password) and hmac.compare_digest(given, self._password.encode())


def _profile(profile: bytes) -> Answer:
    return Answer(profile, _PROFILE, headers=_NO_STORE)
