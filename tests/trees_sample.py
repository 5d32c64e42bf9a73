"""Trees as a hostile guest leaves them."""

from __future__ import annotations

import os
from pathlib import Path


def dig(top: Path, levels: int, name: str = "a") -> None:
    """Make nested folders, deeper than the longest path, with a file in the last."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("last", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())
