"""
What stands in README.md, docs/ and beside them is so: blocks, verbs, options, links.

Each block is of a kind that a test tries; those with commands (``console``) are run by
``tests/test_docs_run.py``. A block of any other kind, or none, is a mistake.
"""

import argparse
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.main import make_parser
from mdmd.config import OPTIONS, parse
from mdmd.flow import where
from mdmd.mdm.catalogue.blueprint import read_blueprints
from tests.docshelp import (
    CHECKOUT,
    DOCUMENTS,
    Block,
    blocks,
    console,
    first_cells,
    tokens,
    words_in_code,
)
from tests.docsplay import INSTEAD

# What begins a line that somebody is to type.
PROGRAMS = re.compile(
    r"(\$ |# )?(sudo |\w+=\S+ )*(\S*/)?(mdmctl|twistd|curl|ssh|scp|systemctl|systemd-\S+"
    r"|journalctl|make|pip3?|python3?|openssl|age|age-keygen|docker|certbot|apt|apt-get|install|ln|cp|echo|git|redis-cli"
    r"|valkey-cli|promtool|scepclient|getcert|mysqldump|pg_dump|useradd|chown|chmod)\b( |$)"
)
# Options that are not mdmctl's, and whose they are.
OTHERS = {
    "--cacert": "curl",
    "--check": "twistd mdmd",
    "--deploy-hook": "certbot",
    "--inserts": "pg_dump",
    "--kill-whom": "systemctl",
    "--strict": "pip-audit",
}
# Named in a text, and not run as they stand there; whatever else is named has to be run somewhere.
NAMED = {
    "age -d": "tests/test_age.py opens what mdmctl sealed with it",
    "age -d -i key.pem": "tests/test_age.py",
    "getcert add-scep-ca -N": "tests/test_scep_real.py runs it, with all that it needs",
    "journalctl -u mdmd": "the journal is systemd's",
    "make bench": "minutes of a quiet machine",
    "make faults": "the same tests run for a shorter time",
    "make fuzz": "downloads atheris; the same targets run with hypothesis",
    "make test TESTS=tests/test_plist.py": "run with another test",
    "mysqldump nanomdm": "what comes out of it is read by tests/test_moving.py",
    "pg_dump nanomdm": "the same",
    "pip install 'mdmd[import]'": "downloads the drivers of databases",
    "pip install --require-hashes": "make does it for .venv",
    "python -m mdmd.config": "MadeTests runs it",
    "python -m mdmd.config markdown": "MadeTests runs it",
    "systemctl edit mdmd": "opens an editor on a file of systemd's",
    "systemctl kill": "what not to do",
    "systemd-analyze security": "run with options",
    "twistd mdmd": "how the server is called",
    "twistd mdmd --check": "run with --config",
    "twistd mdmd --config FILE --check": "run with a real file",
}
# What stands for something else in a command line.
PLACES = {"VERB": "devices", "N": "1", "S": "1", "…": "X", "SHA256": "ab" * 32}


class Told(Exception):
    """What the argument parser has to say."""


