"""The real daemon and a webhook's target that fails half of the time; kill -9 in the middle."""

import json
import os
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.daemonhelp import TOPIC, RunningDaemon
from tests.storehelp import Server

# 100,000 as `MDMD_EVENTS=100000 pytest -s tests/test_webhook_daemon.py`: some minutes.
EVENTS = int(os.environ.get("MDMD_EVENTS", "600"))
_TEST = {"ids": {"id": "test"}}
ENROLLMENTS = 150 if EVENTS < 10_000 else 500


class FlakyTarget:
    """A target in a thread; it takes half of what comes, and remembers in which order."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.refused = 0
        self.changed = threading.Condition()
        luck = random.Random(7)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = luck.choice((200, 503))
                if status == 200:
                    outer.take(json.loads(body))
                else:
                    outer.refused += 1
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def take(self, event: dict[str, Any]) -> None:
        about = event.get("acknowledge_event") or event.get("checkin_event") or _TEST
        with self.changed:
            self.taken.append((about["ids"]["id"], event["sequence"]))
            self.changed.notify_all()

    def wait(self, count: int, seconds: float) -> None:
        """Wait until it has taken so many different events."""
        with self.changed:
            enough = self.changed.wait_for(lambda: len(set(self.taken)) >= count, seconds)
        assert enough, f"{len(set(self.taken))} of {count}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def write_events(server: Server, count: int) -> list[tuple[str, str]]:
    """Write reports of devices into the stream; (enrollment, id) of each."""
    written: list[tuple[str, str]] = []
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(server.socket))
        replies = line.makefile("rb")
        for begin in range(0, count, 1000):
            whos = [f"U-{n % ENROLLMENTS}" for n in range(begin, min(begin + 1000, count))]
            for who in whos:
                fields = ("topic", "mdm.Connect", "id", who, "raw", "", "status", "Idle")
                words = ("XADD", "mdmd:events", "*", *fields)
                parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
                line.sendall(f"*{len(words)}\r\n{parts}".encode())
            for who in whos:
                replies.readline()
                written.append((who, replies.readline().decode().strip()))
    return written


class DaemonTests(SynchronousTestCase):
    """At least once, and in order for each enrollment."""

    @pytest.mark.timeout(180 + EVENTS / 20)
    def test_killed_in_the_middle(self) -> None:
        """Each event arrives though half of the tries fail and the daemon is killed meanwhile."""
        server, target = Server(), FlakyTarget()
        self.addCleanup(server.close)
        self.addCleanup(target.close)
        server.start()
        hook = f"url = {target.url}\nprivate = yes\nat_once = 32"
        daemon = RunningDaemon(server.url, {"webhook t": hook})
        self.addCleanup(daemon.close)
        daemon.start()
        written = write_events(server, EVENTS)
        target.wait(EVENTS // 3, EVENTS / 50 + 30)
        daemon.kill()
        daemon.start()
        target.wait(EVENTS, EVENTS / 50 + 60)
        self.assertEqual(set(target.taken), set(written))
        for who in {who for who, _ in written}:
            firsts = list(dict.fromkeys(at for one, at in target.taken if one == who))
            self.assertEqual(firsts, [at for one, at in written if one == who])
        repeated = len(target.taken) - len(written)
        print(f"{len(written)} events, {target.refused} tries refused, {repeated} taken twice")
        self.assertLessEqual(repeated, EVENTS // 4)

    def test_operators(self) -> None:
        """mdmctl shows how far a target is, tries it, and has it sent what came before."""
        target = FlakyTarget()
        self.addCleanup(target.close)
        daemon = RunningDaemon(
            options={"webhook siem": f"url = {target.url}\nprivate = yes\nkeep_trying = 1d"}
        )
        self.addCleanup(daemon.close)
        daemon.start()
        device = daemon.device("U-1")
        device.enroll()
        target.wait(2, 30)
        (shown,) = daemon.ask("webhooks", "list")  # type: ignore[misc]
        self.assertEqual((shown["name"], shown["topics"], shown["dead"]), ("siem", ["mdm.*"], 0))
        self.assertNotIn("/hook", json.dumps(shown))
        self.assertIn("siem", daemon.mdmctl("webhooks", "list").stdout)
        said = daemon.mdmctl("webhooks", "test", "siem").stdout.strip()
        self.assertIn(said, ("taken", "not taken: HTTP status 503"))
        taken = len(target.taken)
        self.assertEqual(daemon.mdmctl("webhooks", "replay", "siem", "--from", "0").returncode, 0)
        with target.changed:
            self.assertTrue(target.changed.wait_for(lambda: len(target.taken) >= taken + 2, 30))
        *_, last = (each for each in daemon.ask("events") if each["topic"].startswith("mdm."))
        taken = len(target.taken)
        done = daemon.mdmctl("webhooks", "replay", "siem", "--from", last["id"])
        self.assertEqual(done.returncode, 0, done)
        with target.changed:
            self.assertTrue(target.changed.wait_for(lambda: len(target.taken) > taken, 30))
        self.assertEqual(target.taken[-1][1], last["id"])
        self.assertEqual(daemon.ask("webhooks", "dead", "siem"), [])
        user = {"UserID": "ann", "Token": b"t" * 32, "PushMagic": "m"}
        self.assertEqual(device.check_in(MessageType="TokenUpdate", Topic=TOPIC, **user)[0], 200)
        found = daemon.ask("events", "--device", "U-1")
        self.assertEqual({each["enrollment"] for each in found}, {"U-1", "U-1:ann"})  # type: ignore[attr-defined]
        refused = daemon.mdmctl("webhooks", "dead", "other")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no webhook named 'other'", refused.stderr)
