"""
A reader who types what a document says.

The blocks of a document are run one after the other in a copy of the checkout, against a real
daemon that pushes through the stand-in for APNs to devices that answer. Paths outside the state
folder are those of a root of our own, and ``systemctl`` is a stub: what systemd would do to the
daemon is done to it. What can't be run is listed with the reason. The tests may run as root, so a
command that runs any other program than those listed, or names a path of the machine, is refused.
"""

import contextlib
import http.client
import os
import plistlib
import re
import shlex
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mdmd.pki.authority import CertificateAuthority
from mdmd.pki.certificates import certificate_pem, key_pem
from mdmd.sim.standin import make_push_certificate
from tests.daemonhelp import BIN, TOPIC, HandDevice, RunningDaemon
from tests.docshelp import CHECKOUT, Step, console
from tests.storehelp import free_port
from tests.test_doctor import ApnsProcess
from tests.test_manhole import Terminal

UDID = "50233a56cbec8492c0967c10ff4dbf887d864858"
SERIAL = "C02XL0THJGH5"
FACTS = {"Model": "Mac15,3", "ProductName": "Mac15,3", "OSVersion": "26.1", "BuildVersion": "25B78"}
IPHONE = {"ProductName": "iPhone16,1", "OSVersion": "26.1", "BuildVersion": "23B85"}

# By the beginning of a command: why it is not run here.
NOT_RUN = {
    "/tmp/audit/bin/pip-audit": "asks a server on the internet",
    "python3 -m venv /tmp/audit": "downloads pip-audit",
}
# What make hands down of its command line, as of: make test VENV=.venv-313
OF_MAKE = frozenset(("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "VENV", "PYTHON", "TESTS", "ARGS"))
# What is run in the place of a command, and why.
INSTEAD = {
    "make demo": ("make demo ARGS=--once", "it stays until Ctrl-C"),
    "make test": ("make test TESTS=tests/test_spelling.py ARGS='-n 0'", "all of them run already"),
    "make lint": ("make -n lint", "takes minutes; .ci/run begins with it"),
}
SECRET = "--passphrase-file passphrase"
SERVICES = {"mdmd", "mdmd.socket", "mdmd@1", "mdmd@2"}
# They would act on the machine itself: what is run is a stub that notes what was asked.
STUBS = ("systemctl", "systemd-sysusers", "systemd-tmpfiles", "chown")
# Any other program may be harmless too, but somebody has to think of it before it runs as root.
# Those that write get paths, and these are looked at.
HARMLESS = {
    *STUBS,
    *("mdmctl", "twistd", "python3", "pip", "make", "curl", "openssl", "scepclient", "ssh"),
    *("age", "age-keygen", "systemd-analyze"),
    *("cat", "echo", "grep", "install", "ln", "rm", "true"),
}
# What of a shell could hide a program or a path.
HIDING = re.compile(r"`|[<>]\(|\$(?!\()|(?<!\S)~")


def reason(command: str) -> str:
    """Why a command is not run, "" if it is."""
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), "")


def harm(command: str, places: Sequence[Path]) -> str:
    """
    Why a command may do harm to the machine, "" if it can't.

    :param places: folders that it may name, with all that is in them.
    """
    hiding = HIDING.search(command)
    if hiding:
        return f"{hiding[0]}: a program or a path may hide behind it"
    within = re.compile(r"\$\(([^()]*)\)")  # commands within the command
    for inner in within.findall(command):
        if told := harm(inner, places):
            return told
    lines = within.sub("_", command).replace("\\\n", " ").replace("\n", " ; ")
    begins = True
    for word in shlex.shlex(lines, posix=True, punctuation_chars=True):
        if set(word) <= set("();<>|&"):
            begins = begins or not set(word) & set("<>")
        elif begins and not re.match(r"\w+=", word):
            if Path(word).name not in HARMLESS:
                return f"{word}: not among the programs that do no harm"
            begins = False
        # As words, behind an option, = and @, and in lists.
        for path in re.findall(r"(?:^|^-\w|[=@:,])(/(?!/)[^=@:,]*)", word):
            if path != "/dev/null" and not any(inside(path, each) for each in places):
                return f"{path}: a path of the machine"
        if re.search(r"(^|[/=@:,])\.\.(/|$)", word):
            return f"{word}: leads out of the folder"
    return ""


def inside(path: str, folder: Path) -> bool:
    """Whether a path is a folder's, or the folder."""
    return Path(path) == folder or folder in Path(path).parents


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
        _, uuid, request_type = self._device.connect()
        while uuid:
            about = {"OSVersion": self._device.facts["OSVersion"]}
            told = {"QueryResponses": about} if request_type == "DeviceInformation" else {}
            _, uuid, request_type = self._device.connect("Acknowledged", uuid, **told)

    def close(self) -> None:
        self._end.set()
        self._thread.join()


