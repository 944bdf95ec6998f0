"""What the daemon logs: a line for each request, and never a secret, whatever goes wrong."""

import base64
import contextlib
import json
import os
import plistlib
import signal
import time

from twisted.trial.unittest import SynchronousTestCase

from mdmd.sim.standin import make_push_certificate
from tests.daemonhelp import CHECKIN, TOPIC, HandDevice, RunningDaemon
from tests.faults.case import store_pid
from tests.storehelp import free_port

UDID = "5EC2E700-0000-5AC1-BDB2-000000000001"
MARK = "kept-from-the-log"  # in each secret that is text
PIN = "835217"


def spellings(secret: bytes) -> set[str]:
    """How a secret could be written."""
    return {
        secret.decode("ascii", "ignore"),
        secret.hex(),
        base64.b64encode(secret).decode(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode(),
        repr(secret)[2:-1],
    } - {""}


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.daemon = RunningDaemon(
            options={
                "mdmd": "log_level = debug\nlog_format = json",
                "apns": f"proxy = http://anna:{MARK}-proxy@127.0.0.1:{free_port()}",
                "webhook siem": f"url = http://127.0.0.1:{free_port()}/{MARK}-path?key={MARK}-query\n"
                "private = yes\nkey_file = STATE/siem.key".replace("STATE", "%s"),
            }
        )
        self.addCleanup(self.daemon.close)
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(text.replace("%s", str(self.daemon.state)))
        (self.daemon.state / "siem.key").write_text(f"{MARK}-hmac")
        (self.daemon.state / "siem.key").chmod(0o600)
        self.daemon.start()

    def test_whole_life(self) -> None:
        """Enrollment, commands, reports, mistakes, and a store that dies: nothing of a secret."""
        device = self.enroll()
        self.command(device)
        self.make_mistakes(device)
        self.lose_the_store(device)
        self.daemon.stop()
        log = self.daemon.log.read_text()
        for line in log.splitlines():
            json.loads(line)
        self.assertIn('"level": "debug"', log)
        for name, secret in self.secrets().items():
            for spelled in spellings(secret):
                self.assertNotIn(spelled, log, name)

    def test_a_line_for_each_request(self) -> None:
        """With a name of its own, and with enrollment, topic and command where there is one."""
        device = self.enroll()
        self.daemon.enqueue(UDID, "ONE")
        device.connect()
        self.daemon.stop()
        lines = map(json.loads, self.daemon.log.read_text().splitlines())
        told = [each for each in lines if each["room"] == "mdmd.web.respond"]
        names = [each["request"] for each in told]
        self.assertEqual(len(names), len(set(names)))
        (update,) = (each for each in told if each.get("message") == "TokenUpdate")
        self.assertEqual((update["enrollment"], update["topic"]), (UDID, TOPIC))
        (enqueued,) = (each for each in told if each["path"].startswith("/v1/enqueue/"))
        self.assertEqual(
            (enqueued["command_uuid"], enqueued["request_type"]), ("ONE", "DeviceInformation")
        )
        (given,) = (each for each in told if "given" in each)
        self.assertEqual(
            (given["enrollment"], given["topic"], given["report"]), (UDID, TOPIC, "Idle")
        )

    def secrets(self) -> dict[str, bytes]:
        """All that must not be seen, by name."""
        state = self.daemon.state
        files = ("api.key", "scep.challenge", "sealing.key")
        keys = ("ca/ca.key", "tls/site.key", "manhole/host_key", "push.pem")
        found = {each: (state / each).read_bytes().strip() for each in files}
        # A line from the middle of each key.
        found |= {each: (state / each).read_bytes().splitlines()[2] for each in keys}
        found["password of a proxy, text of tokens and keys"] = MARK.encode()
        return found | {"PIN": PIN.encode(), "token": self.token}

    def enroll(self) -> HandDevice:
        """Everything that a device gives us to keep."""
        (self.daemon.state / "push.pem").write_bytes(make_push_certificate(TOPIC))
        done = self.daemon.mdmctl("pushcert", "install", str(self.daemon.state / "push.pem"))
        self.assertEqual(done.returncode, 0, done)
        device = self.daemon.device(UDID, SerialNumber="C02SECRETS")
        self.token = os.urandom(32)
        device.check_in(MessageType="Authenticate", Topic=TOPIC, Challenge=f"{MARK}-a".encode())
        update = {
            "Topic": TOPIC,
            "Token": self.token,
            "PushMagic": f"{MARK}-magic",
            "UnlockToken": f"{MARK}-unlock".encode(),
        }
        self.assertEqual(device.check_in(MessageType="TokenUpdate", **update)[0], 200)
        bootstrap = {"BootstrapToken": f"{MARK}-bootstrap".encode()}
        device.check_in(MessageType="SetBootstrapToken", **bootstrap)
        device.check_in(MessageType="GetBootstrapToken")
        return device

    def command(self, device: HandDevice) -> None:
        """Commands with secrets in them, and reports."""
        for uuid, command in (
            ("LOCK", {"RequestType": "DeviceLock", "PIN": PIN, "Message": f"{MARK}-message"}),
            ("WIPE", {"RequestType": "EraseDevice", "PIN": PIN}),
            ("SET", {"RequestType": "SetRecoveryLock", "NewPassword": f"{MARK}-recovery"}),
            ("INSTALL", {"RequestType": "InstallProfile", "Payload": f"{MARK}-wifi".encode()}),
            ("ASK", {"RequestType": "SecurityInfo"}),
        ):
            body = plistlib.dumps({"CommandUUID": uuid, "Command": command})
            self.daemon.api("PUT", f"/v1/enqueue/{UDID}", body)
        self.daemon.mdmctl("send", UDID, "DeviceLock", f"PIN={PIN}", "--no-push")
        _, uuid, _ = device.connect()
        while uuid:
            key = {"FDE_PersonalRecoveryKeyCMS": f"{MARK}-escrow".encode(), "x": f"{MARK}-y"}
            _, uuid, _ = device.connect("Acknowledged", uuid, SecurityInfo=key)

    def make_mistakes(self, device: HandDevice) -> None:
        """What goes wrong with secrets in hand."""
        for body in (
            f"not a plist, but {MARK}-body".encode(),
            plistlib.dumps({"MessageType": "TokenUpdate", "UDID": UDID, "Token": MARK.encode()}),
            plistlib.dumps({"MessageType": "Nonsense", "UDID": UDID, "Token": MARK}),
            plistlib.dumps({"Status": "Acknowledged", "UDID": UDID, "QueryResponses": MARK}),
        ):
            device.put("/checkin", body, CHECKIN)
            device.put("/connect", body)
        device.put(f"/connect?token={MARK}-query", b"")
        self.daemon.api_bytes("GET", "/v1/enrollments", key=f"{MARK}-guess")
        self.daemon.api_bytes("PUT", f"/v1/enqueue/{UDID}?x={MARK}-query", MARK.encode())
        self.daemon.api_bytes("PUT", "/v1/pushcert", f"-----BEGIN {MARK}".encode())

    def lose_the_store(self, device: HandDevice) -> None:
        """The store dies with requests under way, and is started again."""
        os.kill(store_pid(self.daemon), signal.SIGKILL)
        end = time.monotonic() + 20
        status = 0
        while status != 200 and time.monotonic() < end:
            with contextlib.suppress(OSError):
                status, _ = device.check_in(
                    MessageType="SetBootstrapToken", BootstrapToken=f"{MARK}-late".encode()
                )
        self.assertEqual(status, 200)
