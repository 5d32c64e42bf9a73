"""A disk of its own, small enough to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from components.common import trees


@contextmanager
def small_disk(folder: Path, mb: int = 64, inodes: int = 200_000) -> Iterator[Path]:
    """Mount a file system in memory; what the agent under test leaves there goes with it."""
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
    """Take all bytes that are left but some; gives the file."""
    path = folder / "ballast"
    left = os.statvfs(folder)
    with path.open("ab") as file:
        wanted = left.f_bavail * left.f_frsize - leave
        if wanted > 0:
            os.posix_fallocate(file.fileno(), file.tell(), wanted)
    return path


def fill_inodes(folder: Path) -> Path:
    """Take all inodes that are left; gives the folder that holds them."""
    path = folder / "crowd"
    path.mkdir()
    for number in range(os.statvfs(folder).f_favail):
        (path / str(number)).touch()
    return path


def empty(path: Path) -> None:
    """Give back what was taken."""
    trees.remove(path)
