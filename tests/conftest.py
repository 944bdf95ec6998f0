"""What a test has to tell besides that it passed: lines on standard error that begin with told:."""

from typing import Any

import pytest
from hypothesis import settings

# How long an example takes says more of a busy machine than of us.
settings.register_profile("mdmd", deadline=None)
settings.load_profile("mdmd")

_TOLD: list[str] = []


def pytest_runtest_logreport(report: Any) -> None:
    """Collect, from the workers of a parallel run too."""
    if report.when == "call":
        lines = report.capstderr.splitlines()
        _TOLD.extend(line[6:] for line in lines if line.startswith("told: "))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell it at the end."""
    for line in _TOLD:
        terminalreporter.write_line(line)
