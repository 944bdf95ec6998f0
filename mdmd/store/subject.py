"""What the subjects of the store share: the link, the clock, the frame of every change."""

from collections.abc import Sequence
from typing import Any

import attrs

from mdmd.errors import Conflict, MdmdError, NotEnrolled, NotHere, WrongIdentity
from mdmd.interfaces.identity import Identity
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.pki.sealing import Sealer
from mdmd.store import keys
from mdmd.store.link import Link, ScriptError
from mdmd.store.payload import Payloads

Word = bytes | str | int

_DAY = 86400.0

# What the scripts' error codes mean.
_ERRORS: dict[str, MdmdError] = {
    "PIN": WrongIdentity("another certificate is pinned to this enrollment"),
    "TAKEN": WrongIdentity("this certificate is pinned to another device"),
    "UNPINNED": NotEnrolled("no such enrollment"),
    "BODY": Conflict("this CommandUUID is known with another body"),
    "REVOKED": WrongIdentity("this certificate is revoked"),
    "UNKNOWN": WrongIdentity("this certificate is not among those that were issued here"),
    "NOTHERE": NotHere("no such command in this queue"),
}


@attrs.frozen
class Settings:
    """What the store has to know of the configuration; times in seconds, as there."""

    results_kept: int = 100
    results_age: float = 90 * _DAY
    events_kept: int = 100_000
    events_age: float = 30 * _DAY
    first_delay: float = 5.0
    repeat: tuple[float, ...] = (120.0, 600.0, 3600.0, 21600.0, _DAY)
    expires: float | None = None
    max_attempts: int | None = None
    refuse_unknown: bool = False  # certificates that are not recorded as issued
    renew_share: float = 0.0  # of an identity's life after which it is renewed; 0: never

    def renew_at(self, identity: Identity) -> Word:
        """Say when to renew an identity, milliseconds; "" for never."""
        life = identity.not_after - identity.not_before
        if not (self.renew_share and identity.not_before and life > 0):
            return ""
        return int((identity.not_before + self.renew_share * life) * 1000)


@attrs.frozen
class Tools:
    """What each subject is made with."""

    link: Link
    sealer: Sealer
    clock: Any  # its seconds() are those since the epoch, and may be set
    settings: Settings
    payloads: Payloads
    repeat: str  # milliseconds, separated by spaces, as the scripts read it
    frame: tuple[Word, ...]

    @classmethod
    def of(cls, link: Link, sealer: Sealer, clock: Any, settings: Settings) -> "Tools":
        """Work out once what every call needs."""
        return cls(
            link,
            sealer,
            clock,
            settings,
            Payloads(sealer),
            " ".join(str(int(delay * 1000)) for delay in settings.repeat),
            (
                settings.events_kept,
                int(settings.events_age * 1000),
                settings.results_kept,
                int(settings.results_age * 1000),
                keys.COMMANDS,
            ),
        )

    def life(self, one: EnrollmentID, identity: Identity) -> tuple[Word, ...]:
        """Give what a script notes of a certificate that it pins for the first time."""
        device = one if not one.channel else attrs.evolve(one, channel="")
        renew_at = self.settings.renew_at(identity)
        return identity.not_before, identity.not_after, renew_at, keys.member(device)

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.clock.seconds() * 1000)

    async def change(
        self, script: str, names: Sequence[Word], args: Sequence[Word], query: str = ""
    ) -> Any:
        """
        Run a script that uses ``_frame``: the event stream, the time and the limits go first.

        :param query: of the URL that a device asked, for its events.
        :raises MdmdError: the one that the script's error code stands for.
        """
        frame = (*self.frame[:-1], keys.COMMANDS + b"?" + query.encode()) if query else self.frame
        try:
            return await self.link.script(
                script, (keys.EVENTS, *names), (self.now(), *frame, *args)
            )
        except ScriptError as error:
            known = _ERRORS.get(error.code)
            if known is None:
                raise
            raise type(known)(*known.args) from None
