"""
Secrets in what was typed: neither the audit nor the history keeps them.

A line is parsed, so that it counts what a value is for: what is given to a keyword,
a key, a name that sounds like a secret, or to a verb that takes one, goes. Of the
rest goes what looks like a secret, but for what names a device. A line that is no
Python is cut into words instead.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Sequence

import attrs

from mdmd.ops.manhole.secretive import is_odd, is_verb, looks, names_one, sounds

GONE = "…"
_MOST_DIGITS = 5  # of a number that is kept wherever it stands

# Calls and keywords whose arguments say which device, which event, how many.
_HARMLESS = frozenset(
    {
        "EnrollmentID", "EnrollmentID.parse", "device", "devices.one", "devices.page",
        "events.tail", "log.level", "push", "range", "time.sleep",
    }
)  # fmt: skip
_HARMLESS_KEYWORDS = frozenset(
    {"after", "before", "expires", "id", "ids", "limit", "not_before", "request_type", "uuid"}
)
_CODE = frozenset({"compile", "eval", "exec"})


def redacted(source: str) -> str:
    """Put ``…`` in the place of secrets, and the kind and length of what may be one."""
    try:
        finder = _Finder()
        finder.look(ast.parse(source))
        lines = re.split("\r\n|\r|\n", source)
        spans = [each.in_text(lines) for each in finder.found] + list(_comments(source))
        return _replaced(lines, spans)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return _by_words(source)


# -- a line that is Python -------------------------------------------------------


@attrs.frozen
class _Span:
    """A part of the source, by line (from 0) and column, and what takes its place."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str

    def in_text(self, lines: Sequence[str]) -> "_Span":
        """Count characters, where the parser counts bytes of UTF-8."""

        def place(at: tuple[int, int]) -> tuple[int, int]:
            line, column = at
            return line, len(lines[line].encode()[:column].decode())

        return _Span(place(self.start), place(self.end), self.text)


@attrs.define
class _Finder:
    """
    Walks over a line and finds what has to go.

    ``secret`` says that a value is one, ``safe`` that it only names something.
    """

    found: list[_Span] = attrs.field(factory=list)

    def look(self, node: ast.AST, secret: bool = False, safe: bool = False) -> None:
        """Look at a node and all that is in it."""
        if isinstance(node, ast.Constant):
            self._literal(node, node.value, secret, safe)
        elif isinstance(node, ast.JoinedStr):
            self._f_string(node, secret, safe)
        elif isinstance(node, ast.BinOp) and isinstance(folded := _folded(node), str):
            self._literal(node, folded, secret, safe)
        elif isinstance(node, ast.Call):
            self._call(node, secret, safe)
        elif isinstance(node, ast.Dict):
            self._dict(node, secret, safe)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            self._row(node.elts, secret, safe)
        elif isinstance(node, ast.For | ast.AsyncFor):
            self.look(node.iter, secret or _names(node.target), safe)
            for each in (*node.body, *node.orelse):
                self.look(each, secret, safe)
        else:
            named = secret or _names_a_secret(node)
            for child in ast.iter_child_nodes(node):
                self.look(child, named, safe)

    def _literal(self, node: ast.expr, value: object, secret: bool, safe: bool) -> None:
        if value is None or value is ... or isinstance(value, bool):
            return
        if secret:
            self._gone(node, GONE)
        elif not safe and (doubt := _doubtful(value)):
            self._gone(node, doubt)

    def _f_string(self, node: ast.JoinedStr, secret: bool, safe: bool) -> None:
        # As a whole: before Python 3.12 its pieces have no places of their own.
        inside = _Finder()
        text = ""
        for each in node.values:
            if isinstance(each, ast.Constant):
                text += str(each.value)
            else:
                inside.look(each, secret, safe)
        if secret or inside.found or (not safe and looks(text)):
            self._gone(node, GONE)

    def _dict(self, node: ast.Dict, secret: bool, safe: bool) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                self.look(key, False, safe)
            self.look(value, secret or (key is not None and _names(key)), safe)

    def _row(self, elements: Iterable[ast.expr], secret: bool, safe: bool) -> None:
        """What comes after the name of a secret is one: ``("PIN", "123456")``."""
        for each in elements:
            self.look(each, secret, safe)
            secret = secret or _is_name(each)

    def _call(self, node: ast.Call, secret: bool, safe: bool) -> None:
        name = _path(node.func)
        self.look(node.func, secret, safe)
        if name in _HARMLESS or name.endswith(".cancel"):
            secret, safe = False, True
        elif is_verb(name.rpartition(".")[2]):
            secret = True
        if name in _CODE and any(map(_is_secretive_code, node.args)):
            secret = True
        self._row(node.args, secret, safe)
        for keyword in node.keywords:
            self._keyword(keyword, secret, safe)

    def _keyword(self, keyword: ast.keyword, secret: bool, safe: bool) -> None:
        name = keyword.arg or ""
        if name in _HARMLESS_KEYWORDS:
            self.look(keyword.value, False, True)
        elif name in ("key", "keys") and isinstance(keyword.value, ast.Dict | ast.Lambda):
            self.look(keyword.value, secret, safe)  # a command's keys; what to sort by
        else:
            self.look(keyword.value, secret or sounds(name), safe)

    def _gone(self, node: ast.expr, text: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = node.lineno - 1, node.col_offset
        self.found.append(_Span(start, (node.end_lineno - 1, node.end_col_offset), text))


def _doubtful(value: object) -> str:
    """Give kind and length of a literal that may be a secret, "" if it is none."""
    if isinstance(value, str):
        return f"<text of {len(value)}>" if looks(value) else ""
    if isinstance(value, bytes):
        return f"<bytes of {len(value)}>" if looks(value.decode("latin-1")) else ""
    if isinstance(value, int | float) and abs(value) >= 10**_MOST_DIGITS:
        return "<number>"
    return ""


def _folded(node: ast.expr) -> object:
    """Add literals that are added: ``"123" + "456"``."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _folded(node.left), _folded(node.right)
        if isinstance(left, str) and isinstance(right, str):
            return left + right
    return None


def _path(node: ast.expr) -> str:
    """Spell what is called: ``devices.one``, or what is left of it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_path(node.value)}.{node.attr}"
    return ""


