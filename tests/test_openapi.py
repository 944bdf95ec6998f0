"""docs/openapi.yaml and the code say the same, and a tool that tries to break it does not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from mdmd.web.api_routes import ROUTES
from tests.daemonhelp import RunningDaemon

DESCRIPTION = Path(__file__).parent.parent / "docs" / "openapi.yaml"
# What is looked at in another way.
EXCLUDED = [
    "not_a_server_error",  # 500 is NanoMDM's "all ids failed"; our own errors are in the log
    "positive_data_acceptance",  # a plist has a grammar that a schema can't say
    "negative_data_rejection",  # parameters that nobody knows are passed over, as by NanoMDM
    "ignored_auth",  # test_api.py: each wrong key costs a second, on purpose
]
METHODS = {"get", "put", "post", "delete"}


def quick() -> Any:
    """The description without waiting, and with bodies of a kind that the tool can make."""
    about = yaml.safe_load(DESCRIPTION.read_text())
    get = about["paths"]["/v1/events"]["get"]
    get["parameters"] = [each for each in get["parameters"] if each.get("name") != "wait"]
    for path in about["paths"].values():
        for method in METHODS & set(path):
            content = path[method].get("requestBody", {}).get("content", {})
            for kind in set(content) - {"application/x-www-form-urlencoded"}:
                content["text/plain"] = content.pop(kind)
    return about


class DescriptionTests(SynchronousTestCase):
    """Nothing is described that is not there, nothing is there that is not described."""

    def test_paths_and_methods(self) -> None:
        """The routes of the code are the paths of the description."""
        described = {
            (method.upper(), path)
            for path, about in yaml.safe_load(DESCRIPTION.read_text())["paths"].items()
            for method in METHODS & set(about)
        }
        # Not an integrator's: Prometheus has its own format.
        there = {(m, each.path) for each in ROUTES for m in each.methods} - {("GET", "/metrics")}
        self.assertEqual(described, there)


class DaemonTests(SynchronousTestCase):
    """schemathesis asks the real daemon for everything, and for what makes no sense."""

    def test_schemathesis(self) -> None:
        """Every answer is as described, whatever is asked; nothing ends in an error of ours."""
        daemon = RunningDaemon()
        self.addCleanup(daemon.close)
        daemon.start()
        (daemon.state / "openapi.json").write_text(json.dumps(quick()))
        device = daemon.device("U-1", SerialNumber="C02X")
        device.enroll()
        key = (daemon.state / "api.key").read_text().strip()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json"),
                *("--url", f"http://127.0.0.1:{daemon.api_port}"),
                *("--auth", f"nanomdm:{key}", "--max-examples", "3", "--seed", "1"),
                *("--phases", "examples,coverage,fuzzing", "--no-color"),
                *("--checks", "all", "--exclude-checks", ",".join(EXCLUDED)),
                *("--request-timeout", "20", "--no-shrink"),
            ],
            capture_output=True,
            text=True,
            cwd=daemon.state,
            timeout=110,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])
        log = daemon.log.read_text()
        self.assertNotIn("a bug of ours", log)
        self.assertEqual(device.connect()[0], 200)
