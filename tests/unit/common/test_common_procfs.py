"""Processes as /proc shows them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from components.common.procfs import ProcessStat, parse_stat, pids, read_stat

TEXT = (
    "7 (a) Z 1 (b) R 3 7 5 0 -1 4194304 0 0 0 0 10 20 1 2 20 0 4 0 900 1000000 250 18446744073709551615 1 1 0"
)


def test_a_name_with_brackets_hides_no_field() -> None:
    assert parse_stat(TEXT) == ProcessStat(
        state="R", parent=3, session=5, ticks=33, threads=4, born=900, pages=250
    )


def test_the_kernels_own_table_is_read() -> None:
    own = read_stat(os.getpid())
    assert own is not None
    assert own.alive
    assert (own.parent, own.session) == (os.getppid(), os.getsid(0))
    assert os.getpid() in set(pids())


def test_a_process_that_ended_is_not_alive_and_then_there_is_none(tmp_path: Path) -> None:
    process = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ended = read_stat(process.pid)
    assert ended is not None
    assert not ended.alive
    process.wait()
    assert read_stat(process.pid) is None
    assert read_stat(1, tmp_path) is None
