"""The machine's clock is set: forward to what was never right, and back when somebody sees it."""

import contextlib
import http.client
import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from tests.daemonhelp import HandDevice, Manager
from tests.faults.case import LONGER, OPTIONS, FaultCase, PushedCase
from tests.faults.load import UDID
from tests.storehelp import Server

SOON = 20.0  # seconds, for what a clock that was set back would put off by an hour
IDLE = 4.0  # seconds that a connection may be idle


class FaketimeCase(FaultCase):
    """A daemon on a machine whose clock the test sets."""

    store_too = True  # whether the store is on that machine

    def redis(self) -> str:
        found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
        if not found:
            self.skipTest("libfaketime (Debian package faketime) is not installed")
        machine = Path(tempfile.mkdtemp(prefix="clock-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, machine)
        self.clock = machine / "clock"
        self.set_clock("+0")
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # With its "fix" threads that want Python's lock wait for seconds now and then.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }
        store = Server()  # Debian's redis-server does not start under libfaketime
        store.environment = self.environment if self.store_too else {}
        self.addCleanup(store.close)
        store.start()
        return store.url

    def set_clock(self, apart: str) -> None:
        """Set it, by how far it is from ours."""
        new = self.clock.with_suffix(".new")
        new.write_text(apart)
        new.replace(self.clock)


class ClockTests(FaketimeCase):
    """The machine's clock jumps; the store is on another."""

    store_too = False

    def test_jumps(self) -> None:
        """Forward by days and weeks, back by minutes: order is kept, nothing is lost."""
        load = self.work(4)
        for jump in ("+3d", "-20m", "+40d", "+0") * LONGER:
            self.set_clock(jump)
            self.hurt += 1
            load.until(30)
        self.judge(load)


class Hook:
    """
    A webhook's target in a thread.

    :ivar takes: whether it takes events, or says 500.
    :ivar asked: how often it was asked.
    :ivar took: how many events it took.
    """

    def __init__(self) -> None:
        self.takes = True
        self.asked = self.took = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                hook.asked += 1
                hook.took += hook.takes
                self.send_response(200 if hook.takes else 500)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class StepTests(FaketimeCase, PushedCase):
    """
    Waiting goes on as if nothing were, for whoever waits while the clock is set.

    It is an hour ahead for a while, and is then set right.
    """

    options: ClassVar[dict[str, str]] = {
        **OPTIONS,
        "site": f"request_timeout = {IDLE:g}s\nidle_timeout = {IDLE:g}s",
        "apns": "ping = 2s",
    }

    def prepare(self) -> None:
        super().prepare()
        self.hook = Hook()
        self.addCleanup(self.hook.close)
        with self.daemon.config.open("a") as config:
            url = f"http://127.0.0.1:{self.hook.port}/hook"
            config.write(f"[webhook hook]\nurl = {url}\nprivate = yes\n")
        self.manager = Manager()
        self.addCleanup(self.manager.close)
        self.environment |= {"NOTIFY_SOCKET": self.manager.path, "WATCHDOG_USEC": "2000000"}

    def setUp(self) -> None:
        super().setUp()
        self.apns = self.start_apns()
        self.install_push_certificate()
        self.devices = [self.daemon.device(UDID.format(number)) for number in range(3)]
        for each in self.devices:
            self.enroll(each)
        self.number = 0

    def enroll(self, device: HandDevice) -> None:
        """Enroll a device, on a connection of its own."""
        device.enroll()
        device.hang_up()

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for what is to happen soon, while the daemon says that it is well."""
        end = time.monotonic() + SOON
        while not done():
            self.assertLess(time.monotonic(), end, what)
            self.assertEqual(self.daemon.api("GET", "/healthz")[0], 200)
            time.sleep(0.05)

    def queue(self, device: HandDevice) -> int:
        """Queue a command for a device, with a push; the status."""
        self.number += 1
        return self.daemon.enqueue(device.udid, f"c{self.number}", push=True)

    def see_pushed(self, device: HandDevice) -> None:
        """Queue a command; the device is to be woken."""
        before = self.pushes(device)
        self.assertEqual(self.queue(device), 200)
        self.until("it is pushed", lambda: self.pushes(device) > before)

    def pushes(self, device: HandDevice) -> int:
        """Count the pushes to a device."""
        return (self.folder / "said").read_text().split().count(device.token.hex())

    @contextlib.contextmanager
    def idle(self) -> Iterator[ssl.SSLSocket]:
        """A connection to the site, on which one request was answered."""
        connection = http.client.HTTPSConnection(
            "localhost", self.daemon.port, context=HandDevice.trusting(self.daemon), timeout=SOON
        )
        connection.request("GET", "/ca")
        self.assertTrue(connection.getresponse().read())
        try:
            yield connection.sock
        finally:
            connection.close()

    def watchdog_goes_on(self) -> None:
        """The manager hears of it, now and not from before."""
        began = time.monotonic()
        while time.monotonic() < began + 2.5:
            self.manager.hear_until("WATCHDOG")

    def test_back(self) -> None:
        """All that waits in seconds comes in seconds after the clock is set back."""
        self.set_clock("+1h")
        self.hurt += 1
        first, second, _ = self.devices
        self.see_pushed(first)
        self.hook.takes = False
        asked = self.hook.asked
        self.enroll(second)  # by a clock that is ahead, which says when it may be pushed first
        self.until("the webhook is asked", lambda: self.hook.asked > asked + 3)
        with self.idle() as idle:
            self.set_clock("+0")
            self.hurt += 1
            self.hook.takes = True
            took = self.hook.took
            self.until("the webhook is asked again", lambda: self.hook.took > took)
            self.assertEqual(idle.recv(1), b"", "it is closed")
        self.watchdog_goes_on()
        for each in self.devices:
            self.see_pushed(each)
        self.apns.kill()
        self.apns.wait()
        self.hurt += 1
        self.assertEqual(self.queue(first), 500, "it is queued, but not pushed")
        self.start_apns()
        self.until("it is pushed once APNs is back", lambda: self.pushes(first) > 0)
        self.assertEqual(self.daemon.api("GET", "/v1/events?after=9999999999999-0&wait=1")[0], 200)
        self.assertNotIn("a bug of ours", self.daemon.log.read_text())

    def test_forward(self) -> None:
        """No limit is over because the clock says so."""
        with self.idle() as idle:
            self.set_clock("+1h")
            self.hurt += 1
            self.see_pushed(self.devices[0])
            idle.sendall(b"GET /ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn(b" 200 OK", idle.recv(100))
