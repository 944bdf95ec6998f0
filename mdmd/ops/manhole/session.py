"""
One operator at the manhole, whatever their terminal: a line in, what it gives out, an audit.

A line is in the audit before it runs: it may end the daemon, or never end.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError, NotAllowed
from mdmd.interfaces.audit import BEGUN, AuditEntry
from mdmd.ops.manhole.complete import complete
from mdmd.ops.manhole.interpreter import Interpreter
from mdmd.ops.manhole.outlet import Outlet
from mdmd.ops.manhole.redact import redacted
from mdmd.ops.manhole.space import make_namespace
from mdmd.ops.method import Caller
from mdmd.ops.operators import Role
from mdmd.ops.perspective import Perspective

log = Logger()

_AUDITED = 2000  # characters of a line
Written = TypeVar("Written")


class ManholeSession:
    """
    The names and the lines of one session.

    :param caller: says who this is now: they may have been removed meanwhile.
    :param write: prints to their terminal, at any time.
    :param progress: shows a line for a while; "" takes it away.
    :param running: the lines of all sessions, until each is in the audit.
    :param unread: counts the bytes that their terminal has not taken yet.
    """

    def __init__(
        self,
        perspective: Perspective,
        caller: Callable[[], Caller],
        write: Callable[[str], None],
        running: "set[Deferred[str]]",
        progress: Callable[[str], None],
        unread: Callable[[], int] = lambda: 0,
    ) -> None:
        self._perspective = perspective
        self._caller = caller
        self._first = caller()
        self.name = self._first.name
        outlet = Outlet(write, unread, perspective.desk.clock)
        names = make_namespace(perspective.desk, self.call, outlet.print, progress)
        self.interpreter = Interpreter(names, write, self.name, outlet=outlet)
        self._write = write
        self._all = running
        self._running: Deferred[str] | None = None  # what Ctrl-C cancels
        self._cancelled = False  # before it ran
        self.busy = False  # until its line is in the audit, too

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """Make a call as this operator: role, audit and checks as anywhere."""
        return await self._perspective.call(self._caller(), name, kw=arguments)

    def run(self, source: str) -> "Deferred[str]":
        """Run a source; the answer is ``ok``, ``cancelled`` or the name of the error."""
        return self._begin(self._run(source))

    def refuse(self, source: str, error: Exception) -> "Deferred[str]":
        """Tell why a source can't be run; it is in the audit all the same."""
        return self._begin(self._refuse(source, error))

    def give_up(self, source: str) -> "Deferred[str]":
        """Note lines that were typed, and never became a whole statement."""
        return self._begin(self._give_up(source))

    def _begin(self, work: Coroutine[Any, Any, str]) -> "Deferred[str]":
        self.busy = True
        self._cancelled = False
        line = Deferred.fromCoroutine(work)
        self._all.add(line)
        return line.addBoth(self._over, line)

    def cancel(self) -> None:
        """Cancel what is running: its await, not the daemon."""
        self._cancelled = True
        if self._running is not None:
            self._running.cancel()

    async def complete(self, before: str) -> tuple[int, list[str]]:
        """Say what may come at the end of a line; see :func:`mdmd.ops.manhole.complete`."""
        try:
            return await complete(before, self.interpreter.namespace, self.call)
        except MdmdError:
            return 0, []

    def _admin(self) -> Caller:
        caller = self._caller()
        if caller.role < Role.ADMIN:
            raise NotAllowed(f"the manhole is for admins; {caller.name} is {caller.role}")
        return caller

    async def _give_up(self, source: str) -> str:
        await self._append(_entry(self._first, source, "cancelled"))
        return "cancelled"

    async def _refuse(self, source: str, error: Exception) -> str:
        self._write(f"{type(error).__name__}: {error}\n")
        try:
            caller = self._admin()
        except MdmdError as refusal:
            self._write(f"{type(refusal).__name__}: {refusal}\n")
            caller = self._first
        await self._append(_entry(caller, source, type(error).__name__))
        return type(error).__name__

    async def _run(self, source: str) -> str:
        try:
            caller = self._admin()
        except MdmdError as error:
            self._write(f"{type(error).__name__}: {error}\n")
            await self._append(_entry(self._first, source, type(error).__name__))
            return type(error).__name__
        begun = _entry(caller, source, BEGUN)
        written = await self._append(begun)
        outcome = await self._run_now(source)
        await self._end(begun, written, outcome)
        return outcome

    async def _run_now(self, source: str) -> str:
        if self._cancelled:
            self._write("cancelled\n")
            return "cancelled"
        self._running = Deferred.fromCoroutine(self.interpreter.run(source))
        try:
            return await self._running
        finally:
            self._running = None

    # -- the audit

    async def _end(self, begun: AuditEntry, written: str, outcome: str) -> None:
        entry = attrs.evolve(begun, outcome=outcome)
        if not written:  # the store may have come back
            await self._append(entry)
            return
        _tell(entry)
        begun = attrs.evolve(begun, id=written)
        await self._try(self._perspective.desk.audit.end(begun, entry))

    async def _append(self, entry: AuditEntry) -> str:
        """Write an entry, give its id; "" if it is in the log only."""
        _tell(entry)
        return await self._try(self._perspective.desk.audit.write(entry)) or ""

    async def _try(self, writing: Coroutine[Any, Any, Written]) -> Written | None:
        """Write, or say that it can't be: somebody may be here because the store is away."""
        try:
            return await writing
        except MdmdError as error:
            log.error("a line of the manhole is in this log only: {reason}", reason=str(error))
        except Exception:
            log.failure("a line of the manhole is in this log only")
        return None

    def _over(self, outcome: Any, line: "Deferred[str]") -> str:
        self.busy = False
        self._all.discard(line)
        if isinstance(outcome, Failure):
            log.failure("the manhole failed", outcome)
            self._write("mdmd failed here; its log says how\n")
            return "InternalError"
        return str(outcome)


