"""What is left of a file system: bytes, and the inodes that each file and folder takes one of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """What there is for daemons that are not the system's own.

    Attributes:
        free_mb: MB.
        used: percent of the bytes that are taken, as `df` reckons: what is kept for root is no room.
        used_inodes: percent of the inodes that are taken; 0 where the file system makes them as it needs them.
    """

    free_mb: int
    used: float
    used_inodes: float

    def lacks(self, percent: float) -> str | None:
        """Say of what more than so many percent are taken, in words; None where there is room."""
        if self.used > percent:
            return f"{self.used:.0f} percent of its bytes are taken"
        if self.used_inodes > percent:
            return f"{self.used_inodes:.0f} percent of its inodes are taken"
        return None


def room(folder: Path) -> Room:
    """Look at the file system of a folder. Blocks briefly.

    Raises:
        OSError: the folder is not there.
    """
    facts = os.statvfs(folder)
    return Room(
        facts.f_bavail * facts.f_frsize // _MB,
        _percent(facts.f_blocks - facts.f_bfree, facts.f_bavail),
        _percent(facts.f_files - facts.f_ffree, facts.f_favail) if facts.f_files else 0.0,
    )


def _percent(used: int, left: int) -> float:
    return 100 * used / (used + left) if used + left else 0.0
