"""Tab: verbs, options, ids and serial numbers of the daemon, RequestTypes and their keys."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.bash_line import read
from mdmd.cli.completion import FILE, candidates
from mdmd.cli.main import make_parser
from tests.opshelp import MAC, scratch
from tests.test_mdmctl import MDMCTL, CommandLine

QUOTES = ("", "'", '"')
# C-x l says what is on the line, when all that was typed before has been done.
BASHRC = """\
PS1='ready> '
bind 'set enable-bracketed-paste off'
bind -x '"\\C-xl": printf "<<%s>>" "$READLINE_LINE"'
source <(mdmctl completion bash)
"""


class BashTerminal:
    """
    bash, as somebody sits there and types.

    :param folder: where it is; what it begins with is beside it.
    :param programs: the folder with mdmctl.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._child, self._master = pty.fork()
        if self._child == 0:
            os.chdir(folder)
            path = f"{programs}:{os.environ['PATH']}"
            environment = {"PATH": path, "TERM": "dumb", "LC_ALL": "C.UTF-8"}
            os.execve(shutil.which("bash") or "", ["bash", "--rcfile", "../bashrc"], environment)
        self._seen = ""
        self._expect("ready> ")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        os.close(self._master)

    def tab(self, typed: str) -> str:
        """Type something and Tab; give what is on the line then."""
        os.write(self._master, f"{typed}\t\x18l\x15".encode())
        return self._expect("<<(mdmctl .*?)>>")[1]

    def _expect(self, pattern: str) -> "re.Match[str]":
        end = time.monotonic() + 60
        while (found := re.search(pattern, self._seen)) is None:
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(self._seen)
            self._seen += os.read(self._master, 65536).decode()
        self._seen = self._seen[found.end() :]
        return found


class CandidatesTests(SynchronousTestCase):
    """What may come next, without a shell and without a daemon."""

    def setUp(self) -> None:
        self.asked: list[str] = []

    def after(self, *words: str) -> list[str]:
        """The candidates for the last word."""

        def ids(begun: str) -> list[str]:
            self.asked.append(begun)
            return [each for each in ("C02AAA", "C02BBB", "F2L") if each.startswith(begun)]

        return candidates(make_parser(), list(words), ids, lambda: ("DeviceInformation", "News"))

    def test_verbs_and_options(self) -> None:
        """At the beginning the verbs, after a dash the options of the verb."""
        self.assertIn("devices", self.after("dev"))
        self.assertEqual(self.after("wat"), ["watch"])
        self.assertIn("add", self.after("operator", ""))
        self.assertIn("--wait", self.after("send", "--w"))
        self.assertEqual(self.after("operator", "add", "x", "--role", "op"), ["operator"])
        self.assertEqual(self.asked, [])

    def test_ids(self) -> None:
        """Where an ID goes, also the second one after a comma; an option's value is none."""
        self.assertEqual(self.after("device", "C02"), ["C02AAA", "C02BBB"])
        self.assertEqual(self.after("results", ""), ["C02AAA", "C02BBB", "F2L"])
        self.assertEqual(self.after("send", "F2L,C02A"), ["F2L,C02AAA"])
        self.assertEqual(self.after("queue", "--cancel", "x", "F"), ["F2L"])

    def test_request_types_and_keys(self) -> None:
        """After the ids a RequestType, after that its keys."""
        self.assertEqual(self.after("send", "F2L", "DeviceInf"), ["DeviceInformation"])
        self.assertEqual(self.after("send", "F2L", "N"), ["News"])  # only the daemon knows it
        self.assertEqual(self.after("send", "F2L", "DeviceInformation", "Que"), ["Queries="])
        self.assertEqual(self.after("send", "F2L", "NoSuchThing", "Que"), [])

    def test_files(self) -> None:
        """Only where a file's name goes: the shell is told so, and nowhere else."""
        for words in (
            ("install-profile", "wi"),
            ("remove-profile", ""),
            ("operator", "key", "anna", "~/.ssh/"),
            ("import", "/"),
            ("--config", ""),
            ("sim", "apns", "--dir", "x"),
            ("profile", "sign", "x", "--key", ""),
            ("send", "F2L", "--plist", "x"),
            ("send", "F2L", "--plist=x"),
            ("export", "--recipient", "k"),
        ):
            self.assertEqual(self.after(*words), [FILE], words)
        for words in (
            ("device", "nobody"),
            ("nosuchverb", "x"),
            ("watch", "x"),
            ("devices", "--limit", ""),
            ("send", "F2L", "InstallProfile", "Payload"),
            ("send", "F2L", "InstallProfile", "Payload=x"),
            ("send", "F2L", "DeviceLock", "Message=@@x"),
            ("send", "--where", "os"),
            ("send", "--wait=x"),
            ("send", "--nosuch=x"),
            ("operator", "certificate", "anna", ""),
        ):
            self.assertNotIn(FILE, self.after(*words), words)
        self.assertEqual(self.after("send", "--priority=back"), ["--priority=background"])

    def test_what_is_in_a_file(self) -> None:
        """A key's value that is read from one: hidden files if they are asked for."""
        folder = scratch()
        self.addCleanup(shutil.rmtree, folder)
        for name in ("wifi.mobileconfig", "wired", ".hidden"):
            (folder / name).write_text("")
        (folder / "work").mkdir()
        for begun, found in (
            ("wi", ["wifi.mobileconfig", "wired"]),
            ("", ["wifi.mobileconfig", "wired", "work/"]),
            (".h", [".hidden"]),
            ("wo", ["work/"]),
            ("nowhere/", []),
        ):
            self.assertEqual(
                self.after("send", "F2L", "InstallProfile", f"Payload=@{folder}/{begun}"),
                [f"Payload=@{folder}/{each}" for each in found],
            )


