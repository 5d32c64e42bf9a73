"""Files in folders that a guest can write to, opened so that nothing the guest put in their place is followed or waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def open_folder(path: Path | str, above: int | None = None) -> int:
    """Open a folder; return its descriptor.

    Args:
        path: its last part may be a guest's.
        above: the descriptor of the folder that `path` is relative to.

    Raises:
        OSError: it is no folder, or a link.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)


def open_plain(
    path: Path | str, flags: int = os.O_RDONLY, *, above: int | None = None, only_name: bool = True
) -> int:
    """Open a file; return its descriptor.

    Args:
        path: its last part may be a guest's.
        flags: of open(2); a file that they create is its owner's alone.
        above: the descriptor of the folder that `path` is relative to.
        only_name: whether a file with a second name, which may lie outside the folder, is refused.

    Raises:
        OSError: it is a link, a pipe, a device or a folder, or has a second name.
    """
    # A pipe that has no writer would be waited for.
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=above)
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or (only_name and facts.st_nlink != 1):
        os.close(handle)
        raise OSError(f"{Path(path).name} is not a plain file")
    return handle
