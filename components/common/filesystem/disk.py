"""The room that is left on a file system: bytes and inodes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """The room on a file system for daemons that are not the system's own.

    Attributes:
        free_mb: MB.
        used: percent of the bytes that are taken, as `df` counts them: bytes reserved for root are no room.
        used_inodes: percent of the inodes that are taken; 0 where the file system makes them on demand.
    """

    free_mb: int
    used: float
    used_inodes: float

    def lacks(self, percent: float) -> str | None:
        """Return in words the part of which more than `percent` is taken, bytes or inodes; None where there is room."""
        if self.used > percent:
            return f"{self.used:.0f} percent of its bytes are taken"
        if self.used_inodes > percent:
            return f"{self.used_inodes:.0f} percent of its inodes are taken"
        return None


def room(folder: Path) -> Room:
    """Return the room on the file system of a folder. Blocks briefly.

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
