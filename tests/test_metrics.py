"""Prometheus gets numbers that are true, few labels, and nothing of any single device."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from mdmd.errors import StoreUnavailable
from mdmd.ops.metrics import Metrics, Seen
from mdmd.store.link import ScriptError
from tests.daemonhelp import RunningDaemon

CHECKOUT = Path(__file__).parent.parent
UDID = "0A1B2C3D-1111-5AC1-BDB2-000000000001"
PROMTOOL = shutil.which("promtool")


def samples(text: str) -> dict[str, float]:
    """Each line by its name and labels."""
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    return {name: float(value) for name, value in lines}


class MetricsTests(SynchronousTestCase):
    """The counters, without a daemon."""

    def setUp(self) -> None:
        self.seen: Seen | None = Seen()
        self.metrics = Metrics("1.2", self._look)

    async def _look(self) -> Seen:
        if self.seen is None:
            raise StoreUnavailable("away")
        return self.seen

    def read(self) -> dict[str, float]:
        from twisted.internet.defer import ensureDeferred

        return samples(self.successResultOf(ensureDeferred(self.metrics.text())).decode())

    def request(self, kind: str, status: int, ms: float) -> None:
        self.metrics(
            {
                "log_namespace": "mdmd.web.respond",
                "log_level": LogLevel.info,
                "kind": kind,
                "status": status,
                "ms": ms,
            }
        )

    def test_requests(self) -> None:
        """By kind and status, and how long they took."""
        self.request("connect", 200, 3.0)
        self.request("connect", 503, 300.0)
        found = self.read()
        self.assertEqual(found['mdmd_requests_total{kind="connect",status="200"}'], 1)
        self.assertEqual(found['mdmd_requests_total{kind="connect",status="503"}'], 1)
        self.assertEqual(found['mdmd_request_seconds_bucket{kind="connect",le="0.005"}'], 1)
        self.assertEqual(found['mdmd_request_seconds_count{kind="connect"}'], 2)

    def test_log(self) -> None:
        """Trouble in the log is counted, news is not."""
        for level in (LogLevel.warn, LogLevel.error, LogLevel.info):
            self.metrics({"log_namespace": "mdmd.x", "log_level": level})
        found = self.read()
        self.assertEqual(found['mdmd_log_events_total{level="warn"}'], 1)
        self.assertEqual(found['mdmd_log_events_total{level="critical"}'], 0)
        self.assertNotIn('mdmd_log_events_total{level="info"}', found)

    def test_store(self) -> None:
        """What is in the store; commands that nobody has heard of are one label."""
        self.seen = Seen(
            ended={("SecurityInfo", "Error"): 2, ("X1", "Error"): 3, ("X2", "Error"): 4},
            with_work=5,
            enrolled={"t": 6},
            certificates={("push", "t"): 7.0},
            webhooks={"h": (8, 9)},
            webhook_lags={"h": 2.5},
        )
        self.metrics.deliveries = lambda: {("h", "taken"): 10, ("h", "failed"): 11}
        found = self.read()
        self.assertEqual(
            found['mdmd_commands_total{request_type="SecurityInfo",status="Error"}'], 2
        )
        self.assertEqual(found['mdmd_commands_total{request_type="other",status="Error"}'], 7)
        self.assertEqual((found["mdmd_work"], found['mdmd_enrollments{topic="t"}']), (5, 6))
        self.assertEqual(found['mdmd_certificate_end_seconds{kind="push",name="t"}'], 7)
        self.assertEqual(found['mdmd_webhook_waiting{name="h"}'], 8)
        self.assertEqual(found['mdmd_webhook_dead{name="h"}'], 9)
        self.assertEqual(found['mdmd_webhook_lag_seconds{name="h"}'], 2.5)
        for outcome, count in (("taken", 10), ("failed", 11)):
            name = f'mdmd_webhook_deliveries_total{{name="h",outcome="{outcome}"}}'
            self.assertEqual(found[name], count)

    def test_topics_without_end(self) -> None:
        """Devices name their topics: those that few are on share a label."""
        self.seen = Seen(enrolled={f"made-up-{n}": 1 for n in range(500)} | {"ours": 9000})
        found = self.read()
        told = {name: value for name, value in found.items() if "mdmd_enrollments{" in name}
        self.assertEqual(len(told), 101)
        self.assertEqual(told['mdmd_enrollments{topic="ours"}'], 9000)
        self.assertEqual(told['mdmd_enrollments{topic="other"}'], 401)

    def test_store_away(self) -> None:
        """Numbers of a store that is away are not there, rather than old."""
        self.seen = None
        found = self.read()
        self.assertEqual(found["mdmd_store_up"], 0)
        self.assertNotIn("mdmd_work", found)

    def test_watch(self) -> None:
        """A loop that is late is seen, and whether the store answers."""
        clock = Clock()
        well = [True]

        async def ping() -> None:
            if not well[0]:
                raise StoreUnavailable("away")
            await succeed(None)

        calls = self.metrics.watch(clock, ping)
        clock.advance(1.0)
        clock.advance(1.4)
        found = self.read()
        self.assertEqual(found["mdmd_loop_lag_seconds_count"], 2)
        self.assertAlmostEqual(found["mdmd_loop_lag_seconds_sum"], 0.4, places=3)
        self.assertEqual(found["mdmd_store_up"], 1)
        well[0] = False
        clock.advance(5.0)
        self.assertEqual(self.read()["mdmd_store_up"], 0)
        for call in calls:
            call.stop()

    def test_watch_goes_on(self) -> None:
        """A store whose answer nobody thought of is not up, and is looked at again."""
        clock = Clock()
        answers = [succeed(None), fail(ScriptError("no", "upstream host")), succeed(None)]

        async def ping() -> None:
            await answers.pop(0)

        calls = self.metrics.watch(clock, ping)
        up = [self.read()["mdmd_store_up"]]
        for _ in range(2):
            clock.advance(5.0)
            up.append(self.read()["mdmd_store_up"])
        self.assertEqual(up, [1, 0, 1])
        self.assertEqual(len(self.flushLoggedErrors(ScriptError)), 1)
        for call in calls:
            call.stop()


class UnitTests(SynchronousTestCase):
    """Under systemd."""

    def test_process(self) -> None:
        """The unit lets the daemon see processes in /proc and nothing else: enough for its own."""
        if os.getuid() != 0:
            self.skipTest("only root can mount /proc")
        daemon = RunningDaemon()
        self.addCleanup(daemon.close)
        hide = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
        daemon.launcher = ["unshare", "--mount", "sh", "-c", hide, "sh"]
        before = time.time()
        daemon.start()
        found = samples(daemon.text("/metrics"))
        self.assertGreater(found["process_resident_memory_bytes"], 10e6)
        self.assertGreater(found["process_cpu_seconds_total"], 0.1)
        self.assertGreater(found["process_open_fds"], 5)
        self.assertLess(abs(found["process_start_time_seconds"] - before), 5)


def questions() -> list[str]:
    """What the dashboard asks."""
    dashboard = json.loads((CHECKOUT / "monitoring" / "grafana-dashboard.json").read_text())
    return [each["expr"] for panel in dashboard["panels"] for each in panel["targets"]]


class DaemonTests(SynchronousTestCase):
    """A daemon with something to tell, and the real programs that read it."""

    daemon: ClassVar[RunningDaemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = RunningDaemon()
        cls.daemon.start()
        device = cls.daemon.device(UDID, SerialNumber="C02METRICS")
        device.enroll()
        assert cls.daemon.enqueue(UDID, "ONE") == 200
        device.connect()
        device.connect("Acknowledged", "ONE")
        assert cls.daemon.enqueue(UDID, "TWO") == 200
        cls.text = cls.daemon.text("/metrics")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.close()

    text: ClassVar[str]

    def test_true(self) -> None:
        """The numbers are those of what was done."""
        found = samples(self.text)
        self.assertEqual(found['mdmd_requests_total{kind="checkin",status="200"}'], 2)
        self.assertEqual(found['mdmd_requests_total{kind="connect",status="200"}'], 2)
        self.assertEqual(
            found['mdmd_commands_total{request_type="DeviceInformation",status="Acknowledged"}'], 1
        )
        self.assertEqual(found["mdmd_work"], 1)
        self.assertEqual(found["mdmd_store_up"], 1)
        self.assertEqual(found['mdmd_connections{door="site"}'], 1)
        # One for the certificate, one for the device.
        self.assertEqual(found['mdmd_connections_opened_total{door="site"}'], 2)
        self.assertGreater(found['mdmd_certificate_end_seconds{kind="site",name="site"}'], 0)

    def test_key(self) -> None:
        """Not for everybody."""
        self.assertEqual(self.daemon.api("GET", "/metrics", key="wrong")[0], 401)

    def test_nothing_of_a_device(self) -> None:
        """No label names an enrollment, a serial number or a command."""
        for word in (UDID, "C02METRICS", "ONE", "TWO"):
            self.assertNotIn(f'"{word}"', self.text)

    def test_all_are_described(self) -> None:
        """docs/metrics.md has each, and nothing else."""
        documented = set(re.findall(r"`(mdmd_\w+)`", (CHECKOUT / "docs/metrics.md").read_text()))
        types = [line.split()[2] for line in self.text.splitlines() if line.startswith("# TYPE")]
        served = {each for each in types if each.startswith("mdmd_")}
        created = {each for each in served if each.endswith("_created")}
        self.assertEqual(documented, served - created)

    def test_promtool(self) -> None:
        """Prometheus' own checker reads metrics and rules without a word."""
        if PROMTOOL is None:
            self.skipTest("promtool (Debian package prometheus) is not installed")
        checked = subprocess.run(
            [PROMTOOL, "check", "metrics"],
            input=self.text,
            capture_output=True,
            text=True,
            check=False,
        )
        about_ours = [each for each in checked.stderr.splitlines() if each.startswith("mdmd")]
        self.assertEqual(about_ours, [])
        rules = subprocess.run(
            [PROMTOOL, "check", "rules", CHECKOUT / "monitoring" / "alerts.yml"],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(rules.returncode, 0, rules.stdout + rules.stderr)
        self.assertIn("11 rules found", rules.stdout)

    def test_alerts(self) -> None:
        """Each alert is raised by what it is for, and none in good times."""
        if PROMTOOL is None:
            self.skipTest("promtool (Debian package prometheus) is not installed")
        cases = CHECKOUT / "tests" / "data" / "alerts-test.yml"
        ran = subprocess.run(
            [PROMTOOL, "test", "rules", cases], capture_output=True, text=True, check=False
        )
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        alerts = re.findall(r"alert: (\w+)", (CHECKOUT / "monitoring" / "alerts.yml").read_text())
        for each in alerts:
            named = re.findall(rf"\b{each}\b", cases.read_text())
            self.assertGreaterEqual(len(named), 2, each)

    def test_dashboard_parses(self) -> None:
        """Prometheus' own parser takes every question of the dashboard."""
        if PROMTOOL is None:
            self.skipTest("promtool (Debian package prometheus) is not installed")
        rules = [
            {"record": f"panel:{number}", "expr": each.replace("$__rate_interval", "5m")}
            for number, each in enumerate(questions())
        ]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            ran = subprocess.run(
                [PROMTOOL, "check", "rules", file.name],
                capture_output=True,
                text=True,
                check=False,
            )
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertIn(f"{len(rules)} rules found", ran.stdout)

    def test_rules_and_dashboard(self) -> None:
        """Both ask only for what is served."""
        served = {line.split()[2] for line in self.text.splitlines() if line.startswith("# TYPE")}
        bases = {re.sub(r"_total$", "", each) for each in served}
        texts = questions()
        texts += (CHECKOUT / "monitoring" / "alerts.yml").read_text().split("- alert:")[1:]
        for text in texts:
            for name in re.findall(r"\b(?:mdmd|process)_\w+", text):
                self.assertIn(re.sub(r"_(total|bucket|count|sum)$", "", name), bases, text)

    def test_prometheus_itself(self) -> None:
        """A real Prometheus with our rules scrapes it and answers the dashboard's questions."""
        prometheus = shutil.which("prometheus")
        if prometheus is None:
            self.skipTest("prometheus is not installed")
        folder = Path(tempfile.mkdtemp(prefix="prom-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        found = run_prometheus(prometheus, folder, self.daemon)
        self.assertEqual(found["up"], ["1"])
        self.assertEqual(found["mdmd_work"], ["1"])


def run_prometheus(program: str, folder: Path, daemon: RunningDaemon) -> dict[str, list[Any]]:
    """Let one scrape once; the values of some questions."""
    import urllib.request

    from tests.daemonhelp import free_port

    port = free_port()
    (folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: mdmd
    basic_auth: {{username: mdmd, password_file: {daemon.state}/api.key}}
    static_configs: [{{targets: ["localhost:{daemon.api_port}"]}}]
rule_files: [{CHECKOUT}/monitoring/alerts.yml]
""")
    process = subprocess.Popen(
        [
            *(program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/d"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        found: dict[str, list[Any]] = {}
        end = time.monotonic() + 30
        while found.get("up") != ["1"] and time.monotonic() < end:
            time.sleep(0.2)
            for question in ("up", "mdmd_work"):
                url = f"http://127.0.0.1:{port}/api/v1/query?query={question}"
                try:
                    with urllib.request.urlopen(url, timeout=5) as response:
                        result = json.loads(response.read())["data"]["result"]
                except OSError:
                    continue
                found[question] = [each["value"][1] for each in result]
        return found
    finally:
        process.terminate()
        process.wait()