def _names_a_secret(node: ast.AST) -> bool:
    """Say whether a statement, or a part of one, gives its values to the name of a secret."""
    if isinstance(node, ast.Assign):
        return any(map(_names, node.targets))
    if isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr | ast.comprehension):
        return _names(node.target)
    if isinstance(node, ast.withitem):
        return node.optional_vars is not None and _names(node.optional_vars)
    if isinstance(node, ast.Compare):
        return any(_names(each) for each in (node.left, *node.comparators) if not _is_name(each))
    if isinstance(node, ast.Match):
        return _names(node.subject)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return is_verb(node.name)
    if isinstance(node, ast.arguments):
        every = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        return any(sounds(each.arg) for each in every)
    return False


def _names(node: ast.AST) -> bool:
    """Say whether somewhere in here is the name of a secret."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and sounds(each.id):
            return True
        if isinstance(each, ast.Attribute) and sounds(each.attr):
            return True
        if _is_name(each):
            return True
    return False


def _is_name(node: ast.AST) -> bool:
    """Say whether this is a text, or a list of texts, that names a secret."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return any(map(_is_name, node.elts))
    if not isinstance(node, ast.Constant):
        return False
    text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
    return isinstance(text, str) and names_one(text)


def _is_secretive_code(node: ast.expr) -> bool:
    code = node.value if isinstance(node, ast.Constant) else None
    return isinstance(code, str) and redacted(code) != code


def _comments(source: str) -> Iterable[_Span]:
    for token in tokenize.generate_tokens(io.StringIO(source, newline=None).readline):
        if token.type == tokenize.COMMENT and looks(token.string[1:]):
            (line, start), (_, end) = token.start, token.end
            yield _Span((line - 1, start), (line - 1, end), f"# {GONE}")


def _replaced(lines: list[str], spans: Iterable[_Span]) -> str:
    """Put what takes the place of each; of those inside one another only the outer counts."""
    out: list[str] = []
    done = (0, 0)
    for span in sorted(spans, key=lambda each: (each.start, [-n for n in each.end])):
        if span.start >= done:
            out += [_between(lines, done, span.start), span.text]
            done = span.end
    end = len(lines) - 1, len(lines[-1])
    return "".join([*out, _between(lines, done, end)])


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0]][start[1] : end[1]]
    inner = lines[start[0] + 1 : end[0]]
    return "\n".join([lines[start[0]][start[1] :], *inner, lines[end[0]][: end[1]]])


# -- a line that is not ------------------------------------------------------------

_TEXT = re.compile(
    r"""[rRbBfFuU]{0,2}(?:
        \"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z) | '''(?:[^\\]|\\.)*?(?:'''|\Z)
        | "(?:[^"\\\n]|\\.)*(?:"|$) | '(?:[^'\\\n]|\\.)*(?:'|$)
    ) | \#.*$""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_NAME = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"\d{4,}")


def _by_words(source: str) -> str:
    """
    Keep the words up to the first that sounds like a secret or a verb for one.

    No texts, no comments, no long numbers, no words that nobody would say.
    """
    # In texts, too: {"PIN": 123456
    first = next((each for each in _NAME.finditer(source) if is_verb(each[0])), None)
    kept = source if first is None else source[: first.end()]
    words = re.split(r"(\s+)", _TEXT.sub(GONE, kept))
    plain = "".join(GONE if is_odd(each) else _NUMBER.sub(GONE, each) for each in words)
    return plain if first is None else f"{plain} {GONE}"
