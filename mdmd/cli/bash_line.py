"""
What bash's Tab is about: the words of a line that is being typed, and how to spell the last one.

bash splits a line at more than blanks ($COMP_WORDBREAKS has the colon of ``UDID:user``), puts
in what it is given as it is, and only in the place of what stands behind the last such break.

Source: bash(1), "Programmable Completion"; readline's _rl_find_completion_word, with
rl_special_prefixes as bash has them.
"""

import attrs

_PLAIN = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,/:@%+="
)  # in need of no quoting
_LEFT = "@$"
_IN_DOUBLE = '\\"$`'


@attrs.frozen
class BashLine:
    """
    A line up to the cursor.

    :ivar words: without their quotes, the last one begun, maybe empty.
    :ivar kept: how many characters of the last word bash leaves where they are.
    :ivar quote: the quote that is open, or "".
    """

    words: list[str]
    kept: int
    quote: str

    def spelled(self, candidate: str) -> str:
        """Spell what bash is to put in, so that the word becomes ``candidate``."""
        rest = candidate[self.kept :]
        if self.quote == "'":
            return rest.replace("'", "'\\''")
        if self.quote == '"':
            return "".join(f"\\{each}" if each in _IN_DOUBLE else each for each in rest)
        return "".join(each if each in _PLAIN else f"\\{each}" for each in rest)


def read(line: str, breaks: str) -> BashLine:
    """Read a line up to the cursor; ``breaks`` is $COMP_WORDBREAKS."""
    words, word, begun, kept, quote = [], "", False, 0, ""
    characters = iter(line)
    for each in characters:
        if quote == "'" or (quote == '"' and each == '"'):
            quote, word = ("", word) if each == quote else (quote, word + each)
        elif each == "\\":
            following = next(characters, "")
            literal = quote == '"' and following not in _IN_DOUBLE
            word, begun = word + (f"\\{following}" if literal else following), True
        elif quote:
            word += each
        elif each in "'\"":
            quote, kept, begun = each, len(word), True
        elif each.isspace():
            words += [word] if begun else []
            word, begun, kept = "", False, 0
        else:
            word, begun = word + each, True
            if each in breaks:
                # It leaves what it may have to know what the word is: an @ begins a host's name.
                kept = len(word) - (each in _LEFT)
    return BashLine([*words, word], kept, quote)
