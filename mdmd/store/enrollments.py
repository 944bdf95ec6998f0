"""The life of enrollments: check-ins, as the scripts apply them."""

import attrs

from mdmd.errors import BadMessage
from mdmd.interfaces.identity import Identity
from mdmd.mdm.checkin import Authenticate, SetBootstrapToken, TokenUpdate
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.subject import Tools, Word

SUPERSEDE_AT_ONCE = 200  # commands in one script call


def pack_push(token: bytes, magic: str) -> bytes:
    """Put a push token and its magic into one secret: the token's length (2 bytes) goes first."""
    return len(token).to_bytes(2, "big") + token + magic.encode()


def unpack_push(secret: bytes) -> tuple[bytes, str]:
    """Undo :func:`pack_push`."""
    end = 2 + int.from_bytes(secret[:2], "big")
    return secret[2:end], secret[end:].decode()


@attrs.frozen
class Enrollments:
    """Implements :class:`mdmd.interfaces.checkins.IEnrollments`."""

    _tools: Tools

    async def authenticate(self, message: Authenticate, identity: Identity) -> None:
        """
        Begin a new generation; see :class:`~mdmd.interfaces.checkins.IEnrollments`.

        :raises BadMessage: it comes from a user channel; only devices authenticate.
        :raises WrongIdentity: the certificate is pinned to another device, revoked,
            or not recorded as issued while that is asked for.
        """
        one = message.enrollment
        if one.channel:
            raise BadMessage("Authenticate from a user channel")
        serial = message.facts.get("SerialNumber", "")
        names = (
            *(keys.record(one), keys.pin(identity.fingerprint), keys.facts(one), keys.push(one)),
            *(keys.unlock(one), keys.bootstrap(one), keys.archive(one), keys.channels(one)),
            *(keys.queue(one), keys.sent(one), keys.ended(one), keys.ended_sent(one)),
            *(keys.work(one), keys.IDS, keys.TOPICS, keys.serial(serial)),
            *(keys.identity(identity.fingerprint), keys.renewals(one), keys.SERIAL_ORDER),
        )
        settings = self._tools.settings
        facts: list[Word] = [word for fact in message.facts.items() for word in fact]
        args: tuple[Word, ...] = (
            *(identity.fingerprint, identity.not_after, str(one), one.type.value),
            *(keys.member(one), message.topic, self._seal(one, message.raw)),
            *(keys.SERIALS, serial, identity.not_before, settings.renew_at(identity)),
            *(int(settings.refuse_unknown), *facts),
        )
        left = await self._tools.change("authenticate", names, args, identity.query)
        for channel, commands in zip(left[::2], left[1::2], strict=True):
            if commands:
                await self._supersede(attrs.evolve(one, channel=channel.decode()))

    async def _supersede(self, one: EnrollmentID) -> None:
        names = (keys.ended(one), keys.ended_sent(one), keys.results(one))
        while await self._tools.change("supersede", names, (str(one), SUPERSEDE_AT_ONCE)):
            pass

    async def token_update(self, message: TokenUpdate, identity: Identity) -> int:
        """
        Store where to push to, enable, return the new tally.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
        one, sealer = message.enrollment, self._tools.sealer
        unlock = b""
        if message.unlock_token and not one.channel:
            unlock = sealer.seal(message.unlock_token, keys.unlock(one))
        secret = sealer.seal(pack_push(message.token, message.push_magic), keys.push(one))
        names = (
            *(keys.device_record(one), keys.record(one), keys.pin(identity.fingerprint)),
            *(keys.push(one), keys.unlock(one), keys.channels(one), keys.queue(one)),
            *(keys.work(one), keys.IDS, keys.TOPICS, keys.renewals(one)),
        )
        args: tuple[Word, ...] = (
            *(*self._who(one, identity), keys.member(one), one.channel, message.topic),
            *(secret, unlock, int(message.awaiting_configuration), message.user_short_name),
            *(int(self._tools.settings.first_delay * 1000), self._seal(one, message.raw)),
            *self._tools.life(one, identity),
        )
        return int(await self._tools.change("token_update", names, args, identity.query))

    async def check_out(self, enrollment: EnrollmentID, identity: Identity, raw: bytes) -> None:
        """
        Disable it, and its user channels if it is a device; queue and history stay.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
        one = enrollment
        names = (
            *(keys.device_record(one), keys.record(one), keys.pin(identity.fingerprint)),
            *(keys.channels(one), keys.work(one), keys.TOPICS),
        )
        args = (*self._who(one, identity), keys.member(one), one.channel, self._seal(one, raw))
        await self._tools.change("check_out", names, args, identity.query)

    async def set_bootstrap_token(self, message: SetBootstrapToken, identity: Identity) -> None:
        """
        Store the token sealed; an empty one forgets it.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
        one, token = message.enrollment, message.bootstrap_token
        sealed = self._tools.sealer.seal(token, keys.bootstrap(one)) if token else b""
        await self._bootstrap(one, identity, "mdm.SetBootstrapToken", message.raw, (1, sealed))

    async def get_bootstrap_token(
        self, enrollment: EnrollmentID, identity: Identity, raw: bytes
    ) -> bytes | None:
        """
        Give the token back, None if there is none.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
        sealed = await self._bootstrap(enrollment, identity, "mdm.GetBootstrapToken", raw, (0, b""))
        if not sealed:
            return None
        return self._tools.sealer.unseal(sealed, keys.bootstrap(enrollment))

    async def _bootstrap(
        self,
        one: EnrollmentID,
        identity: Identity,
        topic: str,
        raw: bytes,
        change: tuple[int, bytes],
    ) -> bytes | None:
        names = (keys.device_record(one), keys.pin(identity.fingerprint), keys.bootstrap(one))
        args = (*self._who(one, identity), topic, self._seal(one, raw), *change)
        sealed: bytes | None = await self._tools.change("bootstrap", names, args, identity.query)
        return sealed

    async def other_checkin(
        self, enrollment: EnrollmentID, identity: Identity, topic: str, raw: bytes
    ) -> None:
        """
        Check the pin and write the event ``topic``.

        :raises WrongIdentity: another certificate is pinned.
        :raises NotEnrolled: none is pinned.
        """
        names = (keys.device_record(enrollment), keys.pin(identity.fingerprint))
        args = (*self._who(enrollment, identity), topic, self._seal(enrollment, raw))
        await self._tools.change("other_checkin", names, args, identity.query)

    async def refused(
        self, kind: str, reason: str, enrollment: EnrollmentID | None, fingerprint: str
    ) -> None:
        """Write the event ``mdmd.Refused`` of a request that was turned away."""
        facts = ("kind", kind, "reason", reason, "fingerprint", fingerprint)
        who = "" if enrollment is None else str(enrollment)
        await self._tools.change("tell", (), ("mdmd.Refused", who, "", *facts))

    def _who(self, one: EnrollmentID, identity: Identity) -> tuple[Word, ...]:
        return identity.fingerprint, one.device, str(one), one.type.value

    def _seal(self, one: EnrollmentID, raw: bytes) -> bytes:
        return self._tools.payloads.seal(raw, keys.payload_place(one))
