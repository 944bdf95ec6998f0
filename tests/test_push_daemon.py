"""The daemon as it is installed, and node's http2 as APNs: what an operator sees of pushes."""

import json
import plistlib
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.daemonhelp import CHECKIN, TOPIC, RunningDaemon
from tests.peerhelp import NODE, Authority

DEAD = "dead"  # the first digits of a token that APNs does not know any more


class Node:
    """node's APNs as a process that this thread waits for."""

    def __init__(self, authority: Authority, port: int) -> None:
        config = {
            "key": str(authority.folder / "localhost.key"),
            "cert": str(authority.folder / "localhost.pem"),
            "ca": str(authority.folder / "ca.pem"),
            "port": port,
            "answers": {DEAD: [410, "Unregistered"]},
        }
        assert NODE is not None
        self.process = subprocess.Popen(
            [NODE, str(Path(__file__).parent / "apns_node.mjs"), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["port"] == port

    def report(self) -> dict[str, Any]:
        """End it; say what it has seen."""
        said, _ = self.process.communicate(timeout=20)
        return dict(json.loads(said))

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.communicate()


class Daemon(SynchronousTestCase):
    """One daemon, one device."""

    if NODE is None:
        skip = "node is not installed"

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.authority = Authority(self.folder)
        trust = self.folder / "ca.pem"
        self.daemon = RunningDaemon(options={"apns": f"trust = {trust}"})
        self.addCleanup(self.daemon.close)
        (port,) = re.findall(r"^\[apns\][^[]*^port = (\d+)", self.daemon.config.read_text(), re.M)
        self.apns_port = int(port)
        self.daemon.start()
        self.install()
        self.device = self.daemon.device("UDID-1")
        self.enroll(b"\x01" * 32)

    def node(self) -> Node:
        """Let APNs be there."""
        node = Node(self.authority, self.apns_port)
        self.addCleanup(node.close)
        return node

    def install(self) -> None:
        """Install a new push certificate, as an operator does."""
        certificate, key, _ = self.authority.push_pair(TOPIC)
        file, key_file = (
            self.authority.file("p.pem", certificate),
            self.authority.file("p.key", key),
        )
        done = self.daemon.mdmctl("pushcert", "install", file, "--key", key_file)
        self.assertEqual(done.returncode, 0, done)

    def enroll(self, token: bytes) -> None:
        """Enroll with this token, or send it anew."""
        facts = {"UDID": self.device.udid, "Topic": TOPIC}
        messages: list[dict[str, object]] = [
            {"MessageType": "Authenticate"},
            {"MessageType": "TokenUpdate", "Token": token, "PushMagic": "magic"},
        ]
        for message in messages:
            status, _ = self.device.put("/checkin", plistlib.dumps(facts | message), CHECKIN)
            self.assertEqual(status, 200)

    def enqueue(self) -> tuple[int, dict[str, str]]:
        """Queue a command by the API; status, and what became of the device's push."""
        body = plistlib.dumps(
            {"CommandUUID": f"C-{time.monotonic_ns()}", "Command": {"RequestType": "ProfileList"}}
        )
        status, reply = self.daemon.api("PUT", "/v1/enqueue/UDID-1", body)
        return status, reply["status"]["UDID-1"]

    def last(self) -> str:
        """What the device's record says of its last push."""
        status, found = self.daemon.api("GET", "/v1/enrollments/UDID-1")
        self.assertEqual(status, 200)
        return str(found["last_push_result"])

    def status(self) -> dict[str, Any]:
        """How pushes are."""
        found = self.daemon.ask("push-status")
        assert isinstance(found, dict)
        return found

    def test_results_and_renewal(self) -> None:
        """
        apns-id and reason get to the reply, the record and the metrics; a renewed certificate
        is used by the next push of the running daemon.
        """
        node = self.node()
        status, reply = self.enqueue()
        self.assertEqual((status, reply), (200, {"push_result": f"id-{'01' * 32}"}))
        self.assertEqual(self.last(), f"id-{'01' * 32}")
        self.enroll(bytes.fromhex(DEAD) + b"\x02" * 30)
        _, reply = self.enqueue()
        self.assertEqual(reply["push_error"], "push HTTP status: 410: Unregistered")
        self.assertEqual(self.last(), "Unregistered")
        _, reply = self.enqueue()
        self.assertEqual(reply["push_error"], "not pushed: token dropped: Unregistered")
        self.enroll(b"\x03" * 32)
        _, reply = self.enqueue()
        self.assertEqual(reply, {"push_result": f"id-{'03' * 32}"})
        metrics = self.daemon.text("/metrics")
        self.assertRegex(metrics, r'mdmd_pushes_total\{.*"drop-token".*"Unregistered".*\} 1.0')
        self.install()
        time.sleep(1)  # versions are compared once a second
        self.assertEqual(self.daemon.mdmctl("push", "UDID-1").returncode, 0)
        (line,) = self.status()["topics"]
        report = node.report()
        seen = report["seen"]
        self.assertEqual((line["version"], line["refused"]), (2, 1))
        self.assertEqual(line["delivered"] + line["refused"], sum(seen.values()))
        # Where this takes its time, one that was pushed after its enrollment is so once more.
        self.assertGreaterEqual(seen.pop("03" * 32), 2)
        self.assertEqual(list(seen.values()), [1, 1])
        self.assertEqual(set(report["topics"].values()), {TOPIC})
        self.assertEqual(list(report["serials"].values()), [1, 1])

    def test_away(self) -> None:
        """While APNs is away a push says so; when it is back, what waits is pushed by itself."""
        _, reply = self.enqueue()
        self.assertIn("no connection to APNs", reply["push_error"])
        (line,) = self.status()["topics"]
        self.assertIn("refused", line["last_error"])
        node = self.node()
        end = time.monotonic() + 40
        while not self.last().startswith("id-"):
            self.assertLess(time.monotonic(), end, self.status())
            time.sleep(0.1)
        self.assertEqual(node.report()["seen"], {"01" * 32: 1})
