"""Every command in README.md and docs/ does what the text says, and prints what is shown."""

import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemonhelp import TOPIC, RunningDaemon
from tests.docshelp import DOCUMENTS, blocks, console
from tests.docsplay import INSTEAD, NOT_RUN, SERIAL, UDID, DocumentCase, harm
from tests.test_moving_daemon import made_up

IMPORTS = """
from mdmd.ops.method import Caller, Subject, Wire, method
from mdmd.ops.operators import Role
"""


# A whole document is many programs, one after the other: minutes where others are at work, too.
pytestmark = pytest.mark.timeout(600)


class ListTests(SynchronousTestCase):
    """The lists above, and the tests below, are for documents that there are."""

    def test_lists_are_used(self) -> None:
        """No reason for a command that is gone."""
        found = [step.command for name in DOCUMENTS for b in console(name) for step in b.steps]
        for start in NOT_RUN:
            self.assertTrue(any(each.startswith(start) for each in found), start)
        self.assertLessEqual(set(INSTEAD), set(found))

    def test_every_document_is_run(self) -> None:
        """Each that has something to run has a test."""
        for document in DOCUMENTS:
            if console(document):
                test = getattr(DocumentTests, test_of(document), None)
                self.assertIsNotNone(test, test_of(document))
                self.assertIn(f'run_document("{document}")', inspect.getsource(test))  # type: ignore[arg-type]


class HarmTests(SynchronousTestCase):
    """The tests may run as root: what could change the machine is refused before it runs."""

    def test_harm_is_seen(self) -> None:
        """Other programs, and other paths than those of the test's own folder, however shown."""
        for command in (
            "useradd mdmd",
            "apt-get install -y redis-server",
            "sudo make install",
            "make demo && reboot",
            "make demo & reboot",
            "mdmctl devices; shutdown -h now",
            "mdmctl devices\nhalt",
            "true | tee passphrase",
            "mdmctl devices | sh -s",
            "(halt)",
            'echo "$(halt)"',
            'echo "of $(halt) all"',
            "echo `halt`",
            "cat <(halt)",
            "cat > >(halt)",
            "A=b halt",
            "eval halt",
            "rm -r /var/log/mdmd",
            "rm -r /",
            "rm -r '/'",
            "rm -r ~/.ssh",
            "rm -r ~",
            "rm -r $HOME",
            "rm -r ../other",
            "rm -r /tmp/ours/../other",
            "rm -r /tmp/ours2",
            "cd / && rm -r etc",
            "echo x > /etc/passwd",
            "echo x >/etc/passwd",
            "echo x 2>/etc/passwd",
            "curl https://localhost/ca -o/etc/passwd",
            "curl --output=/etc/passwd https://localhost/ca",
            "curl --data-binary @/etc/shadow https://localhost/ca",
            "install -Dm644 systemd/mdmd.service \\\n    /etc/systemd/system/mdmd.service",
            "/tmp/ours/bin/pip install . && chmod 777 passphrase",
        ):
            self.assertNotEqual(harm(command, [Path("/tmp/ours")]), "", command)

    def test_ordinary_commands(self) -> None:
        """What only names its own folder and addresses is none."""
        for command in (
            "curl -sS https://localhost:443/ca -o ca.pem 2>/dev/null",
            'SSL_CERT_FILE=/tmp/ours/ca.pem scepclient -challenge "$(cat /tmp/ours/a)" -cn "a b"',
            "mdmctl doctor --offline || true",
            "ssh localhost < nightly.py",
            "install -Dm644 a \\\n    /tmp/ours/etc/a && systemd-sysusers",
            "make test TESTS=tests/test_a.py ARGS='-n 0'",
        ):
            self.assertEqual(harm(command, [Path("/tmp/ours")]), "", command)


def test_of(document: Path) -> str:
    """The name of the test that runs a document."""
    return f"test_{document.stem.lower().replace('-', '_')}"


test_of.__test__ = False  # type: ignore[attr-defined]


