"""Keys of a terminal's bytes: text as it is, all other keys by a name in angles."""

import re

_SEQUENCES = {
    b"A": "<up>",
    b"B": "<down>",
    b"C": "<right>",
    b"D": "<left>",
    b"F": "<end>",
    b"H": "<home>",
    b"1~": "<home>",
    b"3~": "<delete>",
    b"4~": "<end>",
    b"7~": "<home>",
    b"8~": "<end>",
    b"1;5C": "<m-f>",
    b"1;5D": "<m-b>",
    b"1;3C": "<m-f>",
    b"1;3D": "<m-b>",
}
_CONTROL = {b"\r": "<enter>", b"\n": "<enter>", b"\t": "<tab>", b"\x7f": "<backspace>"}
_CONTROL[b"\b"] = "<backspace>"

# ECMA-48: ESC [ parameters, intermediates, a final byte; ESC O and a byte; ESC and a byte.
_ESCAPE = re.compile(rb"\x1b(?:\[([0-9;?<>=]*[ -/]*)([@-~])|O(.)|([^\[O]))", re.DOTALL)
_LONGEST = 64  # bytes of one sequence


class KeyReader:
    """Takes bytes as they come, however they are cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Give the keys that are whole."""
        self._rest += data
        keys = []
        while self._rest:
            key = self._next()
            if key is None:
                break
            if key:
                keys.append(key)
        return keys

    def _next(self) -> str | None:
        """Take one key; None: more bytes are needed; "": nothing that is known."""
        if self._rest[:1] == b"\x1b":
            return self._escape()
        if self._rest[0] < 0x20 or self._rest[0] == 0x7F:
            byte, self._rest = self._rest[:1], self._rest[1:]
            return _CONTROL.get(byte) or f"<c-{chr(byte[0] + 0x60)}>"
        return self._text()

    def _escape(self) -> str | None:
        match = _ESCAPE.match(self._rest)
        if match is None:
            if len(self._rest) < _LONGEST:
                return None
            self._rest = self._rest[1:]
            return ""
        self._rest = self._rest[match.end() :]
        parameters, final, function, alt = match.groups()
        if final is not None:
            return _SEQUENCES.get(parameters + final, "")
        if function is not None:
            return _SEQUENCES.get(function, "")
        return f"<m-{alt.decode('ascii')}>" if b"a" <= alt <= b"z" else ""

    def _text(self) -> str | None:
        size = _utf8_size(self._rest[0])
        if len(self._rest) < size:
            return None
        taken, self._rest = self._rest[:size], self._rest[size:]
        text = taken.decode("utf-8", "replace")
        return text if text.isprintable() else ""


def _utf8_size(first: int) -> int:
    for least, size in ((0xF0, 4), (0xE0, 3), (0xC0, 2)):
        if first >= least:
            return size
    return 1
