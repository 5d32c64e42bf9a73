"""The cost of a part of the suite: seconds of the wall clock, and seconds of processors, its own and those of its lab's machines.

Wall seconds are the time of waiting, and on a shared machine they say nothing else; processor seconds are the measure of a change of the
suite. They count the processes that a part waits for and the machines of its labs. They do not count the lab's daemon with the images it
builds, nor processes that a part leaves running.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STAT = Path("/proc/stat")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds: of the wall clock, of processors by the part's own processes, of processors by its lab's machines."""

    wall: float = 0.0
    own: float = 0.0
    machines: float = 0.0

    @property
    def processor(self) -> float:
        """All seconds of processors."""
        return self.own + self.machines


@dataclass(frozen=True)
class Host:
    """The busy and idle seconds of the host's processors since its start."""

    busy: float
    idle: float

    @classmethod
    def now(cls) -> Host:
        """Return the present seconds, read from /proc/stat."""
        return cls(*parse_stat(_STAT.read_text()))


def parse_stat(text: str) -> tuple[float, float]:
    """Return the busy and the idle seconds of all processors from the text of /proc/stat."""
    ticks = [int(field) for field in text.splitlines()[0].split()[1:]]
    # user nice system idle iowait irq softirq steal; guests' time is in user's already.
    idle = ticks[3] + ticks[4]
    return (sum(ticks[:8]) - idle) / _TICK, idle / _TICK


def run(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> tuple[int, float]:
    """Run a program to its end, with its output in `log`; return its exit code and the processor seconds of it and of its waited-for children."""
    with log.open("w") as out:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, used.ru_utime + used.ru_stime


def removed_labs(notes: Path) -> float:
    """Return the processor seconds of all labs that were removed, from a file that `INGOT_LAB_SPENT` named."""
    lines = notes.read_text().splitlines() if notes.is_file() else []
    return sum((float(json.loads(line)["processor_seconds"]) for line in lines), 0.0)


def table(costs: Iterable[tuple[str, Cost]], wall: float, before: Host, after: Host) -> list[str]:
    """Return the lines with the cost of each part, the most expensive first, then of all parts and the host."""
    rows = sorted(costs, key=lambda row: row[1].processor, reverse=True)
    total = Cost(wall, sum(c.own for _, c in rows), sum(c.machines for _, c in rows))
    busy, idle = after.busy - before.busy, after.idle - before.idle
    return [
        f"{'part':28} {'wall':>8} {'processor':>10} {'machines':>9}   seconds; machines are part of processor",
        *(
            f"{name:28} {c.wall:8.1f} {c.processor:10.1f} {c.machines:9.1f}"
            for name, c in [*rows, ("all", total)]
        ),
        f"the host's processors: {busy:.0f} s busy, {idle:.0f} s idle ({_percent(busy, idle)} % busy)",
    ]


def record(
    goal: str, costs: Iterable[tuple[str, Cost]], wall: float, before: Host, after: Host
) -> dict[str, Any]:
    """Return the same figures for programs."""
    return {
        "goal": goal,
        "wall_seconds": round(wall, 1),
        "host_busy_seconds": round(after.busy - before.busy, 1),
        "host_idle_seconds": round(after.idle - before.idle, 1),
        "parts": {
            name: {
                "wall_seconds": round(c.wall, 1),
                "processor_seconds": round(c.processor, 1),
                "machines_processor_seconds": round(c.machines, 1),
            }
            for name, c in costs
        },
    }


def _percent(busy: float, idle: float) -> int:
    return round(100 * busy / (busy + idle)) if busy + idle else 0
