"""
Skim an XML property list of the form that devices write, for a few top keys.

Devices write plists by machine: no attribute, comment, character reference or
CDATA. One pattern that knows just this form passes over a value at some ten
times expat's speed. Whatever does not fit, wrong or only unusual, is left to
:mod:`mdmd.mdm.plist_xml`, so that this module never decides on a refusal.
"""

import re
from collections.abc import Collection
from functools import cache

_LEVELS = 4  # dicts and arrays inside one another, below the top

_SPACE = rb"[ \t\n]*"
# "\r" is left out because XML turns it into "\n", "&" because it has to be resolved.
_TEXT = rb"[^<&\x00-\x08\x0b-\x1f]*"
_LEAF = rb"|".join(
    [
        rb"%s>%s</%s" % (tag, _TEXT, tag)
        for tag in (b"string", b"integer", b"data", b"date", b"real")
    ]
    + [rb"true/", rb"false/", rb"string/", rb"data/", rb"dict/", rb"array/"]
)
_ROOT = re.compile(rb'<plist(?: version="1\.0")?>%s<dict>' % _SPACE)
_KEY = re.compile(rb"%s<key>(%s)</key>%s" % (_SPACE, _TEXT, _SPACE))
_WANTED = re.compile(rb"<(?:(string|integer|data|date|real)>(%s)</\1>|(true|false)/>)" % _TEXT)
_END = re.compile(rb"%s</dict>%s</plist>%s\Z" % (_SPACE, _SPACE, _SPACE))


def scan(
    body: bytes, start: int, keys: Collection[str], depth: int
) -> list[tuple[str, str, str]] | None:
    """
    Find the values of ``keys``: a list of (key, tag, text), in the file's order.

    :param start: where the root element begins.
    :return: None when the plist is not of the usual form, or one of ``keys``
        holds a dict or an array. That says nothing about it being right.
    """
    root = _ROOT.match(body, start)
    if root is None or depth <= _LEVELS or b"]]>" in body or not _is_xml_text(body):
        return None
    value = _value()
    seen: set[bytes] = set()
    found: list[tuple[str, str, str]] = []
    at = root.end()
    while name := _KEY.match(body, at):
        key = name[1].decode()
        wanted = key in keys
        passed = (_WANTED if wanted else value).match(body, name.end())
        if passed is None or name[1] in seen:
            return None
        seen.add(name[1])
        if wanted:
            tag, text, flag = passed.groups(b"")
            found.append((key, (tag or flag).decode(), text.decode()))
        at = passed.end()
    return found if _END.match(body, at) else None


def _is_xml_text(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return "\ufffe" not in text and "\uffff" not in text


@cache  # some milliseconds to compile, and not every program that imports this needs it
def _value() -> re.Pattern[bytes]:
    inner = _LEAF
    for _ in range(_LEVELS):
        inner = (
            rb"%s|dict>(?:%s<key>%s</key>%s<(?:%s)>)*%s</dict|array>(?:%s<(?:%s)>)*%s</array"
            % ((_LEAF, _SPACE, _TEXT, _SPACE, inner, _SPACE, _SPACE, inner, _SPACE))
        )
    return re.compile(rb"<(?:%s)>" % inner)
