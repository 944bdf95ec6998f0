"""One enrollment as it is at one moment, read in one step."""

from collections.abc import Iterator, Sequence

import attrs

from mdmd.doctor.redis import Client, Value
from mdmd.errors import BadMessage
from mdmd.mdm.enrollment import EnrollmentID
from mdmd.store import keys

_BATCH = 200

# KEYS: record, queue, sent, results, ended, push, work shard; channels for a channel.
# ARGV: member of the work set, channel.
_READ = """
local bad, results = 0, redis.call('LRANGE', KEYS[4], 0, -1)
for _, entry in ipairs(results) do
  if not string.match(entry, '^%Z*%z%Z*%z%Z*%z%Z+%z%Z*%z%d+%z%Z*%z%d+%z') then bad = bad + 1 end
end
local channel = ARGV[2] ~= '' and redis.call('HEXISTS', KEYS[8], ARGV[2]) or 0
return {
  redis.call('HGETALL', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'),
  redis.call('HGETALL', KEYS[3]), #results, bad, redis.call('ZRANGE', KEYS[5], 0, -1),
  redis.call('EXISTS', KEYS[6]), redis.call('ZSCORE', KEYS[7], ARGV[1]), channel
}
"""


@attrs.frozen
class Snapshot:
    """
    What the store has of one enrollment.

    :ivar queue: (packed CommandUUID, place), in order.
    :ivar sent: deliveries by packed CommandUUID.
    :ivar ended: packed CommandUUIDs of a past generation that are not results yet.
    """

    enrollment: EnrollmentID
    record: dict[bytes, bytes]
    queue: tuple[tuple[bytes, float], ...]
    sent: dict[bytes, str]
    results: int
    bad_results: int
    ended: tuple[bytes, ...]
    has_push: bool
    in_work_set: bool
    is_channel: bool

    @property
    def enabled(self) -> bool:
        """Say whether it takes pushes."""
        return self.record.get(b"enabled") == b"1"

    @property
    def has_work(self) -> bool:
        """Say whether something will be offered, now or later."""
        return any(score < keys.PARKED or score >= keys.LATER for _, score in self.queue)


def snapshots(client: Client, ids: Sequence[str]) -> Iterator[Snapshot]:
    """
    Read enrollments, each in one atomic step; ids that can't be one are left out.

    :raises StoreUnavailable: the store does not answer.
    """
    digest = client.ask("SCRIPT", "LOAD", _READ)
    for start in range(0, len(ids), _BATCH):
        part = [one for text in ids[start : start + _BATCH] for one in _parse(text)]
        asked = [_question(digest, one) for one in part]
        for one, answer in zip(part, client.ask_all(asked), strict=True):
            yield _snapshot(one, answer)


def _parse(text: str) -> Iterator[EnrollmentID]:
    try:
        yield EnrollmentID.parse(text)
    except BadMessage:
        return


def _question(digest: bytes, one: EnrollmentID) -> list[object]:
    names = (
        *(keys.record(one), keys.queue(one), keys.sent(one), keys.results(one)),
        *(keys.ended(one), keys.push(one), keys.work(one), keys.channels(one)),
    )
    return ["EVALSHA", digest, len(names), *names, keys.member(one), one.channel]


def _snapshot(one: EnrollmentID, answer: Sequence[Value]) -> Snapshot:
    record, queue, sent, results, bad, ended, push, work, channel = answer
    return Snapshot(
        one,
        dict(zip(record[::2], record[1::2], strict=True)),
        tuple(
            (packed, float(place)) for packed, place in zip(queue[::2], queue[1::2], strict=True)
        ),
        {
            key: text.decode(errors="replace")
            for key, text in zip(sent[::2], sent[1::2], strict=True)
        },
        results,
        bad,
        tuple(ended),
        bool(push),
        work is not None,
        bool(channel),
    )