def every_parser(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it, which from now on raise instead of exiting."""

    def error(message: str) -> NoReturn:
        raise Told(message)

    parser.error = error  # type: ignore[method-assign]
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in dict.fromkeys(action.choices.values()):
                yield from every_parser(each)


class CommandLines:
    """mdmctl's own argument parser, asked whether it knows what a document says."""

    def __init__(self) -> None:
        self._parser = make_parser()
        self.options = {
            option for each in every_parser(self._parser) for option in each._option_string_actions
        }

    def trouble(self, line: str) -> str:
        """
        What is wrong with a command line, "" if nothing.

        A mention may leave out what has to be given. Brackets hold what may be given, bars
        what to choose from.
        """
        line, optional = re.sub(r"\[[^]]*\]", "", line), re.findall(r"\[([^]]*)\]", line)
        words = [PLACES.get(each, each) for each in shlex.split(line)]
        for chosen in itertools.product(*(each.split("|") for each in words)):
            try:
                self._parser.parse_args([each for each in chosen if each != "--help"])
            except Told as told:
                if not str(told).startswith("the following arguments are required"):
                    return f"{line}: {told}"
        of_all = " ".join(optional).split()
        return next((f"{line}: no {each}" for each in of_all if not self._takes(words, each)), "")

    def _takes(self, words: list[str], option: str) -> bool:
        """Whether a verb has an option."""
        if not option.startswith("--"):
            return True
        parser: Any = self._parser
        for word in words:
            below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
            parser = below[0].choices.get(word, parser) if below else parser
        return option in parser._option_string_actions


class BlockTests(SynchronousTestCase):
    """Every block is tried, as what it says that it is."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_every_block_is_tried(self) -> None:
        """Console blocks are run elsewhere; the others are read here by what reads them."""
        for document in DOCUMENTS:
            for block in blocks(document):
                self.assertIn(
                    block.language,
                    ("console", "ini", "toml", "yaml", "python", "text"),
                    f"{block}: a block that no test tries; commands are ```console with a $",
                )
                getattr(self, f"try_{block.language}")(block)

    def test_no_commands_in_html(self) -> None:
        """Nothing is shown in the midst of a text in a way that no test looks at."""
        for document in DOCUMENTS:
            made = [
                child.content
                for each in tokens(document)
                for child in each.children or ()
                if child.type == "html_inline"
            ]
            self.assertEqual(made, [], f"{document}: write it between backticks")

    def test_kinds_of_blocks(self) -> None:
        """None is overlooked: with tildes, in a list, indented, without a name, in HTML."""
        text = (
            "~~~sh\na\n~~~\n- b\n\n  ```bash\n  c\n  ```\n\ntext\n\n    d\n\n"
            "```\ne\n```\n\n<pre>\nf\n</pre>\n"
        )
        path = self.folder / "made-up.md"
        path.write_text(text)
        found = [(each.language, each.line) for each in blocks(path)]
        self.assertEqual(found, [("sh", 1), ("bash", 6), ("", 12), ("", 14), ("html", 18)])

    def try_console(self, block: Block) -> None:
        """A command at least; tests/test_docs_run.py runs it."""
        self.assertTrue(block.steps, str(block))

    def try_ini(self, block: Block) -> None:
        """The configuration's own reader takes it."""
        needed = (
            "" if "public_url" in block.text else "[mdmd]\npublic_url = https://mdm.example.org\n"
        )
        parse(needed + block.text, str(block))

    def try_toml(self, block: Block) -> None:
        """Blueprints."""
        path = self.folder / "blueprints.toml"
        path.write_text(block.text)
        (self.folder / "wifi.mobileconfig").write_bytes(b"<plist/>")
        self.assertTrue(read_blueprints(path), str(block))

    def try_yaml(self, block: Block) -> None:
        """Prometheus' configuration: its own program takes it, with our rules."""
        self.assertIn("scrape_configs", yaml.safe_load(block.text), str(block))
        promtool = shutil.which("promtool")
        if promtool is None:
            return
        key, config = self.folder / "mdmd.key", self.folder / "prometheus.yml"
        key.write_text("key")
        config.write_text(block.text.replace("/etc/prometheus/mdmd.key", str(key)))
        shutil.copy(CHECKOUT / "monitoring" / "alerts.yml", self.folder / "mdmd-alerts.yml")
        ran = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

    def try_python(self, block: Block) -> None:
        """A program for Perspective Broker; tests/test_docs_run.py runs it."""
        self.assertEqual(block.document, Path("docs/pb.md"), str(block))

    def try_text(self, block: Block) -> None:
        """Nothing that is to be typed."""
        for line in block.text.splitlines():
            told = f"{block}: {line}"
            self.assertIsNone(PROGRAMS.match(line.strip()), told)
            self.assertNotRegex(line, r"^\s*[$#%>] ", f"{told}: that is how a prompt looks")

    def test_expressions(self) -> None:
        """Those of docs/targets.md are expressions."""
        (block,) = (each for each in blocks(Path("docs/targets.md")) if each.language == "text")
        for line in block.text.splitlines():
            where.parse(line)


class MentionTests(SynchronousTestCase):
    """What the text itself names is there."""

    def setUp(self) -> None:
        self.lines = CommandLines()

    def test_command_lines(self) -> None:
        """Each `mdmctl …` is one that mdmctl understands, each `--option` one that it has."""
        found = 0
        for document in DOCUMENTS:
            for code in words_in_code(document):
                for line in re.findall(r"mdmctl ([^)]*)", code.partition(" | ")[0]):
                    self.assertEqual(self.lines.trouble(line), "", f"{document}: {code}")
                    found += 1
                if code.startswith("--"):
                    option = re.split(r"[ =]", code)[0]
                    self.assertIn(option, self.lines.options | set(OTHERS), f"{document}: {code}")
        self.assertGreater(found, 80)

    def test_other_command_lines(self) -> None:
        """Each that is no mdmctl's is run in some block, or it is listed why not."""
        typed = {
            part.strip()
            for name in DOCUMENTS
            for block in console(name)
            for step in block.steps
            for part in (step.command, *re.split(r"&&|\\|\\|", step.command))
        }
        found = set()
        for document in DOCUMENTS:
            for code in words_in_code(document):
                line = code.removeprefix("$ ")
                match = PROGRAMS.match(line)
                if match and match[4] != "mdmctl" and " " in line:
                    found.add(line)
                    known = (
                        line in NAMED
                        or line in typed
                        or line in {instead for instead, _ in INSTEAD.values()}
                    )
                    self.assertTrue(known, f"{document}: {code}")
        self.assertLessEqual(set(NAMED), found)

    def test_trouble_is_seen(self) -> None:
        """What is no verb, no option, or no choice is."""
        for line in (
            "enrol",
            "profile enrol",
            "devices --wait",
            "send ID --pirority",
            "completion csh",
            "lost-mode on|of ID",
            "lock ID [--pin --msg]",
        ):
            self.assertNotEqual(self.lines.trouble(line), "", line)

    def test_table_of_verbs(self) -> None:
        """Each line of it is a verb with the options that it has."""
        found = [each for name in DOCUMENTS for each in first_cells(name, "verb")]
        self.assertGreater(len(found), 8)
        for each in found:
            self.assertEqual(self.lines.trouble(each.replace("\\|", "|")), "", each)

    def test_program_texts(self) -> None:
        """The daemon and mdmctl themselves name no verb that is not there."""
        found = 0
        for path in sorted(CHECKOUT.glob("mdmd/**/*.py")):
            for verb in re.findall(r"[`\":,] ?mdmctl ([a-z-]+)", path.read_text()):
                self.assertEqual(self.lines.trouble(verb), "", f"{path}: mdmctl {verb}")
                found += 1
        self.assertGreater(found, 30)

    def test_files_beside_the_documents(self) -> None:
        """Units, man pages and samples have no command that the documents do not have, too."""
        typed = {
            part.strip()
            for name in DOCUMENTS
            for block in console(name)
            for step in block.steps
            for part in (step.command, *step.command.split("&&"))
        }
        command = re.compile(r"^# +(?:.*; then: |.*, then: )?(system(?:ctl|d-)\S* .*|mdmctl .*)$")
        for place in ("systemd/**/*.*", "man/*", "etc/*", "monitoring/*"):
            for path in CHECKOUT.glob(place):
                text = path.read_text() if path.is_file() else ""
                self.assertNotRegex(text, r"(?m)^\.(nf|EX)", f"{path}: an example nobody runs")
                for line in text.splitlines():
                    match = command.match(line)
                    if match:
                        self.assertIn(match[1], typed, str(path))

    def test_options_of_the_configuration(self) -> None:
        """`[section] option` is there."""
        known = {each.section: set[str]() for each in OPTIONS}
        for each in OPTIONS:
            known[each.section].add(each.key)
        for document in DOCUMENTS:
            for code in words_in_code(document):
                match = re.match(r"\[([a-z]+)(?: [a-zA-Z]+)?\](?: ([a-z_]+))?", code)
                if match:
                    self.assertIn(match[1], known, f"{document}: {code}")
                    self.assertIn(match[2] or "", known[match[1]] | {""}, f"{document}: {code}")

    def test_links(self) -> None:
        """Each link to a file leads to one."""
        for document in DOCUMENTS:
            text = (CHECKOUT / document).read_text()
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
                if "://" not in target:
                    place = (CHECKOUT / document).parent / target
                    self.assertTrue(place.exists(), f"{document} → {target}")


class MadeTests(SynchronousTestCase):
    """What is made from the code is as the code is."""

    def made(self, path: str, *module: str) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", *module], capture_output=True, text=True, check=True
        )
        self.assertEqual(
            (CHECKOUT / path).read_text(), ran.stdout, f"python -m {' '.join(module)} > {path}"
        )

    def test_configuration(self) -> None:
        """etc/mdmd.conf and docs/configuration.md have every option."""
        self.made("etc/mdmd.conf", "mdmd.config")
        self.made("docs/configuration.md", "mdmd.config", "markdown")

    def test_manual(self) -> None:
        """man/mdmctl.1 has every verb."""
        self.made("man/mdmctl.1", "mdmd.cli.manual")

    def test_pages_are_pages(self) -> None:
        """man itself has nothing to say against them."""
        if not shutil.which("man") or not shutil.which("groff"):
            self.skipTest("man or groff is not installed")
        for page in (CHECKOUT / "man").iterdir():
            ran = subprocess.run(
                ["man", "--warnings", "-l", "-Tutf8", "-P", "cat", str(page)],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual((ran.returncode, ran.stderr), (0, ""), page)
