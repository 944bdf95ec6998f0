"""The manhole for scripts: one command, or lines from standard input; no terminal."""

import ast
import re
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.ops.manhole.session import ManholeSession

log = Logger()

_LARGEST = 1024 * 1024  # bytes of a script
_TOO_LONG = f"a script has {_LARGEST:,} bytes at most; nothing of it was run"
_TOLD = 2000  # characters of one that is too long, for the audit
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_BETWEEN = " \t\f\r\n;\\"  # what parts statements

MakeSession = Callable[[Callable[[str], None]], ManholeSession]


class Batch(Protocol):
    """
    What runs without a prompt.

    :param command: one source; None: lines come from standard input.
    :param ended: takes the exit status: 0, 1 if something went wrong, or what exit() says.
    :param terminal: at the other end is one (ssh -tt), where Ctrl-C is typed.
    """

    transport: Any

    def __init__(
        self,
        make_session: MakeSession,
        command: str | None,
        ended: Callable[[Failure], None],
        terminal: bool = False,
    ) -> None:
        self._session = make_session(self.write)
        self._command = command
        self._ended = ended
        self._terminal = terminal
        self._input = bytearray()
        self._gone = False

    def connectionMade(self) -> None:
        """Begin, if there is a command."""
        if self._command is not None:
            self._begin(self._command)

    def dataReceived(self, data: bytes) -> None:
        """Collect the script; Ctrl-C cancels."""
        if self._command is None:
            # A byte more than may be says that it is too long.
            self._input += data[: _LARGEST + 1 - len(self._input)]
        elif self._terminal and b"\x03" in data:
            self._session.cancel()

    def end_of_input(self) -> None:
        """Run the script, now that it is whole."""
        if self._command is None:
            self._command = self._input.decode("utf-8", "replace")
            self._begin(self._command, whole=len(self._input) <= _LARGEST)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """End what is running."""
        self._gone = True
        self._session.cancel()

    def write(self, text: str) -> None:
        """Print."""
        if not self._gone:
            self.transport.write(text.encode("utf-8", "replace"))

    def _begin(self, script: str, whole: bool = True) -> None:
        work = self._run(script) if whole else self._refuse(script)
        Deferred.fromCoroutine(work).addCallbacks(self._end, self._failed)

    async def _refuse(self, script: str) -> int:
        """Half of a script might do something else, so nothing of it runs."""
        await self._session.refuse(script[:_TOLD], ValueError(_TOO_LONG))
        return 1

    async def _run(self, script: str) -> int:
        try:
            statements = _statements(script)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            await self._session.refuse(script, error)
            return 1
        for source in statements:
            outcome = "" if self._gone else await self._session.run(source)
            if outcome == "SystemExit":
                return self._session.interpreter.exit_status
            if outcome != "ok":
                return 1
        return 0

    def _end(self, status: int) -> None:
        if not self._gone:
            self._ended(Failure(ProcessTerminated(exitCode=status) if status else ProcessDone(0)))

    def _failed(self, failure: Failure) -> None:
        log.failure("the manhole failed", failure)
        self._end(1)


def _statements(script: str) -> list[str]:
    """
    Cut a script into its statements: what each gives is shown, as if it were typed.

    Decorators and comments belong to what follows them, those at the end to the last
    one. A script of comments only is one statement, which does nothing.

    :raises SyntaxError: it is none.
    """
    lines = _LINE.findall(script)
    starts = list(accumulate(map(len, lines), initial=0))

    def end(statement: ast.stmt) -> int:
        # The parser counts lines, and bytes of UTF-8 in them.
        assert statement.end_lineno is not None
        last = lines[statement.end_lineno - 1].encode()[: statement.end_col_offset]
        return starts[statement.end_lineno - 1] + len(last.decode())

    ends = [end(each) for each in ast.parse(script).body]
    cuts = [0, *ends[:-1], len(script)]
    pieces = [script[begin:until].strip(_BETWEEN) for begin, until in pairwise(cuts)]
    return [each for each in pieces if each]
