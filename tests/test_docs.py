"""
Every command in README.md and docs/ does what the text around it says.

Blocks marked ``console`` are run, one document after the other in its own
folder, against a real daemon; those that can't be are listed with the reason.
"""

import contextlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mdmd.sim.standin import make_push_certificate
from tests.daemonhelp import BIN, TOPIC, HandDevice, RunningDaemon

CHECKOUT = Path(__file__).parent.parent
DOCUMENTS = [
    *map(Path, ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(p.relative_to(CHECKOUT) for p in CHECKOUT.glob("docs/**/*.md")),
]

BY_HAND = Path("docs/by-hand.md")
UDID = "50233a56cbec8492c0967c10ff4dbf887d864858"
SERIAL = "C02XL0THJGH5"

# By the beginning of a command: why it is not run here.
NOT_RUN = {
    "make demo": "tests/test_demo.py runs what it runs; make itself would replace the tests' venv",
    "/opt/mdmd/bin/twistd -n": "runs until it is ended; it is what these tests start",
    "install -Dm644": "writes into /etc; tests/test_systemd.py holds the files against systemd",
    "ln -s /opt/mdmd/bin": "writes into /usr/local",
    "systemctl daemon-reload": "no systemd runs where the tests do",
    "/tmp/audit/bin/pip-audit": "needs the network",
    "python3 -m venv /tmp/audit": "needs the network",
    "/opt/mdmd/bin/pip install": "needs the network",
    "make lint": "as make test",
    "mdmctl --server": "tests/test_operating.py does, with a daemon that listens with TLS",
    "make test": "this is what runs the tests",
    "python3 -m venv /opt/mdmd": "needs the network; .ci/run installs in a fresh venv",
}
# Tools that a block needs, by a word in it.
TOOLS = ("scepclient", "ssh", "jq", "docker", "systemctl", "nginx")

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """The commands of one block, and the lines that stand there as their output."""

    document: Path
    text: str

    @property
    def commands(self) -> list[str]:
        """Commands, with their continuation lines."""
        found: list[str] = []
        continued = False
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif continued:
                found[-1] += "\n" + line
            continued = (line.startswith("$ ") or continued) and line.endswith("\\")
        return found

    @property
    def runnable(self) -> list[str]:
        """Those that can be run here."""
        return [each for each in self.commands if not reason(each)]

    @property
    def missing(self) -> str:
        """A tool that it needs and that is not installed."""
        words = set(re.findall(r"\w+", self.text))
        return next((tool for tool in TOOLS if tool in words and not shutil.which(tool)), "")


def reason(command: str) -> str:
    """Why a command is not run, "" if it is."""
    # The whole of it: with --offline it is run.
    if command == "mdmctl doctor":
        return "asks Apple's push service"
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), "")


def blocks(document: Path) -> list[Block]:
    text = (CHECKOUT / document).read_text()
    return [Block(document, match[1]) for match in _BLOCK.finditer(text)]


class ReadTests(SynchronousTestCase):
    def test_every_block_has_a_command(self) -> None:
        """A block without a ``$`` is not a console block."""
        for document in DOCUMENTS:
            for block in blocks(document):
                self.assertTrue(block.commands, f"{document}: {block.text}")

    def test_reasons_are_used(self) -> None:
        """No reason for a block that is gone."""
        found = [each for name in DOCUMENTS for block in blocks(name) for each in block.commands]
        for start in NOT_RUN:
            self.assertTrue(any(each.startswith(start) for each in found), start)

    def test_links(self) -> None:
        """Each link to a file leads to one."""
        for document in DOCUMENTS:
            text = (CHECKOUT / document).read_text()
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
                if "://" not in target:
                    place = (CHECKOUT / document).parent / target
                    self.assertTrue(place.exists(), f"{document} → {target}")


class Living:
    """A device in a thread that connects again and again, and answers whatever it is asked."""

    def __init__(self, device: HandDevice) -> None:
        self._device = device
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        while not self._end.wait(0.1):
            # While the server is stopped for a backup it simply comes again.
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._come()

    def _come(self) -> None:
        _, uuid, _ = self._device.connect()
        while uuid:
            _, uuid, _ = self._device.connect("Acknowledged", uuid, QueryResponses={})

    def close(self) -> None:
        self._end.set()
        self._thread.join()


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


