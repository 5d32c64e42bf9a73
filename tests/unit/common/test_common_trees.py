"""Walking what guests left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from components.common.filesystem import trees
from tests.small_disk import small_disk
from tests.trees_sample import dig

ROOT = Path(__file__).resolve().parents[3]
DEEP = 100_000
MANY = 1_000_000
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def odd(folder: Path) -> Path:
    """Fill a folder with what a guest may leave: odd names, no permissions, links, a pipe, holes."""
    folder.mkdir()
    for name in (b"\xff\xfe", b"new\nline", b" ", b"-rf", b"\x01", "ü".encode(), b"x" * 255):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(b"x")
    (folder / "locked").mkdir()
    (folder / "locked" / "file").write_text("x")
    (folder / "locked").chmod(0)
    (folder / "out").symlink_to("/etc")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe")
    os.link(folder / "-rf", folder / "twice")
    return folder


def test_a_tree_of_a_hundred_thousand_levels_is_weighed_and_removed(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        dig(disk, DEEP)
        found = trees.weigh(disk, MANY)
        assert (found.count, found.whole) == (DEEP + 1, True)
        trees.remove(disk / "a")
        assert list(disk.iterdir()) == []


def test_a_deep_tree_gets_another_owner(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        dig(disk, DEEP // 10)
        trees.reclaim_ownership(disk, 12345, MANY)
        assert (disk / "a/a/a").stat().st_uid == 12345
        trees.hand_over(disk, 12346, MANY)
        assert (disk / "a/a/a").stat().st_uid == 12346


def test_whatever_it_holds_a_tree_goes_and_what_its_links_point_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    top = odd(tmp_path / "top")
    (top / "elsewhere").symlink_to(outside)
    trees.remove(top)
    assert not top.exists()
    assert (outside / "file").exists()


def test_a_file_a_link_and_nothing_are_removed_as_well(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("file", "link", "never"):
        trees.remove(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


@root_only
def test_who_is_not_root_removes_what_it_shut(tmp_path: Path) -> None:
    odd(tmp_path / "top")
    tmp_path.chmod(0o755)
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(0o755)
    (tmp_path / "top").chmod(0o500)
    trees.reclaim_ownership(tmp_path / "top", 12345, MANY)
    os.chown(tmp_path, 12345, 12345)
    program = (
        "import os; from pathlib import Path; from components.common.filesystem import trees;"
        "os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345);"
        f"trees.remove(Path({str(tmp_path / 'top')!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    assert not (tmp_path / "top").exists()


def test_a_removal_goes_by_batches_and_goes_on_beside_what_cannot_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "_BATCH", 3)
    top = tmp_path / "top"
    for number in range(10):
        (top / f"folder{number}" / "in").mkdir(parents=True)
        (top / f"file{number}").touch()
    real = os.rmdir

    def rmdir(name: str, *, dir_fd: int | None = None) -> None:
        if name == "folder3":
            raise PermissionError(1, "not this one", name)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(PermissionError, match="not this one"):
        trees.remove(top)
    assert [p.name for p in top.iterdir()] == ["folder3"]
    monkeypatch.undo()
    trees.remove(top)
    assert not top.exists()


def test_a_removal_that_is_no_longer_wanted_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "top" / "a" / "b").mkdir(parents=True)
    with pytest.raises(InterruptedError):
        trees.remove(tmp_path / "top", lambda: False)
    assert (tmp_path / "top" / "a" / "b").exists()


def test_more_than_asked_for_is_not_counted(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert trees.weigh(tmp_path, 5) == trees.Weight(0, 5)
    assert trees.weigh(tmp_path, 4) == trees.Weight(0, 4, whole=False)
    with pytest.raises(trees.CrowdedError):
        trees.reclaim_ownership(tmp_path, os.getuid(), 4)
    assert trees.weigh(tmp_path / "never", 4) == trees.Weight()


@root_only
def test_what_is_handed_over_is_the_next_ones_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    top = odd(tmp_path / "top")
    (top / "to-secret").symlink_to(secret)
    os.link(secret, top / "secret-too")
    trees.hand_over(top, 12345, MANY)
    left = {p.name for p in top.iterdir()}
    assert not left & {"out", "loop", "pipe", "to-secret", "secret-too"}
    # Of a file with two names one stays, which is then its only one.
    assert len(left & {"twice", "-rf"}) == 1
    assert {p.stat().st_uid for p in (top, top / "locked", top / "locked" / "file")} == {12345}
    assert (secret.stat().st_uid, (top / "locked").stat().st_mode & 0o777) == (0, 0o700)


def test_folders_that_are_moved_while_they_are_walked_lead_nowhere(tmp_path: Path) -> None:
    """A guest that still lives moves folders from one place to another."""
    top, outside = tmp_path / "top", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for place in ("one", "two"):
        (top / place / "x" / "y" / "z").mkdir(parents=True)
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            for before, after in (
                ("one/x/y", "two/y"),
                ("two/y", "../outside/y"),
                ("../outside/y", "one/x/y"),
            ):
                (top / before).rename(top / after)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        deadline = time.monotonic() + 60
        while trees.weigh(top, MANY).whole and time.monotonic() < deadline:
            pass
        assert time.monotonic() < deadline, "no walk met a folder that was moved"
    finally:
        stop.set()
        mover.join()
    assert (outside / "kept").exists()
