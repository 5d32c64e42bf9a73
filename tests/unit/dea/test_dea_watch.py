"""What instances use, and what is too much; the cache's bound; the file server's words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.common.messages import DeaStart, Limits
from components.common.units import UnitState, UnitStatus
from components.dea.folders.droplet_cache import evicted
from components.dea.folders.file_server import human, listing, open_inside
from components.dea.instances.instance import Instance
from components.dea.limits import exit_reason
from components.dea.limits.accounting import UsageAccounting
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
from components.dea.limits.usage import Usage, excess, overcrowded, sample

TICKS = os.sysconf("SC_CLK_TCK")


def test_processes_are_sorted_by_owner() -> None:
    found = [Process(1, 0, 1, 0, 0), Process(2, 50000, 2, 0, 0), Process(3, 50000, 2, 0, 0)]
    table = group(found, lambda p: {50000: "a"}.get(p.uid))
    assert [p.pid for p in table["a"]] == [2, 3]
    assert list(table) == ["a"]


def test_samples_count_processor_time_since_the_last() -> None:
    own = [Process(2, 1, 2, 3 * TICKS, 1000), Process(3, 1, 2, 0, 24)]
    first = sample(own, 5, 100.0, 7.0, None)
    assert (first.cpu, first.mem, first.disk) == (0.0, 1024.0, 5)
    later = sample([Process(2, 1, 2, 4 * TICKS, 1000)], 5, 102.0, 9.0, first)
    assert later.cpu == 50.0
    assert sample([], 0, 104.0, 11.0, later).cpu == 0.0


@pytest.mark.parametrize(
    ("memory_kb", "disk_mb", "words"),
    [
        (64 * 1024, 10, None),
        (64 * 1024 + 1, 10, "memory over 64 MB (64 MB)"),
        (80 * 1024, 10, "memory over 64 MB (80 MB)"),
        (0, 11, "disk over 10 MB (11 MB)"),
    ],
)
def test_excess_is_told_in_words(memory_kb: float, disk_mb: int, words: str | None) -> None:
    assert excess(memory_kb, disk_mb * 1024 * 1024, Limits(mem=64, disk=10)) == words


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


@pytest.mark.parametrize(
    ("threads", "refused", "words"),
    [
        (10, 0, None),
        # It met the limit and came off it: that is its own affair.
        (10, 5, None),
        (95, 0, None),
        (95, 1, "too many tasks (100)"),
        (100, 0, "too many tasks (100)"),
    ],
)
def test_who_stands_at_the_limit_of_tasks_is_told(threads: int, refused: int, words: str | None) -> None:
    assert overcrowded(threads, refused, 100) == words


@pytest.mark.parametrize(
    ("status", "crowded", "words"),
    [
        (UnitStatus(UnitState.EXITED, None, 3), None, "exited with status 3"),
        (UnitStatus(UnitState.EXITED, None, 3), 512, "too many tasks (512): exited with status 3"),
        (
            UnitStatus(UnitState.EXITED, None, None, 9, "oom-kill"),
            None,
            "memory over 64 MB (killed by its control group)",
        ),
        (UnitStatus(UnitState.EXITED, None, 153), None, "a file over 1024 MB"),
        (UnitStatus(UnitState.EXITED, None, None, 25), None, "a file over 1024 MB"),
        (UnitStatus(UnitState.MISSING), None, "ended unseen"),
    ],
)
def test_ends_are_told_in_words(status: UnitStatus, crowded: int | None, words: str) -> None:
    assert exit_reason.describe(status, Limits(mem=64), 1024, crowded) == words


def test_usage_is_added_up_between_samples() -> None:
    accounting = UsageAccounting()
    message = DeaStart(droplet=7, name="a", version="v", limits=Limits(mem=64))
    one = Instance.of(message, "a" * 32, 0)
    first = Usage(100.0, 0, 10 * 1024, 0, 5 * TICKS)
    accounting.note(one, first, None)
    accounting.note(one, Usage(102.0, 50, 20 * 1024, 0, 6 * TICKS), first)
    (found,) = accounting.samples()
    assert (found.droplet, found.reserved, found.used, found.cpu, found.restarted) == (7, 64, 15, 1.0, False)
    accounting.reset()
    assert accounting.samples() == []
    accounting.crashed(one)
    assert [(s.used, s.restarted) for s in accounting.samples()] == [(0.0, True)]


def test_the_longest_unused_goes_first() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    entries = [(b, 10, 2.0), (a, 10, 1.0), (c, 10, 3.0)]
    assert evicted(entries, 30) == []
    assert evicted(entries, 25) == [a]
    assert evicted(entries, 5) == [a, b, c]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (12, "12B"),
        (1023, "1023B"),
        (1536, "1.5K"),
        (2 * 1024**2, "2.0M"),
        (5 * 1024**4, "5120.0G"),
    ],
)
def test_sizes_are_written_as_in_2011(size: int, text: str) -> None:
    assert human(size) == text


class TestFiles:
    """What may be read of an instance."""

    @pytest.fixture
    def instance(self, tmp_path: Path) -> Path:
        root = tmp_path / "i"
        (root / "app/sub").mkdir(parents=True)
        (root / "logs").mkdir()
        for name in ("startup", "run.pid", "app/x", "app/.hidden", "app/sub/stop"):
            (root / name).write_text(name)
        (root / "app/out").symlink_to("/etc/passwd")
        (root / "app/in").symlink_to("x")
        (tmp_path / "neighbour").write_text("n")
        return root

    @pytest.mark.parametrize("path", ["..", "app/../..", "app/out", "startup", "app/sub/stop", "app/\0"])
    def test_not_permitted(self, instance: Path, path: str) -> None:
        with pytest.raises(PermissionError):
            open_inside(instance, path)

    @pytest.mark.parametrize("path", ["run.pid", "nothing", "app/nothing"])
    def test_not_there(self, instance: Path, path: str) -> None:
        with pytest.raises(FileNotFoundError):
            open_inside(instance, path)

    @pytest.mark.parametrize("path", ["app/x", "//app//./x", "app/in"])
    def test_inside(self, instance: Path, path: str) -> None:
        handle, at_root = open_inside(instance, path)
        try:
            assert os.read(handle, 100) == b"app/x"
            assert not at_root
        finally:
            os.close(handle)

    def test_listings(self, instance: Path) -> None:
        for path, names in (("", ["app/", "logs/"]), ("app", ["in", "out", "sub/", "x"]), ("app/sub", [])):
            handle, at_root = open_inside(instance, path)
            try:
                assert [line.split()[0] for line in listing(handle, at_root).splitlines()] == names
            finally:
                os.close(handle)
