"""Python lines of an operator: top-level await, answers shown, time on the reactor measured."""

import ast
import codeop
import inspect
import linecache
import pprint
import threading
import time
import traceback
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mdmd.errors import MdmdError
from mdmd.ops.manhole.outlet import Outlet
from mdmd.ops.manhole.redact import redacted

log = Logger()

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_SHOWN = "_shown_"
SLOW = 1.0  # seconds on the reactor after which the log tells whose line it was
_VERY_SLOW = 5.0  # while it still blocks


class Answer(Awaitable[Any]):
    """
    What takes a round trip: type it alone, or ``await`` it.

    ``devices`` alone shows them; ``found = devices`` and ``await devices`` have them.
    """

    def __init__(
        self, ask: Callable[[], Coroutine[Any, Any, Any]], what: str = "an answer"
    ) -> None:
        self._ask = ask
        self._what = what

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._ask().__await__()

    def __getitem__(self, key: Any) -> "Answer":
        """Give what is in it, once it is there: ``stats()["push"]``, ``d.results[0]``."""

        async def ask() -> Any:
            return (await self)[key]

        return Answer(ask, f"{self._what}[{key!r}]")

    __iter__ = None  # with __getitem__ alone a `for` would never end
    __contains__ = None

    def __repr__(self) -> str:
        return f"<{self._what}: await it>"


def is_whole(source: str) -> bool:
    """
    Say whether a source is a whole statement, or more lines belong to it.

    :raises SyntaxError: it never will be one.
    """
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= _AWAIT
    return compiler(source, "<manhole>", "single") is not None


