"""What is read of /proc and of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.dea.limits.procfs import (
    Process,
    controllers,
    group,
    held_memory,
    processes,
    proportional_kb,
    refused_tasks,
    unlinked_bytes,
)


def test_processes_are_sorted_by_owner() -> None:
    found = [Process(1, 0, 1, 0, 0), Process(2, 50000, 2, 0, 0), Process(3, 50000, 2, 0, 0)]
    table = group(found, lambda p: {50000: "a"}.get(p.uid))
    assert [p.pid for p in table["a"]] == [2, 3]
    assert list(table) == ["a"]


def test_this_process_is_found_and_measured() -> None:
    own = [p for p in processes() if p.pid == os.getpid()]
    assert own[0].uid == os.getuid()
    assert own[0].rss_kb > 1000
    assert 0 < proportional_kb([os.getpid()]) <= own[0].rss_kb * 1.2


def test_files_without_a_name_are_found_by_who_holds_them(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    with (tmp_path / "x").open("wb") as file:
        file.write(bytes(300_000))
        file.flush()
        assert unlinked_bytes([os.getpid()], device) < 300_000
        (tmp_path / "x").unlink()
        assert unlinked_bytes([os.getpid()], device) >= 300_000
        assert unlinked_bytes([os.getpid()], device + 1) < 300_000
    assert unlinked_bytes([0], device) == 0


@pytest.mark.parametrize(
    ("own", "place"),
    [("0::/a/b.service\n", "a/b.service"), ("9:pids:/a/b.service\n0::/c\n", "pids/a/b.service")],
)
def test_refused_tasks_are_read_of_both_kinds_of_control_groups(tmp_path: Path, own: str, place: str) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(own)
    groups = tmp_path / "cgroup"
    (groups / place).mkdir(parents=True)
    assert refused_tasks(7, tmp_path / "proc", groups) == 0
    (groups / place / "pids.events").write_text("max 12\n")
    assert refused_tasks(7, tmp_path / "proc", groups) == 12
    assert refused_tasks(8, tmp_path / "proc", groups) == 0


@pytest.mark.parametrize(
    ("said", "held"),
    [("67108864\n", 67108864), ("max\n", None), (None, None)],
    ids=["held", "not", "no controller"],
)
def test_memory_the_kernel_holds_to_is_read(tmp_path: Path, said: str | None, held: int | None) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text("0::/a/b.service\n")
    (tmp_path / "cgroup/a/b.service").mkdir(parents=True)
    if said is not None:
        (tmp_path / "cgroup/a/b.service/memory.max").write_text(said)
    assert held_memory(7, tmp_path / "proc", tmp_path / "cgroup") == held


def test_what_the_kernel_holds_to_is_asked_of_it(tmp_path: Path) -> None:
    assert controllers(tmp_path) == []
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    assert controllers(tmp_path) == ["cpu", "memory", "pids"]
