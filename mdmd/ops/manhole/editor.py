"""A line being edited: keys in, what to write to the terminal out. Knows neither of them."""

from mdmd.ops.columns import cells

_MOST_HISTORY = 1000
LONGEST = 20_000  # characters of one line


class LineEditor:
    """
    One line, its cursor, and the lines before it.

    The keys are those of Emacs and the arrows; <up> looks for earlier lines
    that begin with what is left of the cursor.
    """

    def __init__(self, history: list[str] | None = None) -> None:
        self.prompt = ""
        self.text = ""
        self.cursor = 0
        self.width = 80
        self.history = history if history is not None else []
        self._place = len(self.history)  # in the history
        self._sought = ""  # what <up> looks for
        self._cut = ""
        self._row = 0  # of the cursor, from where the prompt begins
        self.cut_short = False  # more was typed than there is room for

    # -- the line

    def key(self, key: str) -> str:
        """Take a key; what has to be written to the terminal comes back."""
        if len(key) == 1:
            return self._insert(key)
        action = _ACTIONS.get(key)
        if action is None:
            return ""
        if key not in ("<up>", "<down>", "<c-p>", "<c-n>"):
            self._place = len(self.history)
        action(self)
        return self.draw()

    def insert(self, text: str) -> str:
        """Put a text in at the cursor."""
        self._place = len(self.history)
        room = max(0, LONGEST - len(self.text))
        if len(text) > room:
            self.cut_short = True
            if not room:
                return "\a"
        text = text[:room]
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)
        return self.draw()

    def _insert(self, key: str) -> str:
        at_end = self.cursor == len(self.text)
        drawn = self.insert(key)
        # The usual case needs no more than the character itself.
        here = cells(self.prompt + self.text)
        simple = at_end and not self.cut_short and cells(key) == 1
        return key if simple and here % self.width not in (0, 1) else drawn

    def take(self) -> str:
        """Take the line, remember it, and begin a new one."""
        line, self.text, self.cursor, self._row = self.text, "", 0, 0
        self.cut_short = False
        if line.strip() and line != (self.history[-1] if self.history else None):
            self.history.append(line)
            del self.history[:-_MOST_HISTORY]
        self._place = len(self.history)
        return line

    def forget(self) -> None:
        """Begin a new line, this one was not meant."""
        self.text, self.cursor, self._row = "", 0, 0
        self.cut_short = False
        self._place = len(self.history)

    # -- the terminal

    def draw(self) -> str:
        """Write prompt and line anew over what was there."""
        out = self.clear() + self.prompt + self.text
        whole, here = cells(self.prompt + self.text), cells(self.prompt + self.text[: self.cursor])
        if whole and whole % self.width == 0:
            out += "\r\n"  # the terminal has not wrapped yet
        down = whole // self.width - here // self.width
        out += f"\x1b[{down}A" if down else ""
        out += "\r" + (f"\x1b[{here % self.width}C" if here % self.width else "")
        self._row = here // self.width
        return out

    def clear(self) -> str:
        """Wipe prompt and line off the terminal."""
        up = f"\x1b[{self._row}A" if self._row else ""
        self._row = 0
        return f"\r{up}\x1b[J"

    def leave(self) -> str:
        """Go to the end of the line, then below it."""
        if self.cursor == len(self.text):
            return "\r\n"
        self.cursor = len(self.text)
        return self.draw() + "\r\n"

    # -- what keys do

    def _left(self) -> None:
        self.cursor = max(0, self.cursor - 1)

    def _right(self) -> None:
        self.cursor = min(len(self.text), self.cursor + 1)

    def _home(self) -> None:
        self.cursor = 0

    def _end(self) -> None:
        self.cursor = len(self.text)

    def _word_left(self) -> None:
        while self.cursor and not self.text[self.cursor - 1].isalnum():
            self.cursor -= 1
        while self.cursor and self.text[self.cursor - 1].isalnum():
            self.cursor -= 1

    def _word_right(self) -> None:
        end = len(self.text)
        while self.cursor < end and not self.text[self.cursor].isalnum():
            self.cursor += 1
        while self.cursor < end and self.text[self.cursor].isalnum():
            self.cursor += 1

    def _backspace(self) -> None:
        if self.cursor:
            self.text = self.text[: self.cursor - 1] + self.text[self.cursor :]
            self.cursor -= 1

    def _delete(self) -> None:
        self.text = self.text[: self.cursor] + self.text[self.cursor + 1 :]

    def _cut_to(self, start: int, end: int) -> None:
        self._cut = self.text[start:end]
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start

    def _cut_right(self) -> None:
        self._cut_to(self.cursor, len(self.text))

    def _cut_left(self) -> None:
        self._cut_to(0, self.cursor)

    def _cut_word(self) -> None:
        end = self.cursor
        start = len(self.text[:end].rstrip())
        while start and not self.text[start - 1].isspace():
            start -= 1
        self._cut_to(start, end)

    def _paste(self) -> None:
        self.insert(self._cut)

    def _older(self) -> None:
        if self._place == len(self.history):
            self._sought = self.text[: self.cursor]
        self._seek(range(self._place - 1, -1, -1))

    def _newer(self) -> None:
        if not self._seek(range(self._place + 1, len(self.history))):
            self._place = len(self.history)
            self.text, self.cursor = self._sought, len(self._sought)

    def _seek(self, places: range) -> bool:
        for place in places:
            if self.history[place].startswith(self._sought):
                self._place = place
                self.text = self.history[place]
                self.cursor = len(self.text)
                return True
        return False


_ACTIONS = {
    "<left>": LineEditor._left,
    "<c-b>": LineEditor._left,
    "<right>": LineEditor._right,
    "<c-f>": LineEditor._right,
    "<home>": LineEditor._home,
    "<c-a>": LineEditor._home,
    "<end>": LineEditor._end,
    "<c-e>": LineEditor._end,
    "<m-b>": LineEditor._word_left,
    "<m-f>": LineEditor._word_right,
    "<backspace>": LineEditor._backspace,
    "<delete>": LineEditor._delete,
    "<c-k>": LineEditor._cut_right,
    "<c-u>": LineEditor._cut_left,
    "<c-w>": LineEditor._cut_word,
    "<c-y>": LineEditor._paste,
    "<up>": LineEditor._older,
    "<c-p>": LineEditor._older,
    "<down>": LineEditor._newer,
    "<c-n>": LineEditor._newer,
}
