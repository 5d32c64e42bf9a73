"""Names of what is only there while it is worked on, so that what a killed process left is told from what is in use."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from components.common import trees

_LOCAL = re.compile(r"ingot-(?:upload|package|controller-metrics)-(\d+)-.*")
_SHARED = re.compile(r"new-(.+)-(\d+)-[^-]*")
# A process of another machine's name twin might hold it: what is written to now is in use.
QUIET_SECONDS = 10.0
# Of a machine that is not there any more.
FOREIGN_SECONDS = 86_400.0


def local(kind: str) -> str:
    """Give the beginning of a name on this machine's own disk; `kind` is `upload`, `package` or `controller-metrics`."""
    return f"ingot-{kind}-{os.getpid()}-"


def shared() -> str:
    """Give the beginning of a name on the share, where several machines write."""
    return f"new-{platform.node()}-{os.getpid()}-"


def clear_local(folder: Path) -> list[str]:
    """Remove what processes of this machine left that are no more; gives the names."""
    gone = []
    for path in folder.glob("ingot-*"):
        match = _LOCAL.fullmatch(path.name)
        if match and not _lives(int(match[1])):
            trees.remove(path)
            gone.append(path.name)
    return gone


def clear_shared(folder: Path, now: float, quiet: float = QUIET_SECONDS) -> list[str]:
    """Remove from the share what processes of this machine left, and what no machine has touched for a day.

    Args:
        folder: where unfinished files are.
        now: by the clock that dates its files.
        quiet: how long a file of this machine has to rest.
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
