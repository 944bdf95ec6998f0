"""The documents as a reader sees them: blocks, commands and what they print, words in code."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
from markdown_it import MarkdownIt
from markdown_it.token import Token

CHECKOUT = Path(__file__).parent.parent
DOCUMENTS = [
    *map(Path, ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(p.relative_to(CHECKOUT) for p in CHECKOUT.glob("docs/**/*.md")),
    *sorted(p.relative_to(CHECKOUT) for p in CHECKOUT.glob("*/README.md")),
]

# What is a block, and its language if it says none.
KINDS = {"fence": "", "code_block": "", "html_block": "html"}
# What a block may need that not every machine has.
TOOLS = ("scepclient", "ssh", "age-keygen", "systemd-analyze")


@attrs.frozen
class Step:
    """
    A command, and what the document shows as its output.

    :ivar command: with its continuation lines.
    :ivar shown: lines; ``…`` in one stands for anything.
    """

    command: str
    shown: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether it is shown how it is refused."""
        return any(line.startswith("mdmctl: ") for line in self.shown)

    def is_shown_truly(self, printed: str) -> bool:
        """Hold what it printed against what is shown; nothing shown says nothing."""
        lines = (
            "(?s:.*)" if line == "…" else re.escape(line).replace("…", ".*") for line in self.shown
        )
        return not self.shown or re.fullmatch("\n".join(lines), printed.strip("\n")) is not None


@attrs.frozen
class Block:
    """A fenced block, or one that is only indented: that has no ``language``."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def steps(self) -> list[Step]:
        """The commands of a ``console`` block."""
        found: list[list[str]] = []
        shown: list[list[str]] = []
        continued = False
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append([line[2:]])
                shown.append([])
            elif not found:
                raise AssertionError(f"{self}: output before a command")
            else:
                (found if continued else shown)[-1].append(line)
            continued = (line.startswith("$ ") or continued) and line.endswith("\\")
        return [Step("\n".join(c), tuple(s)) for c, s in zip(found, shown, strict=True)]

    @property
    def missing(self) -> str:
        """A tool that it needs and that is not installed."""
        words = set(re.findall(r"[\w-]+", self.text))
        return next((tool for tool in TOOLS if tool in words and not shutil.which(tool)), "")

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def tokens(document: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((CHECKOUT / document).read_text())


def blocks(document: Path) -> list[Block]:
    """All blocks of code, whatever they are called, and however they are made."""
    return [
        Block(document, (each.map or [0])[0] + 1, KINDS[each.type] or each.info, each.content)
        for each in tokens(document)
        if each.type in KINDS
    ]


def console(document: Path) -> list[Block]:
    return [each for each in blocks(document) if each.language == "console"]


def words_in_code(document: Path) -> list[str]:
    """What stands between backticks in the text, with single spaces."""
    return [
        " ".join(child.content.split())
        for each in tokens(document)
        for child in each.children or ()
        if child.type == "code_inline"
    ]


def first_cells(document: Path, header: str) -> Iterator[str]:
    """What stands in code style in the first column of the tables where it is called so."""
    column, wanted = 0, False
    for each in tokens(document):
        if each.type in ("table_open", "tr_open"):
            column, wanted = 0, wanted and each.type == "tr_open"
        elif each.type in ("th_close", "td_close"):
            column += 1
        elif each.type == "inline" and column == 0:
            wanted = wanted or each.content == header
            code = [one.content for one in each.children or () if one.type == "code_inline"]
            yield from code if wanted else ()
