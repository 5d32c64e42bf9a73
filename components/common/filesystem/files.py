"""Files that are replaced as a whole: a reader sees the old content or the new, also after a crash."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write_atomically(
    path: Path, content: bytes | str, *, mode: int = PRIVATE, group: int | None = None, durable: bool = False
) -> None:
    """Replace a file; its folder must exist.

    The new content is written to a hidden file beside it, named after the process and the thread, and renamed over it (rename(2)).
    Of several writers at the same moment each renames a whole file, and the last one counts.

    Args:
        path: the file. A symbolic link in its place is replaced, and not followed.
        content: bytes, or text that is written as UTF-8.
        mode: permission bits, whatever the umask is.
        group: the group that owns the file; the writer's own where it is None.
        durable: whether the content survives a power loss once this returns (fsync(2) of the file and its folder).

    Raises:
        OSError: the file cannot be written; it is as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.new")
    # A writer of this number that was killed may have left one.
    scratch.unlink(missing_ok=True)
    # O_EXCL: a link that somebody puts there meanwhile is refused.
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    try:
        with os.fdopen(handle, "wb") as file:
            if group is not None:
                os.fchown(handle, -1, group)
            os.fchmod(handle, mode)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(handle)
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power loss (fsync(2)).

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
