"""What the suite says about its own cost: whose seconds are counted, and how they are shown."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests import suite_cost
from tests.suite_cost import Cost, Host

# Half a second of work by a child of a child that is waited for; the program itself only waits.
WORK = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"], check=True)
print("worked")
raise SystemExit(3)
"""


def test_processor_seconds_are_those_of_all_it_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code, seconds = suite_cost.run(
        [sys.executable, "-c", WORK], folder=tmp_path, environment=dict(os.environ), log=log
    )
    assert code == 3
    assert 0.5 <= seconds < 30
    assert log.read_text() == "worked\n"


def test_labs_that_were_removed_are_added_up(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    assert suite_cost.removed_labs(notes) == 0
    lines = [{"lab": "a", "processor_seconds": 1.5}, {"lab": "b", "processor_seconds": 2}]
    notes.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))
    assert suite_cost.removed_labs(notes) == 5.0


def test_time_that_was_stolen_or_served_interrupts_is_busy_and_waiting_for_disks_is_idle() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    fields = [tick * n for n in (1, 2, 3, 100, 50, 4, 5, 6, 1000, 1000)]
    assert suite_cost.parse_stat(f"cpu  {' '.join(map(str, fields))}\ncpu0 1 1\n") == (21.0, 150.0)


def test_table_has_the_dearest_part_first_and_ends_with_all_and_the_host() -> None:
    costs = [("cheap", Cost(100.0, 1.0)), ("dear", Cost(10.0, 5.0, 20.0))]
    host = (Host(100.0, 50.0), Host(130.0, 60.0))
    lines = suite_cost.table(costs, 110.0, *host)
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["dear", "10.0", "25.0", "20.0"],
        ["cheap", "100.0", "1.0", "0.0"],
        ["all", "110.0", "26.0", "20.0"],
    ]
    assert "30 s busy, 10 s idle (75 % busy)" in lines[4]
    written = suite_cost.record("check", costs, 110.0, *host)
    assert written["parts"]["dear"] == {
        "wall_seconds": 10.0,
        "processor_seconds": 25.0,
        "machines_processor_seconds": 20.0,
    }
    assert (written["goal"], written["host_busy_seconds"], written["host_idle_seconds"]) == (
        "check",
        30.0,
        10.0,
    )
