"""The pool of files that applications have in common: files that nobody has used for long go, and those beyond its size.

Packages hold what they need themselves: a file that is gone is sent again with the next push that has it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.controller.storage.store import OWNERS, keep_private

# Files that a push was just told to leave out stay for as long as a push takes.
SPARED_SECONDS = 3600.0
_SLOT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Swept:
    """How many files went, and how many bytes are left."""

    files: int
    bytes: int


def sweep(folder: Path, now: float, *, keep_seconds: float, most_bytes: Callable[[int], int]) -> Swept:
    """Remove what was last used longer ago than that, then what was used least lately until so many bytes are left.

    The pool may have millions of files: it is walked twice, and only sums are remembered. Files that an earlier release let
    everybody read are closed on the way.

    Args:
        folder: the pool.
        now: by the clock that dates its files.
        keep_seconds: how long a file stays that nobody uses.
        most_bytes: given the bytes there are, how many may stay.
    """
    gone = 0
    slots: Counter[int] = Counter()
    for path, used, size in _files(folder):
        if now - used > keep_seconds:
            gone += _remove(path) and size is not None
        else:
            slots[int(used // _SLOT_SECONDS)] += size or 0
    total = slots.total()
    first = first_kept(slots, most_bytes(total))
    if first is not None:
        for path, used, size in _files(folder):
            old = used // _SLOT_SECONDS < first and now - used > SPARED_SECONDS
            if old and _remove(path) and size is not None:
                gone += 1
                total -= size
    return Swept(gone, total)


def first_kept(slots: Counter[int], most: int) -> int | None:
    """Return the earliest slot whose files may stay, None where all may: slots are times of last use, with their bytes."""
    room = most
    for slot in sorted(slots, reverse=True):
        room -= slots[slot]
        if room < 0:
            return slot + 1
    return None


def _files(folder: Path) -> Iterator[tuple[str, float, int | None]]:
    """Yield paths, times of last use and sizes; None for an owner's link: it takes no room, and is as old as what it links to."""
    for outer in _entries(folder):
        for inner in _entries(outer):
            for entry in _entries(inner):
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    keep_private(entry.path, found.st_mode)
                    yield entry.path, found.st_mtime, None if outer.name == OWNERS else found.st_size


def _entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(path: str) -> bool:
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    return True
