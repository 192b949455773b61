"""The public page under bad input, load, faults and strangers.

`pytest tests/robust` is a cut of a few minutes, `pytest tests/robust --whole` everything; both end with the counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="everything, instead of a cut of a few minutes")


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether everything is asked for; else a test takes the share of its work that fits a cut."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """tally("files tried", 12): counts what a test has really done, for the sums at the end."""

    def add(what: str, count: int = 1) -> None:
        request.node.user_properties.append(("tally", (what, count)))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    sums: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in report.user_properties:
                if name == "tally" and report.when == "call":
                    sums[value[0]] += value[1]
    failures = sum(len(terminalreporter.stats.get(outcome, ())) for outcome in ("failed", "error"))
    terminalreporter.section("robustness")
    for what, count in sums.items():
        terminalreporter.line(f"{count:>7,} {what}")
    terminalreporter.line(f"{failures:>7,} failures")