def _entry(caller: Caller, source: str, outcome: str) -> AuditEntry:
    facts = {"line": redacted(source)[:_AUDITED]}
    return AuditEntry(caller.name, caller.source, "manhole", facts=facts, outcome=outcome)


def _tell(entry: AuditEntry) -> None:
    log.info(
        "audit: {who} from {source}: manhole {line}: {outcome}",
        who=entry.who,
        source=entry.source,
        line=entry.facts["line"],
        outcome=entry.outcome,
    )


_MANY = 50  # lines; so many can be looked at again with each that comes
# A statement with a block ends with a blank line.
_BLOCK = re.compile(r"\s*(?:@|(?:async|class|def|for|if|try|while|with)\b)")
# Any other that goes on: in brackets, in a text of several lines, behind a backslash.
_CLOSES = re.compile(r"""[)\]}]|\'{3}|"{3}""")


@attrs.define
class Lines:
    """Lines on their way to whole statements."""

    _lines: list[str] = attrs.field(factory=list)

    def add(self, line: str, is_whole: Callable[[str], bool]) -> str | None:
        """
        Add a line; give the whole source once there is one, None while there is not.

        :raises SyntaxError: it will never be one; the lines are forgotten.
        """
        if self.many and not self._may_end(line):
            self._lines.append(line)
            return None
        source = self.followed_by(line)
        self._lines.append(line)
        try:
            whole = is_whole(source)
        except SyntaxError:
            self.forget()
            raise
        if not whole:
            return None
        self.forget()
        return source

    def followed_by(self, line: str) -> str:
        """Give what there is so far and one line more."""
        return "\n".join([*self._lines, line])

    @property
    def begun(self) -> bool:
        """Say whether more lines are needed."""
        return bool(self._lines)

    @property
    def many(self) -> bool:
        """Say whether there are so many that it takes a while to look at all of them."""
        return len(self._lines) >= _MANY

    def _may_end(self, line: str) -> bool:
        """Say whether a statement of many lines can be whole with this one."""
        if not line.strip():
            return True
        if _BLOCK.match(self._lines[0]):
            return False
        return bool(_CLOSES.search(line)) or self._lines[-1].endswith("\\")

    def forget(self) -> str:
        """Begin anew; give what there was."""
        typed = "\n".join(self._lines)
        self._lines.clear()
        return typed
