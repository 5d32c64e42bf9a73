"""The share: droplets, packages and resources as files named by what is in them.

A file appears under its name whole or not at all: it is written beside, synced, and renamed.
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

from components.common.share import Share, ShareUnwellError, answers
from components.controller.storage import scratch_names

T = TypeVar("T")

SHA1 = re.compile(r"[0-9a-f]{40}")
BLOCK = 1 << 20
# How packages and files of the pool are kept.
PRIVATE = 0o640
# What is handed to a client at once.
SENT_BLOCK = 256 << 10
# A pool entry's limits (protocol 1.9): 512 MB.
LARGEST_RESOURCE = 512 << 20
# How exactly the pool knows when a file was last used: not each use is written down.
USED_SECONDS = 600.0
# In the pool: what each owner has sent of it, a folder of links for each. Another's file is nobody's to ask for by its digest.
OWNERS = ".owners"
# Beside the files of a folder: what was removed from it, for a while.
TRASH = ".trash"
# With less than this part of the share's bytes or inodes free, and less than so many bytes, the trash goes.
LOW_PART, LOW_BYTES = 0.05, 4 << 30


class Store:
    """The droplet share.

    Args:
        root: the share; its three folders, and what belongs into them, are made where missing.
        share: the way to it. Without one it is touched directly: nobody waits for who does so.
    """

    def __init__(self, root: Path, share: Share | None = None) -> None:
        self.root = root
        self._share = share
        self.droplets = root / "droplets"
        self.packages = root / "packages"
        self.resources = root / "resources"
        self.scratch = root / "droplets" / ".incoming"
        self.trash = (self.droplets / TRASH, self.packages / TRASH)
        # The sweeper's: the identity of the database whose files these are, and an operator's word (`sweep`).
        self.notes = self.droplets / ".sweep"
        self.owner = self.notes / "ccdb"

    def prepare(self) -> None:
        """Make the folders."""
        inner = (self.scratch, self.notes, *self.trash)
        for folder in (self.droplets, self.packages, self.resources, *inner):
            folder.mkdir(parents=True, exist_ok=True)
        # Uploads that are still being written, and what was removed, are no one else's business.
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
        """Return what `work` returns, which touches the share.

        Raises:
            ShareUnwellError: the share does not answer.
        """
        return work() if self._share is None else self._share.run(work)

    def trouble(self) -> str | None:
        """Return `problem` as it was last seen, or that the share does not answer."""
        return self.problem() if self._share is None else self._share.trouble()

    def there(self, place: Path) -> bool:
        """Return whether a file is there."""
        return self.run(place.exists)

    def read(self, place: Path) -> Blocks:
        """Open a file.

        Raises:
            FileNotFoundError: it is not there.
            ShareUnwellError: the share does not answer.
        """
        return self.run(lambda: Blocks(self, place.open("rb")))

    def droplet(self, digest: str) -> Path:
        """Return a droplet's place."""
        return self.droplets / _checked(digest)

    def package(self, digest: str) -> Path:
        """Return a package's place."""
        return self.packages / _checked(digest)

    def resource(self, digest: str) -> Path:
        """Return a pool file's place (protocol 1.9)."""
        number = int(_checked(digest), 16)
        return self.resources / str(number % 269) / str(number % 251) / digest

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Yield a path on the share to write a new file to; what is left there at the end is removed.

        Where the share gets full, the trash makes room first.
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
            # A sweep finds what stays there.
            with contextlib.suppress(ShareUnwellError):
                self.run(lambda: path.unlink(missing_ok=True))

    def _scratch(self) -> Path:
        if self.low():
            self.empty_trash()
        handle, name = tempfile.mkstemp(dir=self.scratch, prefix=scratch_names.shared())
        os.close(handle)
        return Path(name)

    def keep(self, scratch: Path, place: Path) -> None:
        """Put a finished file under its name: synced, at once. DEAs read droplets; all else is the controllers' own."""
        self.run(lambda: self._keep(scratch, place))

    def _keep(self, scratch: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.chmod(0o644 if place.is_relative_to(self.droplets) else PRIVATE)
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(place)
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def owned(self, owner: int, digest: str) -> Path:
        """Return the place of a pool file as one owner has it: a link, so it takes room once, and all of it goes at a time."""
        return self.resources / OWNERS / str(owner) / _checked(digest)

    def add_resource(self, owner: int, source: Path, digest: str) -> None:
        """Have the pool know that an owner sent a file: copied unless it is there, or too large."""
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
        # The sweeper may be quicker, and a file has so many links and no more: then it is sent again with the next push.
        with contextlib.suppress(OSError):
            mine.unlink(missing_ok=True)
            os.link(place, mine)

    def has_resource(self, owner: int, digest: object, size: object) -> bool:
        """Return whether an owner has sent a file of that digest and that size; to ask counts as a use."""
        if not isinstance(digest, str) or not SHA1.fullmatch(digest) or type(size) is not int:
            return False
        return self.run(lambda: _used(self.owned(owner, digest), size))

    def forget_owner(self, owner: int) -> None:
        """Forget what an owner has sent."""
        self.run(lambda: shutil.rmtree(self.resources / OWNERS / str(owner), ignore_errors=True))

    def low(self) -> bool:
        """Return whether the share gets full."""
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
        """Return the identity of the database whose files these are; a share that carries none becomes this one's."""
        with self.incoming() as scratch:
            scratch.write_text(identity)
            # Of two databases that ask at once one is the owner.
            with contextlib.suppress(FileExistsError):
                os.link(scratch, self.owner)
        return self.owner.read_text().strip()

    def remove(self, place: Path) -> None:
        """Move a file that nobody refers to any more into the trash beside it."""
        self.run(lambda: self._remove(place))

    def _remove(self, place: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            # Its age in the trash counts from now.
            os.utime(place)
            place.replace(place.parent / TRASH / place.name)

    def restore(self, place: Path) -> bool:
        """Take a file back from the trash; say whether it was there and is missed."""
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
        """Remove for good what came into the trash before that time, or all of it; return how many files."""
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
        """Read to the end."""
        while block := self._store.run(lambda: self._file.read(SENT_BLOCK)):
            yield block

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(ShareUnwellError):
            self._store.run(self._file.close)


def _used(place: Path, size: int) -> bool:
    """Return whether there is a file of that size, and note that it was used."""
    with contextlib.suppress(OSError):
        found = place.stat()
        if found.st_size != size:
            return False
        if abs(time.time() - found.st_mtime) > USED_SECONDS:
            os.utime(place)
        return True
    return False


def keep_private(path: str, mode: int) -> None:
    """Close a file that an earlier release let everybody read; one that is somebody else's stays as it is."""
    if stat.S_ISREG(mode) and mode & 0o007:
        with contextlib.suppress(OSError):
            Path(path).chmod(PRIVATE)


def full(error: BaseException) -> bool:
    """Return whether an error is that of a disk, or a quota, without room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def copy(reader: IO[bytes], writer: IO[bytes]) -> int:
    """Copy to the end; gives the number of bytes."""
    total = 0
    while block := reader.read(BLOCK):
        writer.write(block)
        total += len(block)
    return total


def sha1_of(path: Path) -> str:
    """Return the SHA-1 of a file's content, the protocol's name for it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _sha1).hexdigest()


def _sha1() -> hashlib._Hash:
    # An address of content, as the contract has it; it guards no secret.
    return hashlib.sha1(usedforsecurity=False)


def _checked(digest: str) -> str:
    if not SHA1.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a SHA-1")
    return digest
