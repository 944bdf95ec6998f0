"""What sounds like a secret, and what looks like one."""

import re

# Whole words of an identifier: UnlockToken is unlock and token, new_pin is new and pin.
_WORDS = frozenset(
    {
        "apikey", "auth", "authorization", "bearer", "bypass", "challenge", "cookie", "cred",
        "creds", "escrow", "hash", "hashed", "key", "keys", "magic", "mfa", "otp", "pass", "phrase",
        "pin", "pins", "private", "pw", "pwd", "salt", "seed", "sesame", "totp",
    }
)  # fmt: skip
_PARTS = ("passw", "passc", "passp", "secret", "token", "credential", "pincode")
_ENDS = ("pin", "key", "pwd")
# Verbs whose arguments are secrets, whatever they are called.
_VERBS = frozenset(
    {
        "authenticate", "decrypt", "encrypt", "erase", "lock", "login", "passwd", "seal", "unlock",
        "unseal", "wipe",
    }
)  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.\- ]{0,63}")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_READS = frozenset({"pins.show", "results.secret"})  # methods, not what they read


def _words(name: str) -> list[str]:
    return [each.lower() for each in _WORD.findall(name)]


def sounds(name: str) -> bool:
    """Say whether what has this name is a secret."""
    lower = name.lower()
    if lower in _READS:
        return False
    words = _words(name)
    return (
        any(part in lower for part in _PARTS)
        or not _WORDS.isdisjoint(words)
        or any(word.endswith(_ENDS) for word in words)
    )


def is_verb(name: str) -> bool:
    """Say whether a function of this name is given a secret."""
    return sounds(name) or not _VERBS.isdisjoint(_words(name))


def names_one(text: str) -> bool:
    """Say whether a text is the name of a secret, such as ``"PIN"``; then one may follow."""
    return bool(_IDENTIFIER.fullmatch(text)) and sounds(text)


# -- looks ----------------------------------------------------------------------

_LONGEST = 60  # characters of a text in words
_LONGEST_WORD = 24  # characters of a word with digits in it
_LONGEST_NAME = 40  # of one without
_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|[0-9A-F]{8}-[0-9A-F]{16}")
_PAIR = re.compile(r"[\w.\-]+(?=[\"']?\s*(?:[=:>]|</key>))|--?[A-Za-z][\w\-]*(?=[ =])")
_USER_INFO = re.compile(r"://[^/\s]*@")
_NO_NAME = re.compile("[=%*?~]")  # signs that stand between words, but not in names with digits
_SIGNS = re.compile(r"[^\w\s.,:/_\-@%*?'\"()\[\]{}<>=~|…]")


def looks(text: str, least: int = 4) -> bool:
    """
    Say whether a text may be a secret by how it looks; in doubt it does.

    Digits only, letters and digits mixed, signs in a word, long, or a name of a
    secret with something after it.

    :param least: digits that a text of digits has to have.
    """
    plain = _UUID.sub("", text)
    if len(plain) > _LONGEST or "-----BEGIN" in plain or _USER_INFO.search(plain):
        return True
    words = plain.split()
    named = [*_PAIR.findall(plain), *words[:-1]]
    return any(map(sounds, named)) or any(is_odd(word, least) for word in words)


def is_odd(word: str, least: int = 4) -> bool:
    """Say whether a word is one that nobody would say, such as ``hunter2``."""
    if word.isdigit():
        return len(word) >= least
    mixed = any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    if len(word) >= 6 and (_SIGNS.search(word) or (mixed and _NO_NAME.search(word))):
        return True
    if mixed and word.isalnum():
        return len(word) >= 6
    pieces = re.split(r"[^0-9A-Za-z]+", word)
    digits = [each for each in pieces if each.isdigit() and len(each) >= max(6, least)]
    longest = max(map(len, pieces))
    return bool(digits) or longest > _LONGEST_NAME or (mixed and longest > _LONGEST_WORD)