class DocumentCase(SynchronousTestCase):
    """One daemon for each document, as the reader has it by then."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="docs-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.other: RunningDaemon | None = None  # the server that an import is for
        self.root, self.tools = self.folder / "root", self.folder / "tools"
        for place in ("usr/local/bin", "opt", "backup", "etc"):
            (self.root / place).mkdir(parents=True)
        self.lay_out()
        self.start()
        self.let_anna_in()

    def lay_out(self) -> None:
        """A checkout, with the reader's own files in it, and the programs that are not run."""
        for path in CHECKOUT.iterdir():
            # What was built is not the reader's.
            if re.fullmatch(r"\..*|build|dist|.*\.egg-info", path.name):
                continue
            # A copy: no command can change the checkout itself.
            if path.is_dir():
                unneeded = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(path, self.folder / path.name, ignore=unneeded)
            else:
                shutil.copy(path, self.folder / path.name)
        # As make would have made it by now.
        (self.folder / ".venv").mkdir()
        for path in BIN.parent.iterdir():
            if not path.name.startswith("."):
                (self.folder / ".venv" / path.name).symlink_to(path)
        (self.folder / "push.pem").write_bytes(make_push_certificate(TOPIC))
        shutil.copy(self.folder / "push.pem", self.folder / "push.key")
        (self.folder / "passphrase").write_text("correct horse battery staple\n")
        profile = {"PayloadIdentifier": "org.example.wifi"}
        (self.folder / "wifi.mobileconfig").write_bytes(plistlib.dumps(profile))
        command = {"CommandUUID": "BY-PLIST", "Command": {"RequestType": "ProfileList"}}
        (self.folder / "command.plist").write_bytes(plistlib.dumps(command))
        (self.folder / "nightly.py").write_text(f"device('{SERIAL}').results\n")
        with zipfile.ZipFile(self.folder / "handbook.ipa", "w") as app:
            about = {"CFBundleIdentifier": "org.example.handbook", "CFBundleName": "Handbook"}
            about |= {"CFBundleShortVersionString": "1.2", "CFBundleVersion": "1.2"}
            app.writestr("Payload/Handbook.app/Info.plist", plistlib.dumps(about))
        self.tools.mkdir()
        (self.folder / "home").mkdir()
        for name in STUBS:
            self.tool(name, f'echo {name} "$@" >> {self.folder}/system.log')

    def tool(self, name: str, script: str) -> None:
        """A program in front of all others."""
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def start(self) -> None:
        """The daemon, with every door open, and the stand-in for APNs."""
        self.apns = ApnsProcess()
        self.addCleanup(self.apns.close)
        self.tls_port = free_port()
        tls = f"ssl:{self.tls_port}:privateKey=STATE/tls/site.key:certKey=STATE/tls/site.pem"
        doors = f"listen = unix:STATE/mdmd.sock\n  {tls}:interface=127.0.0.1"
        self.daemon = RunningDaemon(options={"scep": "scep_legacy = yes", "pb": doors})
        self.addCleanup(self.daemon.close)
        config = self.daemon.config.read_text()
        way = f"port = {self.apns.port}\ntrust = {self.apns.folder}/ca.pem"
        text = re.sub(r"(?s)(\[apns\]\nhost = localhost\n)port = \d+", rf"\g<1>{way}", config)
        self.assertNotEqual(text, config)
        self.daemon.config.write_text(text)
        self.daemon.start()

    def let_anna_in(self) -> None:
        """The reader: an admin with a password, a certificate, and a key for the manhole."""
        self.mdmctl("operator", "add", "anna", "--role", "admin")
        self.mdmctl("operator", "passwd", "anna", "--stdin", stdin="correct horse\n")
        certificate, key = CertificateAuthority.create("other", "ec", 5).issue_server(["anna"], 5)
        (self.folder / "anna.pem").write_bytes(certificate_pem(certificate) + key_pem(key))
        digest = certificate.fingerprint(certificate.signature_hash_algorithm).hex()  # type: ignore[arg-type]
        self.mdmctl("operator", "certificate", "anna", digest)
        if shutil.which("ssh") is None:
            return
        key_file = self.folder / "id_ed25519"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key_file]
        subprocess.run(words, check=True)
        self.mdmctl("operator", "key", "anna", f"{key_file}.pub")
        # What the reader's ~/.ssh has: a key that is let in, and a host that is known.
        self.tool(
            "ssh",
            f"exec {shutil.which('ssh')} -F none -i {key_file} -o StrictHostKeyChecking=no "
            '-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"',
        )

    def mdmctl(self, *words: str, stdin: str = "") -> None:
        """What the reader has done before."""
        subprocess.run(
            [BIN / "mdmctl", "--config", self.daemon.config, *words],
            input=stdin,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def enroll(self, living: bool = True) -> None:
        """The devices that the documents speak of: enrolled, alive, a certificate at hand."""
        self.mdmctl("pushcert", "install", str(self.folder / "push.pem"))
        mac = self.daemon.device(UDID, SerialNumber=SERIAL, DeviceName="Anna's Mac", **FACTS)
        phone = self.daemon.device("00008030-0011", SerialNumber="DX3XL0THJGH6", **IPHONE)
        for device in (mac, phone):
            device.enroll()
            if living:
                self.addCleanup(Living(device).close)
        shutil.copy(mac.certificate, self.folder / "device.pem")
        shutil.copy(mac.key, self.folder / "device.key")

    def spelled(self, command: str) -> str:
        """The same command, for this daemon."""
        for text, here in (
            ("/var/lib/mdmd/mdmd.conf", str(self.daemon.config)),
            ("/var/lib/mdmd", str(self.daemon.state)),
            ("mdm.example.org:9443", f"localhost:{self.tls_port}"),
            ("https://mdm.example.org", f"https://localhost:{self.daemon.port}"),
            ("localhost:9000", f"localhost:{self.daemon.api_port}"),
            ("-p 2222", f"-p {self.daemon.ssh_port}"),
        ):
            command = command.replace(text, here)
        command = re.sub(r"(?<![\w.])/(?=(etc|usr/local|opt|backup)/)", f"{self.root}/", command)
        if "/apps/…/" in command:
            (app,) = self.daemon.ask("app", "list")  # type: ignore[misc]
            command = re.sub(r"https://\S+/apps/…/\S+", app["manifest"], command)
        return command

    def harmless(self, command: str) -> str:
        """The same, after a look at what it would do."""
        spelled = self.spelled(command)
        self.assertEqual(harm(spelled, (self.folder, self.daemon.state)), "", command)
        return spelled

    def understood(self, printed: str) -> str:
        """What a daemon at the place that the documents have would have printed."""
        for here, text in (
            (f"https://localhost:{self.daemon.port}", "https://mdm.example.org"),
            (str(self.daemon.state), "/var/lib/mdmd"),
        ):
            printed = printed.replace(here, text)
        return printed

    def environment(self, command: str) -> dict[str, str]:
        state = self.daemon.state
        daemon = self.other if self.other and command.startswith("mdmctl import") else self.daemon
        return {
            **{name: text for name, text in os.environ.items() if name not in OF_MAKE},
            # Neither caches of whoever runs the tests, nor what they have set, are touched.
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "home" / ".cache"),
            "PATH": f"{self.tools}:{self.root}/usr/local/bin:{BIN}:{os.environ['PATH']}",
            "MDMD_CONFIG": str(daemon.config),
            "MDMD_PASSWORD": "correct horse",
            "COLUMNS": "100",
            # A certificate that everybody trusts, where the text has one.
            "SSL_CERT_FILE": str(state / "ca" / "ca.pem"),
            # What mdmd needs is in our own environment: nothing is downloaded.
            **dict.fromkeys(("PIP_NO_INDEX", "PIP_NO_DEPS", "PIP_DISABLE_PIP_VERSION_CHECK"), "1"),
            "PIP_NO_BUILD_ISOLATION": "0",
        }

    def run_step(self, step: Step) -> str:
        """Run one command, see that it ends as it is shown to; what it printed."""
        command, _ = INSTEAD.get(step.command, (step.command, ""))
        if re.search(r"twistd -n\b", command):
            return self.stay(command)
        if command == "ssh -p 2222 localhost":
            return self.converse(step)
        if " pushcert csr " in command:
            (self.folder / "push.key").unlink()  # it does not take the place of another
        if "--resume" in command:
            self.cut_off(command.replace("--resume", "").replace("export", f"export {SECRET}"))
        for name in (".locked", ".installed"):  # newer than all that make looks at
            (self.folder / ".venv" / name).touch()
        ran = subprocess.run(
            ["bash", "-c", self.harmless(command)],
            cwd=self.folder,
            env=self.environment(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(ran.returncode, int(step.fails), f"$ {command}\n{ran.stdout}")
        printed = self.understood(ran.stdout)
        self.assertTrue(step.is_shown_truly(printed), f"$ {command}\n{printed}")
        self.obey()
        if command == "python3 -m venv /opt/mdmd":
            self.fill_venv()
        if " pushcert csr " in command:
            self.take_from_apple()
        return printed

    def take_from_apple(self) -> None:
        """What comes back for a request: here, one for a key of its own."""
        self.assertIn("BEGIN CERTIFICATE REQUEST", (self.folder / "push.csr").read_text())
        shutil.copy(self.folder / "push.pem", self.folder / "push.key")

    def stay(self, command: str) -> str:
        """A daemon that is started by hand takes the place of the one that runs."""
        self.daemon.stop()
        self.daemon.launcher = ["bash", "-c", f"exec {self.harmless(command)}"]
        self.daemon.start()
        return ""

    def cut_off(self, command: str) -> None:
        """Begin an export or import, and kill it after its first note of the place."""
        _, verb, *_, name = command.split()
        note = self.folder / f"{name}.{verb}-resume"
        program = subprocess.Popen(
            ["bash", "-c", f"exec {self.harmless(command)}"],
            cwd=self.folder,
            env=self.environment(command),
            stdout=subprocess.DEVNULL,
        )
        while not note.exists():
            self.assertIsNone(program.poll(), command)
            time.sleep(0.001)
        program.kill()
        program.wait()

    def converse(self, step: Step) -> str:
        """A session in the manhole; each line that is shown as typed gives what is shown."""
        terminal = Terminal(
            [str(self.tools / "ssh"), "-tt", *self.harmless(step.command).split()[1:]]
        )
        self.addCleanup(terminal.close)
        parts: list[list[str]] = [[]]
        for line in step.shown:
            if line.startswith("mdmd> "):
                parts.append([])
            parts[-1].append(line)
        printed = terminal.expect("mdmd> ")
        self.assertTrue(Step("", tuple(parts[0])).is_shown_truly(without(printed)), printed)
        for typed, *shown in parts[1:]:
            printed = terminal.line(typed.removeprefix("mdmd> "))
            told = without(printed)
            self.assertTrue(Step("", tuple(shown)).is_shown_truly(told), f"{typed}\n{told}")
        return ""

    def fill_venv(self) -> None:
        """What pip would have downloaded: the packages, and twistd."""
        place = self.root / "opt" / "mdmd"
        (packages,) = place.glob("lib/python*/site-packages")
        (packages / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        # Without the network pip builds with the setuptools that is there: ours, not Python's own.
        for pattern in ("setuptools*", "_distutils_hack", "pkg_resources"):
            for path in packages.glob(pattern):
                shutil.rmtree(path)
        (packages / "distutils-precedence.pth").unlink(missing_ok=True)
        script = (BIN / "twistd").read_text().partition("\n")[2]
        path = place / "bin" / "twistd"
        path.write_text(f"#!{place}/bin/python\n{script}")
        path.chmod(0o755)

    def obey(self) -> None:
        """Do what systemd would have done to the daemon; only what the units allow."""
        log = self.folder / "system.log"
        if not log.exists():
            return
        lines = log.read_text().splitlines()
        log.unlink()
        for program, *words in map(str.split, lines):
            if program != "systemctl" or words == ["daemon-reload"]:
                continue
            verb, services = words[0], {each for each in words[1:] if each != "--now"}
            self.assertTrue(services and services <= SERVICES, words)
            self.assertIn(verb, ("start", "stop", "restart", "enable", "reload"))
            if verb == "reload":
                self.reload()
            if "mdmd" in services and verb in ("stop", "restart"):
                self.daemon.stop()
            if "mdmd" in services and verb in ("start", "restart"):
                self.daemon.start()

    def reload(self) -> None:
        """What ExecReload= of the unit does; it has been done when the log says so."""
        assert self.daemon.process is not None
        seen = len(self.daemon.log.read_text())
        self.daemon.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 30
        while "reloaded: certificates" not in self.daemon.log.read_text()[seen:]:
            self.assertLess(time.monotonic(), end)
            self.assertIsNone(self.daemon.process.poll())
            time.sleep(0.05)

    def run_document(self, name: str) -> list[str]:
        """Run all its blocks that can be; what each command printed."""
        printed, missing = [], set()
        for block in console(Path(name)):
            if block.missing:
                missing.add(block.missing)
                continue
            printed += [self.run_step(step) for step in block.steps if not reason(step.command)]
        if missing:
            self.skipTest(f"all but what needs {', '.join(missing)}")
        return printed

    def install(self) -> None:
        """What README.md says of it."""
        for command in ("python3 -m venv /opt/mdmd", "/opt/mdmd/bin/pip install ."):
            self.run_step(Step(command))


def without(printed: str) -> str:
    """What a terminal showed, without the prompt."""
    return "\n".join(line.rstrip() for line in printed.removesuffix("mdmd> ").splitlines()).strip(
        "\n"
    )
