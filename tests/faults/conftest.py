"""Say at the end what was tried in all; in a parallel run, nothing: the tests' lines remain."""

from typing import Any

from tests.faults.case import TALLY


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell the figures."""
    if TALLY.faults:
        terminalreporter.write_line(
            f"faults tried: {TALLY.faults}, sessions run: {TALLY.sessions}, "
            f"commands: {TALLY.commands}, losses: {TALLY.losses}"
        )