class DocumentTests(SynchronousTestCase):
    """One daemon for each document, as the reader has it by then."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="docs-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("docs", "etc", "systemd", "README.md"):
            (self.folder / name).symlink_to(CHECKOUT / name)
        self.daemon = RunningDaemon(options={"scep": "scep_legacy = yes"})
        self.addCleanup(self.daemon.close)
        if shutil.which("ssh"):
            self.let_ssh_in()
        self.daemon.start()
        (self.folder / "push.pem").write_bytes(make_push_certificate(TOPIC))
        shutil.copy(self.folder / "push.pem", self.folder / "push.key")

    def let_ssh_in(self) -> None:
        """What the reader's ~/.ssh has: a key that is let in, and a host that is known."""
        key, tool = self.folder / "id_ed25519", self.folder / "bin" / "ssh"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with (self.daemon.state / "manhole" / "authorized_keys").open("a") as keys:
            keys.write(key.with_suffix(".pub").read_text())
        tool.parent.mkdir()
        tool.write_text(
            f"#!/bin/sh\nexec {shutil.which('ssh')} -i {key} -o StrictHostKeyChecking=no "
            '-o UserKnownHostsFile=/dev/null "$@"\n'
        )
        tool.chmod(0o755)
        (self.folder / "nightly.py").write_text("device('C02XL0THJGH5').results\n")

    def enroll(self) -> None:
        """The device that the documents speak of: enrolled, alive, its certificate at hand."""
        device = self.daemon.device(UDID, SerialNumber=SERIAL, DeviceName="By hand")
        device.enroll()
        shutil.copy(device.certificate, self.folder / "device.pem")
        shutil.copy(device.key, self.folder / "device.key")
        self.addCleanup(Living(device).close)

    def spelled(self, command: str) -> str:
        """The same command, for this daemon."""
        for text, here in (
            ("/opt/mdmd/bin/", f"{BIN}/"),
            ("/var/lib/mdmd/mdmd.conf", str(self.daemon.config)),
            ("/var/lib/mdmd", str(self.daemon.state)),
            ("https://mdm.example.org", f"https://localhost:{self.daemon.port}"),
            ("localhost:9000", f"localhost:{self.daemon.api_port}"),
            ("127.0.0.1:9000", f"127.0.0.1:{self.daemon.api_port}"),
            ("-p 2222", f"-p {self.daemon.ssh_port}"),
        ):
            command = command.replace(text, here)
        return command

    def systemctl(self, verb: str) -> str:
        """What systemd would do with the unit."""
        if verb in ("stop", "restart"):
            self.daemon.stop()
        if verb in ("start", "restart"):
            self.daemon.start()
        return ""

    def run_command(self, command: str) -> str:
        ours = re.fullmatch(r"systemctl (stop|start|restart) mdmd", command)
        if ours:
            return self.systemctl(ours[1])
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}",
            "MDMD_CONFIG": str(self.daemon.config),
        }
        ran = subprocess.run(
            ["bash", "-c", self.spelled(command)],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ran.returncode, 0, f"$ {command}\n{ran.stdout}{ran.stderr}")
        return ran.stdout

    def run_document(self, document: Path) -> list[str]:
        """Run all its blocks that can be; what each command printed."""
        printed = []
        for block in blocks(document):
            if block.missing:
                self.skipTest(f"{block.missing} is not installed")
            printed += map(self.run_command, block.runnable)
        return printed

    def test_by_hand(self) -> None:
        """A device's whole life with curl, and what the server refuses."""
        printed = self.run_document(BY_HAND)
        self.assertIn(TOPIC, printed[1])
        self.assertIn("device.pem: OK", printed[4])
        rest = "\n".join(printed)
        self.assertIn("DeviceInformation", rest)
        self.assertIn("403", rest)
        self.assertEqual(len(re.findall(r"^400$", rest, re.MULTILINE)), 2)

    def test_all_others(self) -> None:
        """Every other document, with a device that answers."""
        self.enroll()
        for document in DOCUMENTS:
            if document != BY_HAND and any(block.runnable for block in blocks(document)):
                self.run_document(document)
