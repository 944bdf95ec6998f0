"""One operator at the manhole, whatever their terminal: a line in, what it gives out, an audit."""

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError, NotAllowed
from mdmd.interfaces.audit import AuditEntry
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
        self.name = caller().name
        outlet = Outlet(write, unread, perspective.desk.clock)
        names = make_namespace(perspective.desk, self.call, outlet.print, progress)
        self.interpreter = Interpreter(names, write, self.name, outlet=outlet)
        self._write = write
        self._all = running
        self._running: Deferred[str] | None = None  # what Ctrl-C cancels
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

    def _begin(self, work: Coroutine[Any, Any, str]) -> "Deferred[str]":
        self.busy = True
        line = Deferred.fromCoroutine(work)
        self._all.add(line)
        return line.addBoth(self._over, line)

    def cancel(self) -> None:
        """Cancel what is running: its await, not the daemon."""
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

    async def _refuse(self, source: str, error: Exception) -> str:
        self._write(f"{type(error).__name__}: {error}\n")
        try:
            await self._audit(self._admin(), source, type(error).__name__)
        except NotAllowed as refusal:
            self._write(f"NotAllowed: {refusal}\n")
        return type(error).__name__

    async def _run(self, source: str) -> str:
        try:
            caller = self._admin()
        except MdmdError as error:
            self._write(f"{type(error).__name__}: {error}\n")
            return type(error).__name__
        self._running = Deferred.fromCoroutine(self.interpreter.run(source))
        try:
            outcome = await self._running
        finally:
            self._running = None
        await self._audit(caller, source, outcome)
        return outcome

    async def _audit(self, caller: Caller, source: str, outcome: str) -> None:
        line = redacted(source)[:_AUDITED]
        log.info(
            "audit: {who} from {source}: manhole {line}: {outcome}",
            who=caller.name,
            source=caller.source,
            line=line,
            outcome=outcome,
        )
        entry = AuditEntry(
            caller.name, caller.source, "manhole", facts={"line": line}, outcome=outcome
        )
        try:
            await self._perspective.desk.audit.write(entry)
        except MdmdError as error:
            log.error("a line of the manhole is in this log only: {reason}", reason=str(error))

    def _over(self, outcome: Any, line: "Deferred[str]") -> str:
        self.busy = False
        self._all.discard(line)
        if isinstance(outcome, Failure):
            log.failure("the manhole failed", outcome)
            self._write("mdmd failed here; its log says how\n")
            return "InternalError"
        return str(outcome)


@attrs.define
class Lines:
    """Lines on their way to whole statements."""

    _lines: list[str] = attrs.field(factory=list)

    def add(self, line: str, is_whole: Callable[[str], bool]) -> str | None:
        """
        Add a line; give the whole source once there is one, None while there is not.

        :raises SyntaxError: it will never be one; the lines are forgotten.
        """
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

    def forget(self) -> None:
        """Begin anew."""
        self._lines.clear()
