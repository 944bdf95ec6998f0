"""
NanoMDM's own tools, as their users call them: curl with what cmdr.py prints, and its API's words.

The calls are those of NanoMDM's operations guide and API description.
"""

import contextlib
import json
import os
import plistlib
import subprocess
import uuid
from typing import Any
from unittest import skipUnless

from twisted.python.procutils import which
from twisted.trial.unittest import SynchronousTestCase

from tests.certhelp import push_pair
from tests.daemonhelp import CHECKIN, TOPIC, RunningDaemon, redis_server
from tests.storehelp import REDIS

UDID = "00000001-0000-4000-8000-000000000001"


def cmdr(request_type: str, **keys: object) -> bytes:
    """What NanoMDM's command tool prints: an XML plist with a random CommandUUID."""
    command = {"Command": {"RequestType": request_type, **keys}, "CommandUUID": str(uuid.uuid4())}
    return plistlib.dumps(command)


class CurlTests(SynchronousTestCase):
    """A daemon, asked by curl."""

    if not which("curl"):
        skip = "curl is not installed"

    def begin(self, daemon: RunningDaemon) -> None:
        """Start it."""
        self.daemon = daemon
        self.addCleanup(daemon.close)
        daemon.start()
        self.key = (daemon.state / "api.key").read_text().strip()

    def curl(self, path: str, *words: str, body: bytes | None = None) -> tuple[int, Any]:
        """Run curl as the guide does: `curl -u nanomdm:KEY -T - URL`, the body on its input."""
        upload = () if body is None else ("-T", "-")
        done = subprocess.run(
            [
                *("curl", "-s", "-u", f"nanomdm:{self.key}", *words, *upload),
                *("-w", "\n%{http_code}", f"http://127.0.0.1:{self.daemon.api_port}{path}"),
            ],
            input=body,
            capture_output=True,
            check=True,
            timeout=60,
        )
        answer, _, status = done.stdout.rpartition(b"\n")
        return int(status), json.loads(answer) if answer.strip() else None


