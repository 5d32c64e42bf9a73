"""Folders that a guest filled, with any content: measuring, changing the owner, removing.

They are walked by descriptors, so that neither a path's length nor a name's bytes matter and no link is followed, and without
recursion, so that depth does not matter. One folder is open at a time. The way back up is `..`, which counts only where it
leads to the folder the walk came from: a guest that still lives can move folders while they are walked.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512
# Entries that a removal looks at before it goes deeper: a folder of millions does not come into memory whole.
_BATCH = 10_000
_OWNER_MAY = 0o700


class MovedError(OSError):
    """A folder was moved elsewhere during the walk."""


class CrowdedError(OSError):
    """A tree holds more files and folders than allowed."""


@dataclass(frozen=True, slots=True)
class Weight:
    """The size of a tree.

    Attributes:
        size: bytes on the disk.
        count: files and folders in it.
        whole: everything was counted; False where there was more than asked for, or folders were moved meanwhile.
    """

    size: int = 0
    count: int = 0
    whole: bool = True

    def __add__(self, other: Weight) -> Weight:
        """Return the weight of two trees together."""
        return Weight(self.size + other.size, self.count + other.count, self.whole and other.whole)


def _always() -> bool:
    return True


def weigh(folder: Path, most: int, wanted: Callable[[], bool] = _always) -> Weight:
    """Weigh the content of a folder; files that vanish meanwhile, and a missing folder, weigh nothing. Blocks.

    Args:
        folder: may be a guest's.
        most: files and folders that are counted.
        wanted: called again and again; False breaks off.

    Raises:
        InterruptedError: it was no longer wanted.
    """
    walk = _Weighing(most, wanted)
    try:
        walk.run(folder)
    except (CrowdedError, MovedError):
        return Weight(walk.size, walk.count, whole=False)
    except FileNotFoundError:
        return Weight()
    return Weight(walk.size, walk.count)


def reclaim_ownership(folder: Path, uid: int, most: int, wanted: Callable[[], bool] = _always) -> None:
    """Make one uid and gid the owner of a folder and its content. Blocks.

    Raises:
        OSError: CrowdedError where there is more than `most`; then a part has its new owner.
        InterruptedError: it was no longer wanted; likewise.
    """
    _OwnershipReclaim(uid, most, wanted).run(folder)


def hand_over(folder: Path, uid: int, most: int) -> None:
    """Hand a folder over to another guest: plain files and folders get its uid, all else is removed. Blocks.

    Raises:
        OSError: CrowdedError where there is more than `most`; then a part has its new owner.
    """
    _HandingOver(uid, most).run(folder)


def remove(path: Path, wanted: Callable[[], bool] = _always) -> None:
    """Remove a file or a folder with all that is in it; one that is not there is no error. Blocks.

    Args:
        path: no folder above it may be a guest's.
        wanted: called again and again; where it returns False, the rest stays.

    Raises:
        OSError: something could not be removed; everything else is gone.
        InterruptedError: it was no longer wanted.
    """
    walk = _Removal(wanted)
    try:
        walk.run(path)
        path.rmdir()
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink(missing_ok=True)
    except OSError as error:
        # The error of the entry says more than that its folder is not empty.
        raise walk.failed or error from None


@dataclass(slots=True)
class _Level:
    """A folder on the way down.

    `below` are its folders still to be walked; `mark` is the result of the first look at it.
    """

    name: str
    identity: tuple[int, int]
    below: list[str]
    more: bool
    mark: int


class _Walk:
    """A walk; its subclasses define the work in each folder."""

    # Whether permissions that are in the way are changed.
    forces = False

    def __init__(self, wanted: Callable[[], bool] = _always) -> None:
        self._wanted = wanted
        self.done = 0

    def enter(self, folder: int) -> tuple[list[str], bool]:
        """Look at a folder; return the names of folders to walk, and whether to look again after them."""
        raise NotImplementedError

    def leave(self, above: int, name: str) -> None:
        """Handle the end of a folder's walk."""

    def run(self, top: Path) -> None:
        """Walk the tree below `top`."""
        here = self._open(os.fspath(top))
        trail = [self._level("", here)]
        try:
            while True:
                level = trail[-1]
                if level.below:
                    name = level.below.pop()
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        folder = self._open(name, here)
                        os.close(here)
                        here = folder
                        trail.append(self._level(name, here))
                elif level.more and self.done > level.mark:
                    trail[-1] = self._level(level.name, here)
                else:
                    trail.pop()
                    if not trail:
                        return
                    above = os.open("..", _FOLDER, dir_fd=here)
                    os.close(here)
                    here = above
                    if _identity(here) != trail[-1].identity:
                        raise MovedError("a folder was moved while it was walked")
                    self.leave(here, level.name)
        finally:
            os.close(here)

    def _level(self, name: str, folder: int) -> _Level:
        if not self._wanted():
            raise InterruptedError("the walk was broken off")
        mark = self.done
        return _Level(name, _identity(folder), *self.enter(folder), mark)

    def _open(self, name: str, above: int | None = None) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=above)
        except PermissionError:
            if not self.forces:
                raise
        handle = os.open(name, _FOLDER | os.O_PATH, dir_fd=above)
        try:
            # The only way to change a file that cannot be opened without following a link that took its place.
            Path(f"/proc/self/fd/{handle}").chmod(_OWNER_MAY)
        finally:
            os.close(handle)
        return os.open(name, _FOLDER, dir_fd=above)


