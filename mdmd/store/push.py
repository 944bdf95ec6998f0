"""The push work set: enrollments with work, by the time of their next push."""

from collections.abc import Sequence
from typing import Any

import attrs

from mdmd.errors import StoreCorrupt
from mdmd.interfaces.push import Decision, DuePush, NoPush, Notification, PushOutcome
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys
from mdmd.store.enrollments import unpack_push
from mdmd.store.subject import Tools, Word

CLAIM_AT_ONCE = 200  # enrollments in one script call
SET_ASIDE_AT_ONCE = 100  # expired commands in one script call
UNREADABLE = "it is damaged in the store"


@attrs.define
class PushWork:
    """Implements :class:`mdmd.interfaces.push.IPushWork`."""

    _tools: Tools
    _turn: int = 0  # which shard is asked first, so that none has to wait for another

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePush]:
        """
        Take up to ``limit`` due enrollments; those without work leave the set.

        Two steps: the first takes their leases, the second reads them. If the
        second does not come, they are due again when the lease ends. What has
        expired first in their queues is set aside between: it is no work.
        """
        self._turn = (self._turn + 1) % keys.WORK_SHARDS
        shards = keys.WORK[self._turn :] + keys.WORK[: self._turn]
        now = self._tools.now()
        until = now + lease_ms
        taken = await self._tools.link.script("take_due", shards, (now, until, limit))
        due: list[DuePush] = []
        for at in range(0, len(taken), CLAIM_AT_ONCE):
            ones = [keys.read_member(member) for member in taken[at : at + CLAIM_AT_ONCE]]
            answers = await self._claim(ones, until, "due")
            due += [answer for answer in answers if isinstance(answer, DuePush)]
        return due

    async def claim(self, targets: Sequence[EnrollmentID], lease_ms: int) -> list[DuePush | NoPush]:
        """Take the named enrollments now, due or not; answers in order."""
        until = self._tools.now() + lease_ms
        answers: list[DuePush | NoPush] = []
        for at in range(0, len(targets), CLAIM_AT_ONCE):
            answers += await self._claim(targets[at : at + CLAIM_AT_ONCE], until, "named")
        return answers

    async def _claim(
        self, ones: Sequence[EnrollmentID], until: int, how: str
    ) -> list[DuePush | NoPush]:
        names: list[bytes] = []
        for one in ones:
            names += (keys.record(one), keys.queue(one), keys.push(one), keys.work(one))
        members = [keys.member(one) for one in ones]
        args: tuple[Word, ...] = (until, how, self._tools.now(), keys.COMMANDS, *members)
        answers = await self._tools.link.script("claim", names, args)
        found: list[DuePush | NoPush] = []
        for one, answer in zip(ones, answers, strict=True):
            if answer[0] == b"expired":
                found += await self._claim_the_rest(one, until)
                continue
            try:
                found.append(self._answer(one, until, *answer))
            except (StoreCorrupt, ValueError, AttributeError):
                found.append(await self._drop(one, until, answer[2]))
        return found

    async def _claim_the_rest(self, one: EnrollmentID, until: int) -> list[DuePush | NoPush]:
        """Set aside what has expired; push for what is left."""
        names = (keys.queue(one), keys.sent(one), keys.results(one))
        while await self._tools.change("set_aside", names, (str(one), SET_ASIDE_AT_ONCE)):
            pass
        return await self._claim([one], until, "left")

    async def _drop(self, one: EnrollmentID, until: int, secret: bytes) -> NoPush:
        """Stop pushes to one whose token can't be read, as to one that APNs refuses."""
        nobody = DuePush(one, Notification("", b"", ""), 0, claim=Claim(until, secret))
        await self.pushed(nobody, PushOutcome(Decision.DROP_TOKEN, reason=UNREADABLE), None)
        return NoPush(one, f"token dropped: {UNREADABLE}")

    def _answer(self, one: EnrollmentID, until: int, word: bytes, *rest: Any) -> DuePush | NoPush:
        if word != b"push":
            reason = rest[0].decode()
            return NoPush(one, f"token dropped: {reason}" if word == b"dropped" else word.decode())
        topic, secret, pushes, failures = rest
        token, magic = unpack_push(self._tools.sealer.unseal(secret, keys.push(one)))
        notification = Notification(topic.decode(), token, magic)
        return DuePush(one, notification, int(pushes), int(failures), claim=Claim(until, secret))

    async def pushed(self, due: DuePush, outcome: PushOutcome, next_push: int | None) -> None:
        """
        Record the outcome and when to push next if the device does not connect.

        An enrollment that connected, or got work, since it was claimed keeps
        the time that it got by that.
        """
        one, claim = due.enrollment, due.claim
        if not isinstance(claim, Claim):
            raise TypeError("this push was not claimed here")
        dropped = outcome.decision is Decision.DROP_TOKEN
        delivered = outcome.decision is Decision.DELIVERED
        args = (
            *(str(one), keys.member(one), claim.until, "" if next_push is None else next_push),
            *(outcome.decision.value, outcome.apns_id if delivered else outcome.reason),
            *(outcome.status, int(dropped), claim.secret),
        )
        names = (keys.record(one), keys.push(one), keys.work(one))
        await self._tools.change("pushed", names, args)

    async def next_due(self) -> int | None:
        """Say when the earliest entry is due, None if there is none."""
        first = await self._tools.link.script("next_due", keys.WORK, ())
        return int(float(first)) if first else None

    async def waiting(self) -> tuple[int, int]:
        """Count the enrollments in the set, and those of them that are due."""
        found = await self._tools.link.script("count_work", keys.WORK, (self._tools.now(),))
        return int(found[0]), int(found[1])


@attrs.frozen
class Claim:
    """How the store knows a claim again."""

    until: int
    secret: bytes = attrs.field(repr=False)  # the sealed token that is pushed to
