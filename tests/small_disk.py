"""A file system of its own for a test, small enough to be filled."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.common.filesystem import trees


@contextmanager
def small_disk(folder: Path, mb: int = 64, inodes: int = 200_000) -> Iterator[Path]:
    """Mount a file system in memory; the files of the agent under test go with it."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    folder.mkdir()
    options = f"size={mb}m,nr_inodes={inodes},mode=755"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        # A process that a test did not wait for may hold it a moment longer.
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill the disk up to some bytes; return the file. Bytes that others write meanwhile are left to them."""
    path = folder / "ballast"
    with path.open("ab") as file:
        while (wanted := _room(folder) - leave) > 0:
            # Another program was quicker: read the free bytes anew.
            with _room_for_others():
                os.posix_fallocate(file.fileno(), file.tell(), wanted)
                file.seek(0, os.SEEK_END)
    return path


def fill_inodes(folder: Path) -> Path:
    """Take all free inodes; return the folder that holds them."""
    path = folder / "crowd"
    path.mkdir()
    with _room_for_others():
        for number in itertools.count():
            (path / str(number)).touch()
    return path


def _room(folder: Path) -> int:
    left = os.statvfs(folder)
    return left.f_bavail * left.f_frsize


@contextmanager
def _room_for_others() -> Iterator[None]:
    """Ignore that there is no room left."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def empty(path: Path) -> None:
    """Remove the file or folder that fills the disk."""
    trees.remove(path)
