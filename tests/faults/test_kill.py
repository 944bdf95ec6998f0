"""kill -9 of the daemon, of its store, of both, while devices work: nothing is lost."""

import os
import signal

from tests.faults.case import LONGER, FaultCase, store_pid


class KillTests(FaultCase):
    def test_daemon_killed(self) -> None:
        """kill -9 of the daemon at moments of chance, a thousand sessions."""
        load = self.work()
        while load.sessions < 1000 * LONGER:
            load.until(self.chance.randint(30, 250))
            self.daemon.kill()
            self.daemon.start()
            self.hurt += 1
        self.judge(load)

    def test_store_killed(self) -> None:
        """kill -9 of the store under the daemon, which starts it again."""
        load = self.work()
        while load.sessions < 250 * LONGER:
            load.until(self.chance.randint(30, 120))
            os.kill(store_pid(self.daemon), signal.SIGKILL)
            self.hurt += 1
        self.judge(load)

    def test_both_killed(self) -> None:
        """kill -9 of both, as when the power goes (but for what the disk still had to write)."""
        load = self.work()
        for _ in range(2 * LONGER):
            load.until(self.chance.randint(20, 80))
            pid = store_pid(self.daemon)
            self.daemon.kill()
            os.kill(pid, signal.SIGKILL)
            self.daemon.start()
            self.hurt += 1
        self.judge(load)
