"""The share: droplets, packages and resources as files named by their content.

A file appears under its name complete or not at all: it is written beside, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from components.common.filesystem.files import sync_folder
from components.common.filesystem.share import Share, ShareUnwellError, answers
from components.controller.storage import scratch_names

T = TypeVar("T")

SHA1 = re.compile(r"[0-9a-f]{40}")
BLOCK = 1 << 20
# The mode of packages and files of the pool.
PRIVATE = 0o640
# The bytes that are sent to a client at once.
SENT_BLOCK = 256 << 10
# A pool entry's limits (protocol 1.9): 512 MB.
LARGEST_RESOURCE = 512 << 20
# The precision of a pool file's last use: not every use is recorded.
USED_SECONDS = 600.0
# In the pool: a folder for each owner with links to the files that the owner has sent. No user can get another's file by its
# digest.
OWNERS = ".owners"
# Beside the files of a folder: its removed files, for a while.
TRASH = ".trash"
# The trash is emptied when less than this part of the share's bytes or inodes, and less than these bytes, are free.
LOW_PART, LOW_BYTES = 0.05, 4 << 30


class Store:
    """The droplet share.

    Args:
        root: the share; its three folders and their subfolders are made where missing.
        share: the access with a timeout. Without one the folder is accessed directly.
    """

    def __init__(self, root: Path, share: Share | None = None) -> None:
        self.root = root
        self._share = share
        self.droplets = root / "droplets"
        self.packages = root / "packages"
        self.resources = root / "resources"
        self.scratch = root / "droplets" / ".incoming"
        self.trash = (self.droplets / TRASH, self.packages / TRASH)
        # The sweeper's notes: the identity of the database that owns these files, and an operator's permission (`sweep`).
        self.notes = self.droplets / ".sweep"
        self.owner = self.notes / "ccdb"

    def prepare(self) -> None:
        """Make the folders."""
        inner = (self.scratch, self.notes, *self.trash)
        for folder in (self.droplets, self.packages, self.resources, *inner):
            folder.mkdir(parents=True, exist_ok=True)
        # Unfinished uploads and removed files are private to the controllers.
        for folder in inner:
            folder.chmod(0o700)

    def problem(self) -> str | None:
        """Return the reason why nothing can be stored; None when all is well."""
        if silent := answers(self.root):
            return silent
        for folder in (self.droplets, self.packages, self.resources):
            if not folder.is_dir():
                return f"the share lacks {folder.name}/"
            if not os.access(folder, os.W_OK):
                return f"the share's {folder.name}/ cannot be written"
        return None

    def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which accesses the share.

        Raises:
            ShareUnwellError: the share does not answer.
        """
        return work() if self._share is None else self._share.run(work)

    def trouble(self) -> str | None:
        """Return the last result of `problem`, or that the share does not answer."""
        return self.problem() if self._share is None else self._share.trouble()

    def there(self, place: Path) -> bool:
        """Return whether a file exists."""
        return self.run(place.exists)

    def read(self, place: Path) -> Blocks:
        """Return an open file's content.

        Raises:
            FileNotFoundError: it does not exist.
            ShareUnwellError: the share does not answer.
        """
        return self.run(lambda: Blocks(self, place.open("rb")))

    def droplet(self, digest: str) -> Path:
        """Return a droplet's path."""
        return self.droplets / _checked(digest)

    def package(self, digest: str) -> Path:
        """Return a package's path."""
        return self.packages / _checked(digest)

    def resource(self, digest: str) -> Path:
        """Return a pool file's path (protocol 1.9)."""
        number = int(_checked(digest), 16)
        return self.resources / str(number % 269) / str(number % 251) / digest

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a path on the share for a new file; a file that is left there at the end is removed.

        On an almost full share, the trash is emptied first.
        """
        path = self.run(self._scratch)
        try:
            yield path
        except OSError as error:
            if full(error):
                # For the next attempt.
                self.run(self.empty_trash)
            raise
        finally:
            # A sweep removes a file that stays there.
            with contextlib.suppress(ShareUnwellError):
                self.run(lambda: path.unlink(missing_ok=True))

    def _scratch(self) -> Path:
        if self.low():
            self.empty_trash()
        handle, name = tempfile.mkstemp(dir=self.scratch, prefix=scratch_names.shared())
        os.close(handle)
        return Path(name)

    def keep(self, scratch: Path, place: Path) -> None:
        """Move a finished file to its name, synced and atomically. DEAs may read droplets; other files are private to controllers."""
        self.run(lambda: self._keep(scratch, place))

    def _keep(self, scratch: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.chmod(0o644 if place.is_relative_to(self.droplets) else PRIVATE)
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(place)
        sync_folder(place.parent)

    def owned(self, owner: int, digest: str) -> Path:
        """Return the path of an owner's link to a pool file: a link takes no room, and an owner's links go together."""
        return self.resources / OWNERS / str(owner) / _checked(digest)

    def add_resource(self, owner: int, source: Path, digest: str) -> None:
        """Add an owner's file to the pool; it is copied unless it exists or is too large."""
        self.run(lambda: self._add_resource(owner, source, digest))

    def _add_resource(self, owner: int, source: Path, digest: str) -> None:
        place, size = self.resource(digest), source.stat().st_size
        if size > LARGEST_RESOURCE or self.has_resource(owner, digest, size):
            return
        if not _used(place, size):
            with self.incoming() as scratch, source.open("rb") as reader:
                with scratch.open("wb") as writer:
                    copy(reader, writer)
                self.keep(scratch, place)
        mine = self.owned(owner, digest)
        mine.parent.mkdir(parents=True, exist_ok=True)
        # The sweeper may remove it first, and links of a file are limited: then it is sent again with the next push.
        with contextlib.suppress(OSError):
            mine.unlink(missing_ok=True)
            os.link(place, mine)

    def has_resource(self, owner: int, digest: object, size: object) -> bool:
        """Return whether an owner has sent a file of that digest and that size; the question counts as a use."""
        if not isinstance(digest, str) or not SHA1.fullmatch(digest) or type(size) is not int:
            return False
        return self.run(lambda: _used(self.owned(owner, digest), size))

    def forget_owner(self, owner: int) -> None:
        """Remove an owner's links to pool files."""
        self.run(lambda: shutil.rmtree(self.resources / OWNERS / str(owner), ignore_errors=True))

    def low(self) -> bool:
        """Return whether the share is almost full."""
        space = os.statvfs(self.root)
        free = space.f_bavail * space.f_frsize
        few = free < LOW_BYTES and free < LOW_PART * space.f_blocks * space.f_frsize
        # Some file systems count no inodes.
        return few or space.f_favail < LOW_PART * space.f_files

    def now(self) -> float:
        """Return the time by the clock that dates the share's files: the file server's, seconds since 1970."""
        clock = self.notes / "clock"
        clock.touch()
        return clock.stat().st_mtime

    def owned_by(self, identity: str) -> str:
        """Return the identity of the database that owns these files; a share without an owner gets this one."""
        with self.incoming() as scratch:
            scratch.write_text(identity)
            # Of two databases at once, one becomes the owner.
            with contextlib.suppress(FileExistsError):
                os.link(scratch, self.owner)
        return self.owner.read_text().strip()

    def remove(self, place: Path) -> None:
        """Move a file without a reference into the trash beside it."""
        self.run(lambda: self._remove(place))

    def _remove(self, place: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            # Its age in the trash counts from now.
            os.utime(place)
            place.replace(place.parent / TRASH / place.name)

    def restore(self, place: Path) -> bool:
        """Restore a missing file from the trash; return whether that was done."""
        return self.run(lambda: self._restore(place))

    def _restore(self, place: Path) -> bool:
        if place.exists():
            return False
        try:
            (place.parent / TRASH / place.name).rename(place)
        except FileNotFoundError:
            return False
        return True

    def empty_trash(self, before: float | None = None) -> int:
        """Delete the files that came into the trash before that time, or all; return their number."""
        count = 0
        for folder in self.trash:
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if before is None or path.stat().st_mtime < before:
                        path.unlink()
                        count += 1
        return count


class Blocks:
    """The content of a file in blocks; `close` it. It raises `ShareUnwellError` where the share does not answer.

    Attributes:
        size: in bytes.
    """

    def __init__(self, store: Store, file: IO[bytes]) -> None:
        self._store = store
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks to the end."""
        while block := self._store.run(lambda: self._file.read(SENT_BLOCK)):
            yield block

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(ShareUnwellError):
            self._store.run(self._file.close)


def _used(place: Path, size: int) -> bool:
    """Return whether there is a file of that size, and record its use."""
    with contextlib.suppress(OSError):
        found = place.stat()
        if found.st_size != size:
            return False
        if abs(time.time() - found.st_mtime) > USED_SECONDS:
            os.utime(place)
        return True
    return False


def keep_private(path: str, mode: int) -> None:
    """Make a file private that an earlier release made readable for all users; a file of another system user stays as it is."""
    if stat.S_ISREG(mode) and mode & 0o007:
        with contextlib.suppress(OSError):
            Path(path).chmod(PRIVATE)


def full(error: BaseException) -> bool:
    """Return whether an error means a full disk or quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def copy(reader: IO[bytes], writer: IO[bytes]) -> int:
    """Copy to the end; return the number of bytes."""
    total = 0
    while block := reader.read(BLOCK):
        writer.write(block)
        total += len(block)
    return total


def sha1_of(path: Path) -> str:
    """Return the SHA-1 of a file's content, which is its name in the protocol."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _sha1).hexdigest()


def _sha1() -> hashlib._Hash:
    # The protocol's address of content; it guards no secret.
    return hashlib.sha1(usedforsecurity=False)


def _checked(digest: str) -> str:
    if not SHA1.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a SHA-1")
    return digest
