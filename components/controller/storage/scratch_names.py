"""Names for temporary files that tell a dead process's leftovers from files in use."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from components.common.filesystem import trees

_LOCAL = re.compile(r"ingot-(?:upload|package|controller-metrics)-(\d+)-.*")
_SHARED = re.compile(r"new-(.+)-(\d+)-[^-]*")
# A file that was written to within this time is in use: another machine may have the same name.
QUIET_SECONDS = 10.0
# The age of leftovers of a machine that no longer exists.
FOREIGN_SECONDS = 86_400.0


def local(kind: str) -> str:
    """Return the prefix of a name on this machine's own disk; `kind` is `upload`, `package` or `controller-metrics`."""
    return f"ingot-{kind}-{os.getpid()}-"


def shared() -> str:
    """Return the prefix of a name on the share, where several machines write."""
    return f"new-{platform.node()}-{os.getpid()}-"


def clear_local(folder: Path) -> list[str]:
    """Remove the leftovers of this machine's dead processes; return their names."""
    gone = []
    for path in folder.glob("ingot-*"):
        match = _LOCAL.fullmatch(path.name)
        if match and not _lives(int(match[1])):
            trees.remove(path)
            gone.append(path.name)
    return gone


def clear_shared(folder: Path, now: float, quiet: float = QUIET_SECONDS) -> list[str]:
    """Remove from the share the leftovers of this machine's dead processes, and other machines' files without a write for a day.

    Args:
        folder: of unfinished files.
        now: by the clock that dates its files, seconds since 1970.
        quiet: seconds since the last write to a file of this machine.
    """
    gone = []
    for path in folder.iterdir():
        match = _SHARED.fullmatch(path.name)
        try:
            age = now - path.stat().st_mtime
        except FileNotFoundError:
            continue
        mine = match is not None and match[1] == platform.node()
        left = mine and age >= quiet and match is not None and not _lives(int(match[2]))
        if left or (not mine and age >= FOREIGN_SECONDS):
            path.unlink(missing_ok=True)
            gone.append(path.name)
    return gone


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
