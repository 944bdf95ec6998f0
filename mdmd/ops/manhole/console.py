"""A terminal at the manhole: keys, lines, completion, Ctrl-C, output that comes at any time."""

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger

from mdmd.ops.columns import cells, fit
from mdmd.ops.manhole.editor import LONGEST, LineEditor
from mdmd.ops.manhole.history import History
from mdmd.ops.manhole.interpreter import is_whole
from mdmd.ops.manhole.keys import KeyReader
from mdmd.ops.manhole.session import Lines, ManholeSession

log = Logger()

_PROMPTS = ("mdmd> ", "  ... ")
_NEVER_WHOLE = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)
_AHEAD = 100_000  # keys typed while a line runs
_TOO_LONG = f"a line has {LONGEST:,} characters at most; pipe in longer ones: ssh HOST < FILE"


class Console(Protocol):
    """
    Somebody with a terminal.

    :param make_session: makes the session that prints to ``write`` and to ``progress``.
    :param clock: an IReactorTime.
    """

    transport: Any

    def __init__(
        self,
        make_session: Callable[[Callable[[str], None], Callable[[str], None]], ManholeSession],
        history: History,
        greeting: str,
        width: int,
        clock: Any,
    ) -> None:
        self._clock = clock
        self._session = make_session(self.write, self.progress)
        self._session.interpreter.namespace.update(exit=_Leave(self.leave), quit=_Leave(self.leave))
        self._history = history
        self._greeting = greeting
        self._keys = KeyReader()
        self._ahead: deque[str] = deque()  # keys that wait
        self._flooded = False  # nothing more is taken until Ctrl-C
        self._lines = Lines()
        self._editor = LineEditor(history.read())
        self._editing = False
        self._completing = False
        self._pausing = False  # others have their turn
        self._left = False
        self.resize(width)

    def connectionMade(self) -> None:
        """Say hello."""
        self._send(self._greeting.replace("\n", "\r\n"))
        self._prompt()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        """End what is running; what was typed ahead does not begin."""
        self._stop()
        self._session.cancel()
        self._give_up()

    def resize(self, width: int) -> None:
        """Take the terminal's width."""
        self._editor.width = self._session.interpreter.width = max(width, 20)

    def leave(self) -> None:
        """End the session."""
        self._stop()
        self.transport.loseConnection()

    def _stop(self) -> None:
        self._left = True
        self._editing = False
        self._ahead.clear()

    def write(self, text: str) -> None:
        """Print; what is being typed moves below."""
        text = text.replace("\n", "\r\n")
        if not self._editing:
            self._send(text)
            return
        end = "" if text.endswith("\n") else "\r\n"
        self._send(self._editor.clear() + text + end + self._editor.draw())

    def progress(self, text: str) -> None:
        """Show a line while something runs, in the place of the last one; "" takes it away."""
        if not self._editing:
            self._send(f"\r\x1b[K{text[: self._editor.width - 1]}")

    def _send(self, text: str) -> None:
        self.transport.write(text.encode("utf-8", "replace"))

    # -- keys

    def dataReceived(self, data: bytes) -> None:
        """Take what was typed."""
        if self._left:
            return
        for key in self._keys.feed(data):
            if key == "<c-c>":
                self._catch_up()
                self._interrupt()
            elif not self._flooded:
                self._ahead.append(key)
        self._catch_up()
        if len(self._ahead) > _AHEAD:
            # What follows would mean something else without what is lost.
            self._flooded = True
            self._ahead.clear()
            self.write(
                "\ntoo much typed ahead: it is forgotten, and what follows; Ctrl-C goes on\n"
            )

    def _key(self, key: str) -> None:
        if key == "<enter>":
            self._enter()
        elif key == "<tab>":
            self._tab()
        elif key == "<c-l>":
            self._send("\x1b[H\x1b[2J" + self._editor.draw())
        elif key == "<c-d>" and not self._editor.text:
            self._send("\r\n")
            self.leave()
        else:
            self._send(self._editor.key("<delete>" if key == "<c-d>" else key))

    def _interrupt(self) -> None:
        self._ahead.clear()
        self._flooded = False
        if self._session.busy:
            self._session.cancel()
            return
        self._send(self._editor.leave())
        self._editor.forget()
        if not self._give_up():
            self._prompt()

    def _prompt(self) -> None:
        if self._left:
            return
        self._editing = True
        self._editor.prompt = _PROMPTS[self._lines.begun]
        self._send(self._editor.draw())

    # -- lines

    def _enter(self) -> None:
        self._send(self._editor.leave())
        self._editing = False
        cut_short = self._editor.cut_short
        line = self._editor.take()
        typed = self._lines.followed_by(line)
        try:
            if cut_short:
                self._lines.forget()
                raise ValueError(_TOO_LONG)
            source = self._lines.add(line, is_whole)
        except _NEVER_WHOLE as error:
            self._history.add(typed)
            self._session.refuse(typed, error).addCallback(self._done).addErrback(_failed)
            return
        if source is None and self._lines.many:
            # Whether they are whole takes longer with each: devices have their turn in between.
            self._pausing = True
            self._clock.callLater(0, self._go_on)
        if source is None or not source.strip():
            self._prompt()
            return
        self._history.add(source)
        self._session.run(source).addCallback(self._done).addErrback(_failed)

    def _give_up(self) -> bool:
        """Note lines that never became a statement; say whether there are some."""
        typed = self._lines.forget()
        if typed:
            self._editing = False
            self._session.give_up(typed).addCallback(self._done).addErrback(_failed)
        return bool(typed)

    def _done(self, outcome: str) -> None:
        if outcome == "SystemExit" and not self._left:
            self.leave()
        self._prompt()
        self._catch_up()

    def _go_on(self) -> None:
        self._pausing = False
        self._catch_up()

    @property
    def _is_free(self) -> bool:
        return not (self._session.busy or self._completing or self._pausing)

    def _catch_up(self) -> None:
        while self._ahead and self._is_free:
            text = self._text_ahead()
            if len(text) > 1:  # pasted: drawn once, not for each character
                self._send(self._editor.insert(text))
            else:
                self._key(text or self._ahead.popleft())

    def _text_ahead(self) -> str:
        """Take the characters that come before the next key of another kind."""
        text = []
        while self._ahead and len(self._ahead[0]) == 1:
            text.append(self._ahead.popleft())
        return "".join(text)

    # -- completion

    def _tab(self) -> None:
        before = self._editor.text[: self._editor.cursor]
        if not before.strip():
            self._send(self._editor.insert("    "))
            return
        self._completing = True
        answer = Deferred.fromCoroutine(self._session.complete(before))
        answer.addCallback(self._completed).addErrback(_failed)

    def _completed(self, found: tuple[int, list[str]]) -> None:
        self._completing = False
        begun, candidates = found
        common = _common(candidates)
        if len(common) > begun:
            self._send(self._editor.insert(common[begun:]))
        elif len(candidates) > 1:
            self.write(_columns(candidates, self._editor.width))
        else:
            self._send("\a")
        self._catch_up()


class _Leave:
    """``exit`` and ``quit`` end the session, not the daemon."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def __call__(self, status: object = None) -> None:
        self._leave()

    def __repr__(self) -> str:
        self._leave()
        return "bye"


def _common(words: list[str]) -> str:
    """Give what all words begin with."""
    if not words:
        return ""
    first, last = min(words), max(words)
    size = next((at for at, each in enumerate(first) if last[at : at + 1] != each), len(first))
    return first[:size]


def _columns(words: list[str], width: int) -> str:
    wide = max(map(cells, words)) + 2
    each_line = max(1, width // wide)
    lines = [words[at : at + each_line] for at in range(0, len(words), each_line)]
    return "".join("".join(fit(word, wide) for word in line).rstrip() + "\n" for line in lines)


def _failed(failure: Any) -> None:
    log.failure("the manhole failed", failure)
