"""Secrets in what was typed: neither the audit nor the history keeps them."""

import re

_NAME = r"\w*(?:pin|pass(?:word|code|phrase)?|secret|token|key)\w*"
_VALUE = r"""(?:[rbuf]{0,2}(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)|\d+)"""
_SECRET = re.compile(rf"""(\b{_NAME}["']?\s*[=:]\s*){_VALUE}""", re.IGNORECASE)


def redacted(line: str) -> str:
    """Put ``…`` in the place of what a keyword or key says is a secret."""
    return _SECRET.sub(r"\1…", line)
