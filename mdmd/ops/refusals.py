"""Failed log-ins on their way to the audit: counted, so that nobody can flood it."""

import ipaddress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError
from mdmd.interfaces.audit import AuditEntry, IAudit

log = Logger()

WINDOW = 60.0  # seconds that one entry stands for
NAMED = 10  # addresses with entries of their own in a window; all others share one
_NAMES = 3  # of those that were tried from an address
_LONGEST = 64  # characters of a name
_LONGEST_REASON = 200


@attrs.define
class _Count:
    """What came from one address since the last entry of it."""

    source: str
    by: str
    reason: str
    attempts: int = 0
    names: list[str] = attrs.field(factory=list)

    def add(self, name: str) -> None:
        self.attempts += 1
        if name and name not in self.names and len(self.names) <= _NAMES:
            self.names.append(name)

    def entry(self) -> AuditEntry:
        """Spell it, and begin to count anew."""
        names = ", ".join(self.names[:_NAMES]) + (" …" if len(self.names) > _NAMES else "")
        facts = {"by": self.by, "reason": self.reason, "attempts": str(self.attempts)}
        if names:
            facts["name"] = names
        self.attempts, self.names = 0, []
        return AuditEntry("unknown", self.source, "login", (), facts, "NotAllowed")


class Refusals:
    """
    Implements :class:`mdmd.interfaces.audit.IRefusals`.

    The first failed log-in of an address is an entry at once; what follows from
    there is counted and becomes one entry a minute. Ten addresses a minute have
    entries of their own, a /64 of IPv6 counts as one; all others share one entry.
    """

    def __init__(self, audit: IAudit, clock: Any) -> None:
        self._audit = audit
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._others = _Count("many addresses", "", "")
        self._timer: Any = None
        self._writing: set[Deferred[None]] = set()

    def note(self, source: str, by: str, reason: str, name: str = "") -> None:
        """Count one failed log-in; see :class:`~mdmd.interfaces.audit.IRefusals`."""
        if self._timer is None:
            self._timer = self._clock.callLater(WINDOW, self._end_window)
        name, reason = _safe(name, _LONGEST), _safe(reason, _LONGEST_REASON)
        key = _network(source)
        count = self._counts.get(key)
        if count is None and len(self._counts) >= NAMED:
            self._others.by, self._others.reason = by, reason
            self._others.add(name)
            return
        is_new = count is None
        count = self._counts.setdefault(key, _Count(source, by, reason))
        count.source, count.by, count.reason = source, by, reason
        count.add(name)
        if is_new:
            self._write(count)

    async def close(self) -> None:
        """Write what was counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._end_window()
        if self._timer is not None:
            self._timer.cancel()
        for each in list(self._writing):
            await each

    def _end_window(self) -> None:
        counted = [*self._counts.values(), self._others]
        # Who knocked in this minute is still known in the next: then only the count is written.
        self._counts = {key: each for key, each in self._counts.items() if each.attempts}
        for each in counted:
            if each.attempts:
                self._write(each)
        again = bool(self._counts)
        self._timer = self._clock.callLater(WINDOW, self._end_window) if again else None

    def _write(self, count: _Count) -> None:
        writing = Deferred.fromCoroutine(self._put(count.entry()))
        self._writing.add(writing)
        writing.addErrback(_failed).addBoth(lambda _: self._writing.discard(writing))

    async def _put(self, entry: AuditEntry) -> None:
        try:
            await self._audit.write(entry)
        except MdmdError as error:
            log.error("a failed log-in is in this log only: {reason}", reason=str(error))


def _failed(failure: Failure) -> None:
    log.failure("a failed log-in could not be noted", failure)


def _safe(text: str, most: int) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:most])


def _network(source: str) -> str:
    """Say what counts as one address: of IPv6 a /64, for that is what one customer gets."""
    kind, _, address = source.rpartition(" ")
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return source
    if isinstance(parsed, ipaddress.IPv4Address):
        return source
    if parsed.ipv4_mapped is not None:
        return f"{kind} {parsed.ipv4_mapped}"
    return f"{kind} {ipaddress.ip_network((parsed, 64), strict=False)}"
