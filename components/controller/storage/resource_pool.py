"""The pool of files that applications have in common; files that were long unused, or exceed its size, are removed.

Packages hold all their files themselves: a removed file is sent again with the next push that has it.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.controller.storage.store import OWNERS, keep_private

# The duration of a push, for which the files stay that its client was told to leave out.
SPARED_SECONDS = 3600.0
_SLOT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Swept:
    """The result of a sweep: the number of removed files, and the bytes that are left."""

    files: int
    bytes: int


def sweep(folder: Path, now: float, *, keep_seconds: float, most_bytes: Callable[[int], int]) -> Swept:
    """Remove the files that were unused for `keep_seconds`, then the least recently used down to `most_bytes`.

    The pool may have millions of files: it is walked twice, and only sums are kept in memory. Files that an earlier release
    made readable for all users get their private mode on the way.

    Args:
        folder: the pool.
        now: by the clock that dates its files, seconds since 1970.
        keep_seconds: for which an unused file stays.
        most_bytes: returns the bytes that may stay, of the present ones.
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
    """Return the earliest slot whose files may stay, None where all may; slots are times of last use, with their bytes."""
    room = most
    for slot in sorted(slots, reverse=True):
        room -= slots[slot]
        if room < 0:
            return slot + 1
    return None


def _files(folder: Path) -> Iterator[tuple[str, float, int | None]]:
    """Yield paths, times of last use and sizes; the size of an owner's link is None: it takes no room, and has its file's time."""
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