class _Weighing(_Walk):
    def __init__(self, most: int, wanted: Callable[[], bool]) -> None:
        super().__init__(wanted)
        self._most = most
        self.size = self.count = 0

    def enter(self, folder: int) -> tuple[list[str], bool]:
        below = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if self.count == self._most:
                    raise CrowdedError(f"more than {self._most} files and folders")
                self.count += 1
                with contextlib.suppress(FileNotFoundError):
                    self.size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
        return below, False

    def _open(self, name: str, above: int | None = None) -> int:
        try:
            return super()._open(name, above)
        except PermissionError as error:
            # Where daemons are not root, files that they may not see are not counted.
            raise FileNotFoundError(name) from error


class _OwnershipReclaim(_Walk):
    forces = True

    def __init__(self, uid: int, most: int, wanted: Callable[[], bool] = _always) -> None:
        super().__init__(wanted)
        self._uid, self._left = uid, most

    def enter(self, folder: int) -> tuple[list[str], bool]:
        below = []
        self.folder(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                self._left -= 1
                if self._left < 0:
                    raise CrowdedError("too many files and folders")
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    self.file(entry, folder)
        return below, False

    def folder(self, folder: int) -> None:
        """Change the owner of a folder."""
        os.fchown(folder, self._uid, self._uid)

    def file(self, entry: os.DirEntry[str], folder: int) -> None:
        """Change the owner of an entry that is no folder, or remove it."""
        os.chown(entry.name, self._uid, self._uid, dir_fd=folder, follow_symlinks=False)


class _HandingOver(_OwnershipReclaim):
    def folder(self, folder: int) -> None:
        super().folder(folder)
        os.fchmod(folder, _OWNER_MAY)

    def file(self, entry: os.DirEntry[str], folder: int) -> None:
        facts = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
            super().file(entry, folder)
        else:
            os.unlink(entry.name, dir_fd=folder)


class _Removal(_Walk):
    forces = True

    def __init__(self, wanted: Callable[[], bool]) -> None:
        super().__init__(wanted)
        self.failed: OSError | None = None

    def enter(self, folder: int) -> tuple[list[str], bool]:
        if os.fstat(folder).st_mode & _OWNER_MAY != _OWNER_MAY:
            with contextlib.suppress(OSError):
                os.fchmod(folder, _OWNER_MAY)
        below, seen = [], 0
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, _BATCH):
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                else:
                    self._try(os.unlink, entry.name, folder)
        return below, seen == _BATCH

    def leave(self, above: int, name: str) -> None:
        self._try(os.rmdir, name, above)

    def _try(self, act: Callable[..., None], name: str, folder: int) -> None:
        try:
            act(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.failed = self.failed or error
        else:
            self.done += 1


def _identity(folder: int) -> tuple[int, int]:
    facts = os.fstat(folder)
    return facts.st_dev, facts.st_ino
