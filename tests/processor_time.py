"""Measures the processor time of a run: per test, per fixture, and in total, with all started processes.

    INGOT_PROCESSOR_TIME=build/logs/unit.processor.json python -m pytest tests/unit

prints the most expensive at the end and writes all to the file; without the variable nothing is measured. A process counts while it
runs, and afterwards in the process that waited for it. Only processes that outlive their parent are lost.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "INGOT_PROCESSOR_TIME"
SHOWN = 25
# A shorter test is not worth a look at the process table.
_QUICK_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


def spent(root: int, proc: Path = Path("/proc")) -> float:
    """Return the processor seconds of a process, all below it, and those they waited for."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for name in os.listdir(proc):  # noqa: PTH208 - a thousand times a run
        if not name.isdigit():
            continue
        try:
            # A program's name is in brackets and may hold blanks.
            fields = (proc / name / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children[int(fields[1])].append(int(name))
        ticks[int(name)] = sum(map(int, fields[11:15]))
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        total += ticks.get(pid, 0)
        pending += children[pid]
    return total / _TICKS


class ProcessorTime:
    """A pytest plugin that charges each test with the time spent since the one before ended, its fixtures apart."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._tests: defaultdict[str, float] = defaultdict(float)
        self._fixtures: defaultdict[str, float] = defaultdict(float)
        self._mark = spent(os.getpid())

    def _lap(self) -> float:
        now = spent(os.getpid())
        # Less than before: a process has lost its parent, and so left the count.
        lap, self._mark = max(0.0, now - self._mark), now
        return lap

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Charge a fixture with its set-up, without that of the fixtures it needs."""
        started = time.monotonic()
        result = yield
        if time.monotonic() - started > _QUICK_SECONDS:
            lap = self._lap()
            self._fixtures[f"{fixturedef.argname} ({fixturedef.scope})"] += lap
            if fixturedef.scope == "function":
                self._tests[request.node.nodeid] += lap
        return result

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Charge a test with its call and with the tear-down after it."""
        self._tests[nodeid] += self._lap()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the file, and print the most expensive tests; work of no test, such as imports, is in the total alone."""
        files: defaultdict[str, float] = defaultdict(float)
        for test, seconds in self._tests.items():
            files[test.partition("::")[0]] += seconds
        total = spent(os.getpid())
        parts = {"files": files, "fixtures": self._fixtures, "tests": self._tests}
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._target.write_text(json.dumps({"total": total, **parts}, indent=1))
        terminalreporter.section("processor time")
        for what, part in parts.items():
            terminalreporter.write_line(f"{what}:")
            for name, seconds in sorted(part.items(), key=lambda item: -item[1])[:SHOWN]:
                terminalreporter.write_line(f"{seconds:8.2f} s {name}")
        terminalreporter.write_line(f"{total:8.2f} s of processor time in all")


def pytest_configure(config: pytest.Config) -> None:
    """Measure where INGOT_PROCESSOR_TIME asks for it."""
    if target := os.environ.get(VARIABLE):
        config.pluginmanager.register(ProcessorTime(Path(target).absolute()), "processor-time")
