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
_TEXT = re.compile(rb"[^\x00-\x1f\x7f]+")


class KeyReader:
    """Takes bytes as they come, however they are cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """Give the keys that are whole."""
        self._rest += data
        keys: list[str] = []
        while self._rest:
            text = _TEXT.match(self._rest)
            if text is not None:
                whole = _whole(text[0]) if text.end() == len(self._rest) else text.end()
                if not whole:
                    break
                keys += _printable(self._rest[:whole])
                self._rest = self._rest[whole:]
                continue
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
        byte, self._rest = self._rest[:1], self._rest[1:]
        return _CONTROL.get(byte) or f"<c-{chr(byte[0] + 0x60)}>"

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


def _printable(text: bytes) -> list[str]:
    return [each for each in text.decode("utf-8", "replace") if each.isprintable()]


def _whole(text: bytes) -> int:
    """Count the bytes up to a character that has not come whole; 0 if there are no others."""
    for back in range(1, min(4, len(text)) + 1):
        if text[-back] & 0xC0 != 0x80:  # where a character begins
            return len(text) if _utf8_size(text[-back]) <= back else len(text) - back
    return len(text)


def _utf8_size(first: int) -> int:
    for least, size in ((0xF0, 4), (0xE0, 3), (0xC0, 2)):
        if first >= least:
            return size
    return 1