class Interpreter:
    """
    One session's names, and what is run in them.

    :param write: takes what is printed, at any time.
    :param who: the operator, for the log.
    :param alarm: seconds that a line may block the reactor until the log tells, while it does.
    :param outlet: where it prints to; by default to ``write`` at once.
    """

    def __init__(
        self,
        namespace: dict[str, Any],
        write: Callable[[str], None],
        who: str,
        alarm: float = _VERY_SLOW,
        outlet: Outlet | None = None,
    ) -> None:
        self.namespace = namespace
        self.namespace["print"] = self._print
        self._write = write
        self._outlet = outlet or Outlet(write, lambda: 0, None)
        self._who = who
        self._alarm = alarm
        self._count = 0
        self._deferreds = 0
        self.width = 80
        self.exit_status = 0  # what exit() said

    async def run(self, source: str) -> str:
        """Run one source, show what it gives; return ``ok`` or the name of the error."""
        self._count += 1
        name = f"<manhole-{self._count}>"
        # Tracebacks quote it, those in the log too.
        quoted = f"{redacted(source)}\n"  # without an end of its line the marks are off by one
        linecache.cache[name] = (len(quoted), None, quoted.splitlines(True), name)
        try:
            tree = ast.parse(source, name)
            assigned = _names_assigned(tree)
            _keep_last_value(tree)
            await self._run_code(compile(tree, name, "exec", flags=_AWAIT))
            await self._resolve(assigned)
            await self.show(self.namespace.pop(_SHOWN, None))
        except CancelledError:
            self._write("cancelled\n")
            return "cancelled"
        except MdmdError as error:
            self._write(f"{type(error).__name__}: {error}\n")
            return type(error).__name__
        except SystemExit as end:
            self._leave(end.code)
            return "SystemExit"
        except BaseException as error:  # whatever is raised: the line ends, nothing else does
            self._write(_told(error))
            return type(error).__name__
        finally:
            self.namespace.pop(_SHOWN, None)
        return "ok"

    def _leave(self, code: object) -> None:
        """Take note how a script wants to end, as Python does: a text is told, and a failure."""
        if code is None or isinstance(code, int):
            self.exit_status = int(code or 0) & 0xFF
            return
        self.exit_status = 1
        self._write(f"{code}\n")

    async def _run_code(self, code: types.CodeType) -> None:
        with self._on_reactor():
            coroutine = eval(code, self.namespace)  # noqa: S307  (what a manhole is for)
        if inspect.iscoroutine(coroutine):
            await self._timed(coroutine)

    async def _resolve(self, assigned: set[str]) -> None:
        # `d = device("…")` is meant to have the device.
        for name in assigned:
            value = self.namespace.get(name)
            if isinstance(value, Answer):
                self.namespace[name] = await value

    async def show(self, value: Any) -> None:
        """Show a value; what has to be waited for is waited for."""
        if isinstance(value, Answer) or inspect.iscoroutine(value):
            value = await self._timed(_awaited(value))
        if value is None:
            return
        self.namespace["_"] = value
        if isinstance(value, Deferred):
            self._show_later(value)
            return
        with self._on_reactor():
            text = _spelled(value, self.width)
        self._write(text + "\n")

    def _show_later(self, deferred: "Deferred[Any]") -> None:
        self._deferreds += 1
        number = self._deferreds

        def came(result: Any) -> Any:
            self._outlet.print(f"Deferred #{number}: {_spelled(result, self.width)}\n")
            return result

        def failed(failure: Failure) -> None:
            self._outlet.print(f"Deferred #{number} failed: {failure.getErrorMessage()}\n")

        if not deferred.called:
            self._write(f"<Deferred #{number}, its result is printed when it comes>\n")
        deferred.addCallbacks(came, failed)

    def _print(self, *values: object, sep: str = " ", end: str = "\n", **_: object) -> None:
        """Print to this session."""
        self._outlet.print(sep.join(map(str, values)) + end)

    # -- time on the reactor

    def _timed(self, coroutine: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
        return Deferred.fromCoroutine(_stepping(coroutine, self._on_reactor, self._outlet))

    @contextmanager
    def _on_reactor(self) -> Iterator[None]:
        begun = time.monotonic()
        # From a thread: the reactor can't say it while it is blocked.
        alarm = threading.Timer(self._alarm, self._warn, (self._alarm, "is blocking"))
        alarm.daemon = True
        alarm.start()
        try:
            with self._outlet.holding():
                yield
        finally:
            alarm.cancel()
            took = time.monotonic() - begun
            if took >= SLOW:
                self._warn(took, "blocked")
                self._write(f"this line blocked the whole server for {took:.1f} s\n")

    def _warn(self, seconds: float, what: str) -> None:
        log.warn(
            "a line of {who} in the manhole {what} the whole server for {seconds} s",
            who=self._who,
            what=what,
            seconds=round(seconds, 1),
        )


@types.coroutine
def _stepping(
    coroutine: Coroutine[Any, Any, Any], measure: Callable[[], Any], outlet: Outlet
) -> Generator[Any, Any, Any]:
    """Run a coroutine, each of its steps measured, no faster than what it prints is read."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            with measure():
                waits_for = coroutine.throw(error) if error is not None else coroutine.send(value)
        except StopIteration as end:
            return end.value
        value, error = None, None
        try:
            value = yield waits_for
            if outlet.is_full:
                yield from outlet.drained().__await__()
        except BaseException as raised:
            error = raised


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _keep_last_value(tree: ast.Module) -> None:
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1]
        kept = ast.Assign([ast.Name(_SHOWN, ast.Store())], last.value)
        tree.body[-1] = ast.fix_missing_locations(ast.copy_location(kept, last))


def _names_assigned(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            names |= {each.id for each in statement.targets if isinstance(each, ast.Name)}
    return names


def _spelled(value: Any, width: int) -> str:
    if isinstance(value, Failure):
        return f"{type(value.value).__name__}: {value.getErrorMessage()}"
    if type(value) in (dict, list, tuple, set):
        return pprint.pformat(value, width=max(40, width), sort_dicts=False)
    return repr(value)


def _told(error: BaseException) -> str:
    """Tell an error with the lines that were typed, without those of this module."""
    frames = traceback.extract_tb(error.__traceback__)
    typed = [index for index, each in enumerate(frames) if each.filename.startswith("<manhole")]
    shown = traceback.format_list(frames[typed[0] :]) if typed else []
    head = ["Traceback:\n", *shown] if shown else []
    return "".join([*head, *traceback.format_exception_only(error)])
