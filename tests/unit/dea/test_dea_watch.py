"""What instances use, and what is too much; the cache's bound; the file server's words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.common.messages import Limits
from components.dea.droplets import evicted
from components.dea.files import human, listing, open_inside
from components.dea.monitor import (
    Process,
    disk_bytes,
    excess,
    group,
    processes,
    proportional_kb,
    sample,
)

TICKS = os.sysconf("SC_CLK_TCK")


def test_processes_are_sorted_by_owner() -> None:
    found = [Process(1, 0, 1, 0, 0), Process(2, 50000, 2, 0, 0), Process(3, 50000, 2, 0, 0)]
    table = group(found, lambda p: {50000: "a"}.get(p.uid))
    assert [p.pid for p in table["a"]] == [2, 3]
    assert list(table) == ["a"]


def test_samples_count_processor_time_since_the_last() -> None:
    own = [Process(2, 1, 2, 3 * TICKS, 1000), Process(3, 1, 2, 0, 24)]
    first = sample(own, 5, 100.0, None)
    assert (first.cpu, first.mem, first.disk) == (0.0, 1024.0, 5)
    later = sample([Process(2, 1, 2, 4 * TICKS, 1000)], 5, 102.0, first)
    assert later.cpu == 50.0
    assert sample([], 0, 104.0, later).cpu == 0.0


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


def test_disk_counts_files_and_survives_what_vanishes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(bytes(100_000))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 100_000 <= disk_bytes(tmp_path) <= 200_000
    assert disk_bytes(tmp_path / "gone") == 0


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
