"""Others that the daemon talks to are away, or take a connection and say nothing."""

import signal
import socket
import time

from tests.faults.case import LONGER, FaultCase, PushedCase
from tests.faults.load import Load

AWAY = 2.0 * LONGER  # seconds; minutes for `make faults`
BACK = 60.0 if LONGER == 1 else 180.0  # seconds until those who failed once, or often, are pushed


class PushTests(PushedCase):
    """APNs hangs, is gone, and is back."""

    def go_on_for(self, load: Load, seconds: float) -> None:
        """Let devices work for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            load.until(5)

    def test_gone(self) -> None:
        """Devices that come get what is theirs; when it is back, all that wait are pushed."""
        apns = self.start_apns()
        self.install_push_certificate()
        load = self.work(4, push=True, waiting=3)
        if LONGER > 1:  # who queues a command hears of its push 15 seconds later
            apns.send_signal(signal.SIGSTOP)
            self.hurt += 1
            self.go_on_for(load, AWAY)
        apns.kill()
        apns.wait()
        self.hurt += 1
        self.go_on_for(load, AWAY)
        for each in load.workers[-3:]:
            each.queue_one()
        self.go_on_for(load, AWAY)
        load.pause()
        self.start_apns()
        tokens = {each.device.token.hex() for each in load.workers[-3:]}
        end = time.monotonic() + BACK
        while not tokens <= self.pushed():
            self.assertLess(time.monotonic(), end, "not all were pushed that wait")
            time.sleep(0.1)
        self.judge(load)


class HookTests(FaultCase):
    """A webhook's target takes the connection and says nothing."""

    def prepare(self) -> None:
        self.hung = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.addCleanup(self.hung.close)
        port = self.hung.getsockname()[1]
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(
            f"{text}[webhook hung]\nurl = http://127.0.0.1:{port}/hook\nprivate = yes\n"
        )

    def test_hung(self) -> None:
        """Devices are served as if nothing were."""
        load = self.work(4)
        self.hurt += 1
        load.until(100 * LONGER)
        self.judge(load)
        # It was really asked, and hung.
        self.hung.settimeout(10)
        asked, _ = self.hung.accept()
        with asked:
            self.assertIn(b"POST /hook", asked.recv(100))