class ShellTests(CommandLine):
    """Real shells against a real daemon."""

    def test_the_hidden_verb(self) -> None:
        """What the shells ask; the daemon's ids come, and no daemon is no error."""
        done = self.mdmctl("complete", "--", "device", "C0")
        self.assertEqual(done.stdout, "C02XL0THJGH5\n")

    def shell(self, shell: str, script: str) -> str:
        """Run a script in a shell that knows mdmctl; give what it prints."""
        if not shutil.which(shell):
            raise SkipTest(f"needs {shell}")
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "mdmctl"
        program.write_text(f'#!/bin/sh\nexec {" ".join(MDMCTL)} --state {self.folder} "$@"\n')
        program.chmod(0o755)
        done = subprocess.run(
            [shell, "-c", f'export PATH="{folder}:$PATH"\n{script}'],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout

    def test_bash(self) -> None:
        """Its function fills COMPREPLY."""
        told = self.shell(
            "bash",
            "source <(mdmctl completion bash)\nCOMP_LINE='mdmctl device M'\nCOMP_POINT=15\n"
            'complete -p mdmctl\n_mdmctl\necho "${COMPREPLY[@]}"\n',
        )
        self.assertIn("-F _mdmctl mdmctl", told)
        self.assertEqual(told.splitlines()[-1], MAC)

    def test_bash_with_a_terminal(self) -> None:
        """Tab puts a file's name in where one goes, and nowhere else; ids as ever."""
        self.shell("bash", "")  # makes the program
        folder = self.folder / "for bash"
        folder.mkdir()
        (folder / "only one.mobileconfig").write_text("")
        (self.folder / "bashrc").write_text(BASHRC)
        with BashTerminal(folder, self.folder / "bin") as bash:
            for typed, line in (
                ("mdmctl device C0", "mdmctl device C02XL0THJGH5 "),
                ("mdmctl device on", "mdmctl device on"),
                ("mdmctl operator certificate anna ", "mdmctl operator certificate anna "),
                ("mdmctl watch on", "mdmctl watch on"),
                ("mdmctl install-profile on", "mdmctl install-profile only\\ one.mobileconfig "),
                ("mdmctl send C0 --plist=on", "mdmctl send C0 --plist=only\\ one.mobileconfig "),
                (
                    "mdmctl send C0 InstallProfile Payload=@on",
                    "mdmctl send C0 InstallProfile Payload=@only\\ one.mobileconfig ",
                ),
                ("mdmctl send C0 InstallProfile Pay", "mdmctl send C0 InstallProfile Payload="),
            ):
                self.assertEqual(bash.tab(typed), line)

    def test_fish(self) -> None:
        """fish says itself what it would complete."""
        told = self.shell("fish", "mdmctl completion fish | source\ncomplete -C 'mdmctl device C0'")
        self.assertIn("C02XL0THJGH5", told)

    def test_fish_and_files(self) -> None:
        """The same in fish."""
        folder = self.folder / "for fish"
        folder.mkdir()
        (folder / "onlyone.mobileconfig").write_text("")
        script = (
            f"cd '{folder}'\nmdmctl completion fish | source\n"
            "for line in 'device on' 'install-profile on' 'send C0 --plist=on' "
            "'send C0 InstallProfile Payload=@on'\n"
            '    echo (complete -C "mdmctl $line" | string split -f1 \\t)\nend'
        )
        self.assertEqual(
            self.shell("fish", script).splitlines(),
            [
                "",
                "onlyone.mobileconfig",
                "--plist=onlyone.mobileconfig",
                "Payload=@onlyone.mobileconfig",
            ],
        )

    def test_zsh_and_files(self) -> None:
        """zsh's own completion of files is asked where one goes, without what stands before it."""
        script = (
            "autoload -Uz compinit; compinit -u -D\nsource <(mdmctl completion zsh)\n"
            '_files() { print -r -- files }\ncompset() { print -r -- "$@"; }\n'
            'compadd() { print -r -- "$@" ${(P)${@[-1]}}; }\n'
            "words=(mdmctl device on); CURRENT=3; _mdmctl; print -r -- $?\n"
            "words=(mdmctl install-profile on); CURRENT=3; _mdmctl\n"
        )
        told = self.shell("zsh", script).splitlines()
        self.assertEqual(told, ["1", "-P --*=", "files"])

    def test_zsh(self) -> None:
        """zsh can load it; compadd gets what the daemon knows."""
        told = self.shell(
            "zsh",
            "autoload -Uz compinit; compinit -u -D\nsource <(mdmctl completion zsh)\n"
            'compadd() { print -r -- "$@" ${(P)${@[-1]}}; }\n'
            "words=(mdmctl device C0); CURRENT=3\n_mdmctl\n",
        )
        self.assertIn("C02XL0THJGH5", told)


class BashLineTests(SynchronousTestCase):
    """A line as bash has it, with all that bash does to words."""

    BREAKS = " \t\n\"'@><=;|&(:"

    def tab(self, line: str, candidate: str) -> str:
        """What stands on the line when bash has put the candidate in."""
        found = read(line, self.BREAKS)
        return self.replaced(line, found.spelled(candidate))

    def replaced(self, line: str, spelled: str) -> str:
        """Put it in where readline does: behind the open quote, or the last break that counts."""
        quote = read(line, self.BREAKS).quote
        if quote:
            return line[: line.rindex(quote) + 1] + spelled + quote
        breaks = [at for at in range(len(line)) if self.is_break(line, at)]
        start = max((at + (line[at] != "@") for at in breaks), default=0)  # that one stays
        return line[:start] + spelled

    def is_break(self, line: str, at: int) -> bool:
        return line[at] in self.BREAKS and line[at - 1] != "\\"

    def test_words(self) -> None:
        """Without their quotes, and not cut at colons."""
        for line, words in (
            ("mdmctl ", ["mdmctl", ""]),
            ("mdmctl  device ABCD:us", ["mdmctl", "device", "ABCD:us"]),
            ("mdmctl device A:anna\\ b", ["mdmctl", "device", "A:anna b"]),
            ("mdmctl device 'A:anna b", ["mdmctl", "device", "A:anna b"]),
            ("mdmctl device \"A:o'n", ["mdmctl", "device", "A:o'n"]),
            ('mdmctl device "A\\$b\\c', ["mdmctl", "device", "A$b\\c"]),
            ("mdmctl note '' x", ["mdmctl", "note", "", "x"]),
            ("mdmctl send A Info Quer=", ["mdmctl", "send", "A", "Info", "Quer="]),
        ):
            self.assertEqual(read(line, self.BREAKS).words, words, line)

    def test_what_is_put_in(self) -> None:
        """Whatever is in an id, however it was begun: bash reads the id, and runs nothing."""
        names = ("anna b", "o'neil", 'we"ird', "$(touch x)", "a*", "`x`", "a\\b", "x;y&z|q", "ü#")
        lines, ids = [], []
        for id in (
            "ABCD-1234",
            "ABCD:user-1",
            "ABCD:anna@example.org",
            *(f"S:{name}" for name in names),
        ):
            for size in range(len(id)):
                if set(id[:size]) & set("'\"\\$`*;&|#() "):
                    break  # nobody types it so
                lines += [self.tab(f"mdmctl device {quote}{id[:size]}", id) for quote in QUOTES]
                ids += [id] * 3
        shown = "mdmctl() { printf '%s\\n' \"$2\"; }\n"
        bash = shutil.which("bash")
        if bash is None:
            raise SkipTest("needs bash")
        script = shown + "\n".join(lines)
        done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.splitlines(), ids)

    def test_a_word_with_a_blank_goes_on(self) -> None:
        """What was put in can be completed further."""
        self.assertEqual(
            self.tab("mdmctl device S:anna\\ ", "S:anna b"), "mdmctl device S:anna\\ b"
        )