class ToolsTests(CurlTests):
    """One daemon, and all that NanoMDM's users ask of it."""

    def setUp(self) -> None:
        self.begin(RunningDaemon())

    def test_the_guide(self) -> None:
        """Version, push certificate, push, enqueue: as in NanoMDM's guide, word for word."""
        status, version = self.curl("/version")
        self.assertEqual((status, list(version)), (200, ["version"]))

        _, pem = push_pair(TOPIC)
        status, told = self.curl("/v1/pushcert", body=pem)
        self.assertEqual((status, sorted(told)), (200, ["not_after", "topic"]))
        self.assertEqual(told["topic"], TOPIC)
        self.assertEqual(self.curl(f"/v1/pushcert?topic={TOPIC}"), (200, told))
        self.assertEqual(self.curl("/v1/pushcert?topic=com.apple.mgmt.none")[0], 400)
        self.assertEqual(self.curl("/v1/pushcert")[0], 400)
        self.assertEqual(self.curl("/v1/pushcert", "-X", "DELETE")[0], 405)

        device = self.daemon.device(UDID)
        device.enroll()
        # No push service is there: that is each id's own error, and with one id all have failed.
        status, told = self.curl(f"/v1/push/{UDID}")
        self.assertEqual((status, list(told)), (500, ["status"]))
        self.assertEqual(list(told["status"][UDID]), ["push_error"])

        body = cmdr("ProfileList")
        status, told = self.curl(f"/v1/enqueue/{UDID}?nopush=1", body=body)
        self.assertEqual(status, 200)
        self.assertEqual(
            told,
            {
                "no_push": True,
                "command_uuid": plistlib.loads(body)["CommandUUID"],
                "request_type": "ProfileList",
            },
        )
        self.assertEqual(device.connect("Idle")[1], plistlib.loads(body)["CommandUUID"])

    def test_many_ids(self) -> None:
        """207 when some fail: the others are queued; curl's way to send a body in pieces works."""
        for n in (1, 2):
            self.daemon.device(f"U-{n}").enroll()
        large = cmdr("InstallProfile", Payload=os.urandom(300_000))
        path = "/v1/enqueue/U-1,%20U-2%20,U-1,nobody?nopush=1"
        status, told = self.curl(path, "-H", "Expect: 100-continue", body=large)
        self.assertEqual(status, 207)
        self.assertEqual(told["status"], {"nobody": {"command_error": "no such enrollment"}})
        for n in (1, 2):
            (line,) = self.curl(f"/v1/queue/U-{n}")[1]["commands"]
            self.assertEqual(line["request_type"], "InstallProfile")

    def test_refusals(self) -> None:
        """Wrong key, no plist, nothing to do: NanoMDM's statuses, and nothing was queued."""
        self.daemon.device("U-1").enroll()
        self.assertEqual(self.curl("/v1/push/U-1", "-u", "nanomdm:wrong")[0], 401)
        for body in (b"garbage", b"<plist>" * 100_000):
            status, told = self.curl("/v1/enqueue/U-1", body=body)
            self.assertEqual((status, list(told)), (500, ["command_error"]))
        status, told = self.curl("/v1/enqueue/,%20,?nopush=1", body=cmdr("ProfileList"))
        self.assertEqual((status, sorted(told)), (500, ["command_error", "no_push"]))
        self.assertEqual(self.curl("/v1/queue/U-1")[1], {"commands": []})

    def test_a_url_with_a_query(self) -> None:
        """What comes with a device's URL is told by its events, and by nothing else."""
        device = self.daemon.device("U-1")
        device.enroll()
        for kind in ("mdm.Connect", "mdm.TokenUpdate"):
            path, body = "/connect", {"UDID": "U-1", "Status": "Idle"}
            if kind == "mdm.TokenUpdate":
                path = "/checkin"
                body = {
                    "UDID": "U-1",
                    "MessageType": "TokenUpdate",
                    "Topic": TOPIC,
                    "Token": b"t" * 32,
                    "PushMagic": "m",
                }
            sort = CHECKIN if kind == "mdm.TokenUpdate" else ""
            asked = device.put(f"{path}?site=a%20b&x=", plistlib.dumps(body), sort)
            self.assertEqual(asked[0], 200)
        found = self.curl("/v1/events?limit=100")[1]["events"]
        told = [(each["topic"], each["facts"].get("query")) for each in found]
        self.assertIn(("mdm.Connect", "site=a%20b&x="), told)
        self.assertIn(("mdm.TokenUpdate", "site=a%20b&x="), told)
        self.assertEqual(len([query for _, query in told if query]), 2)

    def test_long_poll(self) -> None:
        """An event comes to who waits for it, within the time of the event."""
        _, seen = self.curl("/v1/events?limit=1000")
        waiting = subprocess.Popen(
            [
                *("curl", "-s", "-u", f"nanomdm:{self.key}"),
                f"http://127.0.0.1:{self.daemon.api_port}/v1/events"
                f"?after={seen['next']}&wait=50&topic=mdm.TokenUpdate",
            ],
            stdout=subprocess.PIPE,
        )
        self.addCleanup(waiting.wait)
        self.addCleanup(waiting.kill)
        self.daemon.device("U-1").enroll()
        answer, _ = waiting.communicate(timeout=40)
        (event,) = json.loads(answer)["events"]
        self.assertEqual((event["topic"], event["enrollment"]), ("mdm.TokenUpdate", "U-1"))


@skipUnless(REDIS, "redis-server is not installed")
class StoreAwayTests(CurlTests):
    """The storage fails."""

    def test_statuses_and_fields(self) -> None:
        """NanoMDM's: 500 with the field of the path; a path of our own has 503."""
        store = contextlib.ExitStack()
        self.addCleanup(store.close)
        url = store.enter_context(redis_server(REDIS))
        self.begin(RunningDaemon(url, {"store": "timeout = 1s"}))
        self.daemon.device("U-1").enroll()
        _, pem = push_pair(TOPIC)
        store.close()
        body = cmdr("ProfileList")
        about = {
            "command_uuid": plistlib.loads(body)["CommandUUID"],
            "request_type": "ProfileList",
        }
        away, later = "try again later", "the store does not answer; it is tried again later"
        checkin = plistlib.dumps({"MessageType": "Authenticate", "UDID": "U-2", "Topic": TOPIC})
        for path, sent, expected in (
            ("/v1/enqueue/U-1", body, {"command_error": away, **about}),
            ("/v1/enqueue/U-1", b"junk", {"command_error": "not a property list"}),
            ("/v1/pushcert", pem, {"error": away}),
            ("/migration", checkin, {"error": away}),
            (
                *("/v1/push/U-1", None),
                {"push_error": later, "status": {"U-1": {"push_error": later}}},
            ),
            (f"/v1/pushcert?topic={TOPIC}", None, {"error": away}),
        ):
            self.assertEqual(self.curl(path, body=sent), (500, expected), path)
        self.assertEqual(self.curl("/v1/queue/U-1"), (503, {"error": away}))
        log = self.daemon.log.read_text()
        self.assertIn("the audit lacks: API key nanomdm", log)
        self.assertNotIn("a bug of ours", log)
