"""Failed log-ins and calls on their way to the audit: counted, so that nobody can flood it."""

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
NAMED = 10  # addresses, or operators, with entries of their own in a window; others share one
_NAMES = 3  # of those that were tried
_LONGEST = 64  # characters of a name
_LONGEST_REASON = 200


@attrs.define
class _Count:
    """
    What came from one address, or operator, since the last entry of it.

    :ivar template: the entry, but for what is counted.
    :ivar facts: its facts, those of the last time.
    :ivar named: under which fact the names go that were tried.
    """

    template: AuditEntry
    named: str
    facts: dict[str, str] = attrs.field(factory=dict)
    attempts: int = 0
    names: list[str] = attrs.field(factory=list)

    def add(self, name: str) -> None:
        self.attempts += 1
        if name and name not in self.names and len(self.names) <= _NAMES:
            self.names.append(name)

    def entry(self) -> AuditEntry:
        """Spell it, and begin to count anew."""
        names = ", ".join(self.names[:_NAMES]) + (" …" if len(self.names) > _NAMES else "")
        facts = {**self.facts, "attempts": str(self.attempts)}
        if names:
            facts[self.named] = names
        self.attempts, self.names = 0, []
        return attrs.evolve(self.template, facts=facts)


@attrs.define
class _Kind:
    """Those of one kind: neither takes the places of another."""

    others: _Count
    counts: dict[str, _Count] = attrs.field(factory=dict)

    def count(self, key: str, template: AuditEntry, name: str) -> _Count | None:
        """Count one; give what is to be written at once, for it is the first."""
        count = self.counts.get(key)
        if count is None and len(self.counts) >= NAMED:
            self.others.facts = template.facts
            self.others.add(name)
            return None
        is_new = count is None
        count = self.counts.setdefault(key, _Count(template, self.others.named))
        count.template, count.facts = template, template.facts
        count.add(name)
        return count if is_new else None

    def end_window(self) -> list[_Count]:
        """Give what was counted; who came in this window is still known in the next."""
        counted = [each for each in (*self.counts.values(), self.others) if each.attempts]
        self.counts = {key: each for key, each in self.counts.items() if each.attempts}
        return counted


class Refusals:
    """
    Implements :class:`mdmd.interfaces.audit.IRefusals`.

    The first failed log-in of an address is an entry at once; what follows from
    there is counted and becomes one entry a minute. Ten addresses a minute have
    entries of their own, a /64 of IPv6 counts as one; all others share one entry.
    Calls are counted in the same way, by operator and address.
    """

    def __init__(self, audit: IAudit, clock: Any) -> None:
        self._audit = audit
        self._clock = clock
        several = AuditEntry("several", "many addresses", "call", outcome="BadRequest")
        self._logins = _Kind(_Count(_login("many addresses"), "name"))
        self._calls = _Kind(_Count(several, "method"))
        self._timer: Any = None
        self._writing: set[Deferred[None]] = set()

    def note(self, source: str, by: str, reason: str, name: str = "") -> None:
        """Count one failed log-in; see :class:`~mdmd.interfaces.audit.IRefusals`."""
        template = _login(source, by=by, reason=_safe(reason, _LONGEST_REASON))
        self._count(self._logins, _network(source), template, name)

    def note_call(self, who: str, source: str, method: str, reason: str, outcome: str) -> None:
        """Count one refused call; see :class:`~mdmd.interfaces.audit.IRefusals`."""
        facts = {"reason": _safe(reason, _LONGEST_REASON)}
        template = AuditEntry(who, source, "call", (), facts, outcome)
        self._count(self._calls, f"{who} {_network(source)}", template, method)

    def _count(self, kind: _Kind, key: str, template: AuditEntry, name: str) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(WINDOW, self._end_window)
        first = kind.count(key, template, _safe(name, _LONGEST))
        if first is not None:
            self._write(first)

    async def close(self) -> None:
        """Write what was counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._end_window()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        for each in list(self._writing):
            await each

    def _end_window(self) -> None:
        for each in [*self._logins.end_window(), *self._calls.end_window()]:
            self._write(each)
        again = bool(self._logins.counts or self._calls.counts)
        self._timer = self._clock.callLater(WINDOW, self._end_window) if again else None

    def _write(self, count: _Count) -> None:
        entry = count.entry()
        log.info(
            "audit: {who} from {source}: {what} {facts}: {outcome}",
            who=entry.who,
            source=entry.source,
            what=entry.what,
            facts=entry.facts,
            outcome=entry.outcome,
        )
        writing = Deferred.fromCoroutine(self._put(entry))
        self._writing.add(writing)
        writing.addErrback(_failed).addBoth(lambda _: self._writing.discard(writing))

    async def _put(self, entry: AuditEntry) -> None:
        try:
            await self._audit.write(entry)
        except MdmdError as error:
            log.error("a refusal is in this log only: {reason}", reason=str(error))


def _login(source: str, **facts: str) -> AuditEntry:
    return AuditEntry("unknown", source, "login", (), facts, "NotAllowed")


def _failed(failure: Failure) -> None:
    log.failure("a refusal could not be noted", failure)


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
