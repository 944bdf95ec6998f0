"""Who has answered: a few devices with their answers, a fleet by its events."""

import contextlib
import io
import json

from twisted.trial.unittest import SynchronousTestCase

from mdmd.cli.exits import DEVICE, DONE, FAILED
from mdmd.cli.waiting import FEW, LOOK, SLICE, Wait
from mdmd.mdm import plist
from tests.blocking import run

UUID = "0F5A24B4-0000-4000-8000-000000000001"


def event(id: str, status: str, uuid: str = UUID, topic: str = "mdm.Connect", error: str = ""):
    """What a subscription gives."""
    facts = {"status": status, "command_uuid": uuid, "error": error}
    return {"id": "1-0", "topic": topic, "enrollment": id, "facts": facts}


def reply(ids):
    """What the daemon says of a send."""
    return {"status": {id: {"id": id, "push_result": "p"} for id in ids}, "command_uuid": UUID}


class Daemon:
    """Knows results; counts who asks."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}
        self.asked: list[str] = []

    async def call(self, name: str, /, **arguments):
        self.asked.append(arguments["id"])
        report = plist.dumps({"QueryResponses": {"OSVersion": "26.1"}})
        status = self.results.get(arguments["id"])
        found = {"uuid": UUID, "status": status, "error": "", "size": 9, "secret": False}
        if name == "results.get":
            return {**found, "raw": report}
        return [] if status is None else [found]


class WaitTests(SynchronousTestCase):
    """Nothing is asked of the daemon that its events have told."""

    def setUp(self) -> None:
        self.daemon, self.now = Daemon(), 0.0
        self.wait = Wait(self.daemon, False, lambda: self.now)

    def shown(self, call) -> str:
        """What it prints, on both roads."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            self.status = call()
        return text.getvalue()

    def look(self) -> str:
        """Let it look."""
        return self.shown(lambda: run(self.wait.look()))

    def test_a_few_are_shown_with_their_answers(self) -> None:
        """Even if they answered before the sending was over."""
        self.daemon.results["A"] = "Acknowledged"
        self.assertTrue(self.wait.hear(event("A", "Acknowledged")))
        self.wait.expect(reply(["A", "B"]))
        self.assertRegex(self.look(), r"A  Acknowledged after 0\.0 s\n +QueryResponses")
        self.assertEqual(list(self.wait.waiting.values()), ["B"])
        self.assertFalse(self.wait.hear(event("B", "NotNow")))
        self.assertFalse(self.wait.hear(event("B", "Acknowledged", uuid="another")))
        self.assertTrue(self.wait.hear(event("B", "expired", topic="mdmd.Parked")))
        self.assertIn("B  expired", self.look())
        self.shown(self.wait.end)
        self.assertEqual(self.status, DEVICE)

    def test_a_fleet(self) -> None:
        """Those who failed are shown, the others counted; the daemon is asked of a few at most."""
        ids = [f"D{number}" for number in range(5000)]
        self.wait.expect(reply(ids))
        for id in ids:
            self.wait.hear(event(id, "Error" if id == "D7" else "Acknowledged", error="no room"))
        text = self.look()
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("D7  Error after 0.0 s  no room", text)
        self.assertLessEqual(len(self.daemon.asked), SLICE)
        self.assertIn("4999 Acknowledged, 1 Error", self.shown(self.wait.end))
        self.assertEqual(self.status, DEVICE)

    def test_a_lost_event(self) -> None:
        """Its device is found in the end, some of those who wait in each look."""
        ids = [f"D{number}" for number in range(2 * SLICE + 1)]
        self.wait.expect(reply(ids))
        for id in ids:
            self.daemon.results[id] = "Acknowledged"
        self.daemon.results.pop("D0")
        for _ in range(4):
            self.look()
            self.now += LOOK
        self.assertEqual(list(self.wait.waiting.values()), ["D0"])
        self.assertLess(len(self.daemon.asked), 4 * SLICE)
        self.assertIn("D0  no answer yet; the command stays queued", self.shown(self.wait.end))

    def test_progress_where_nobody_looks(self) -> None:
        """One line now and then, not one a device."""
        self.wait.expect(reply([f"D{number}" for number in range(FEW + 1)]))
        self.wait.hear(event("D0", "Acknowledged"))
        self.assertEqual(self.look(), "")
        self.now += 60
        self.assertEqual(self.look(), f"1 of {FEW + 1} have answered\n")

    def test_refused_and_json(self) -> None:
        """Whoever was refused is not waited for; programs get all in one piece."""
        self.wait = Wait(self.daemon, True, lambda: self.now)
        told = reply(["A", "B"])
        told["status"]["B"]["command_error"] = "no such enrollment"
        self.daemon.results["A"] = "Acknowledged"
        self.assertIn("B  no such enrollment", self.shown(lambda: self.wait.expect(told)))
        self.look()
        found = json.loads(self.shown(self.wait.end))
        self.assertEqual(found["waiting"], [])
        self.assertEqual(found["answers"][0]["answer"], {"QueryResponses": {"OSVersion": "26.1"}})
        self.assertEqual((self.status, DONE), (FAILED, 0))