class DocumentTests(DocumentCase):
    """A test for each document."""

    def test_by_hand(self) -> None:
        """A device's whole life with curl, and what the server refuses."""
        if shutil.which("scepclient") is None:
            self.skipTest("scepclient is not installed")
        self.mdmctl("pushcert", "install", str(self.folder / "push.pem"))
        printed = self.run_document("docs/by-hand.md")
        self.assertIn(TOPIC, printed[1])
        self.assertIn("device.pem: OK", printed[4])
        rest = "\n".join(printed)
        self.assertIn("DeviceInformation", rest)
        self.assertIn("403", rest)
        self.assertEqual(len(re.findall(r"^400$", rest, re.MULTILINE)), 2)

    def test_readme(self) -> None:
        """From nothing to the first answer."""
        self.enroll()
        printed = "\n".join(self.run_document("README.md"))
        self.assertIn("Acknowledged after", printed)
        self.assertTrue((self.root / "usr/local/bin/mdmctl").resolve().is_file())

    def test_getting_started(self) -> None:
        """From nothing to the first managed Mac."""
        self.enroll()
        printed = "\n".join(self.run_document("docs/getting-started.md"))
        self.assertIn("Acknowledged after", printed)
        for path in (
            "usr/local/share/man/man1/mdmctl.1",
            "usr/local/share/man/man8/mdmd.8",
            "etc/systemd/system/mdmd.service",
            "etc/sysusers.d/mdmd.conf",
            "etc/tmpfiles.d/mdmd.conf",
        ):
            self.assertTrue((self.root / path).is_file(), path)

    def test_operations(self) -> None:
        """Day by day; the doctor finds nothing wrong with a server that was set up like this."""
        self.enroll()
        self.install()
        printed = self.run_document("docs/operations.md")
        self.assertIn("nothing has to be put right", printed[-1])

    def test_configuration(self) -> None:
        self.run_document("docs/configuration.md")

    def test_contributing(self) -> None:
        self.run_document("CONTRIBUTING.md")

    def test_commands(self) -> None:
        """Sent, and answered; an app is served, and installed."""
        self.enroll()
        printed = self.run_document("docs/commands.md")
        self.assertIn("Acknowledged after", printed[3])

    def test_targets(self) -> None:
        self.enroll()
        self.run_document("docs/targets.md")

    def test_push(self) -> None:
        self.enroll()
        printed = self.run_document("docs/push.md")
        self.assertIn(TOPIC, printed[1])

    def test_metrics(self) -> None:
        self.enroll()
        (printed,) = self.run_document("docs/metrics.md")
        self.assertIn("mdmd_work ", printed)

    def test_mdmctl(self) -> None:
        """From another machine, with a password and with a certificate."""
        self.enroll()
        for printed in self.run_document("docs/mdmctl.md"):
            self.assertIn(SERIAL, printed)

    def test_manhole(self) -> None:
        """Typed, and by scripts."""
        self.enroll()
        self.run_document("docs/manhole.md")

    def test_scaling(self) -> None:
        self.run_document("docs/scaling.md")

    def test_security(self) -> None:
        self.run_document("docs/security.md")

    def test_moving(self) -> None:
        """Out and in again, cut off and not; a backup, and back."""
        self.enroll(living=False)
        fleet = "".join(json.dumps(each) + "\n" for each in made_up(1500))
        (self.folder / "made-up").write_text(fleet)
        self.mdmctl("import", str(self.folder / "made-up"))
        self.other = RunningDaemon()
        self.addCleanup(self.other.close)
        self.other.start()
        printed = self.run_document("docs/moving.md")
        self.assertRegex(printed[1], "15.. would be new, . here already, 0 failed")
        self.assertRegex(printed[5], "0 new, 15.. here already, 0 failed")

    def test_pb(self) -> None:
        """The programs of docs/pb.md do what they say."""
        self.enroll()
        client, live, methods = (
            each.text for each in blocks(Path("docs/pb.md")) if each.language == "python"
        )
        ran = self.program(client)
        self.assertIn(f"{UDID} {SERIAL}", ran)
        # The second goes on where the first has its session.
        receiver, _, subscribe = live.partition("\n\n\n")
        before, _, _ = client.partition("    for device in")
        subscribe = subscribe.replace("…", "await Receiver.seen")
        receiver = receiver.replace(
            "events):\n", "events):\n        Receiver.seen.callback(None)\n"
        )
        ran = self.program(
            "from twisted.internet.defer import Deferred\n"
            + before.replace(
                "async def", f"{receiver}\n\nReceiver.seen = Deferred()\n\n\nasync def"
            )
            + textwrap.indent(subscribe, "    ").replace("topics=", 'after="0-0", topics=')
            + "\n\ntask.react(main, sys.argv[1:])\n"
        )
        self.assertIn("mdm.Authenticate", ran)
        names: dict[str, object] = {}
        exec(IMPORTS + methods, names)
        self.assertEqual(names["Groups"].name, "groups")  # type: ignore[attr-defined]

    def program(self, text: str) -> str:
        """Run a program with the path of the socket; what it printed."""
        path = self.folder / "program.py"
        path.write_text(text)
        ran = subprocess.run(
            [sys.executable, path, self.daemon.state / "mdmd.sock"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(ran.returncode, 0, f"{text}\n{ran.stderr}")
        return ran.stdout
