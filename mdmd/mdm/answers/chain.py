"""Read an ErrorChain, of whatever shape it came."""

import attrs

from mdmd.mdm.answers.codes import meaning

MAX_ERRORS = 50
MAX_TEXT = 500  # characters


@attrs.frozen
class ErrorItem:
    """One error of a chain; the outermost comes first."""

    domain: str
    code: int | str  # "" if there is none
    meaning: str  # in our words, "" if the code is not known
    text: str  # in the device's words

    def __str__(self) -> str:
        """Put it into one line."""
        where = " ".join(str(each) for each in (self.domain, self.code) if each != "")
        if self.meaning:
            where = f"{where} ({self.meaning})"
        return ": ".join(filter(None, (where, self.text)))


def read_chain(chain: object) -> tuple[ErrorItem, ...]:
    """Read what can be read; anything that is no list of errors is no error."""
    if not isinstance(chain, list):
        return ()
    items = (_item(each) for each in chain[:MAX_ERRORS])
    return tuple(item for item in items if str(item))


def line(chain: object) -> str:
    """Put a chain into one line of at most MAX_TEXT characters, the outermost error first."""
    return "; ".join(map(str, read_chain(chain)))[:MAX_TEXT]


def _item(error: object) -> ErrorItem:
    if not isinstance(error, dict):
        return ErrorItem("", "", "", _words(error))
    domain, code = _words(error.get("ErrorDomain")), error.get("ErrorCode")
    number = code if isinstance(code, int) and not isinstance(code, bool) else _words(code)
    text = _words(error.get("LocalizedDescription")) or _words(error.get("USEnglishDescription"))
    return ErrorItem(domain, number, meaning(domain, number), text)


def _words(value: object) -> str:
    """Spell a string or number on one line, anything else as nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = " ".join(str(value)[:MAX_TEXT].split())
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
