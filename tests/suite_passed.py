"""Parts of the suite that passed and whose files have not changed since: such a part is not run again.

Only for a part whose verdict depends on nothing but the files of the checkout and the versions that `constraints.txt` pins.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path


def digest(root: Path, paths: Iterable[str]) -> str:
    """Return the digest of files by name, mode and content; an empty text where git cannot list them.

    Args:
        root: the checkout.
        paths: files and folders below it; of folders count the files that git tracks, and those it neither tracks nor ignores.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=root, check=False, capture_output=True)
    if listed.returncode:
        return ""
    found = hashlib.sha256()
    for name in sorted(set(listed.stdout.split(b"\0")) - {b""}):
        path = root / name.decode()
        content = path.readlink().as_posix().encode() if path.is_symlink() else _content(path)
        for part in (name, content):
            found.update(b"%d:" % len(part))
            found.update(part)
    return found.hexdigest()


def passed(stamp: Path, files: str) -> bool:
    """Return whether a part passed with files of this digest.

    Args:
        stamp: the part's own file.
        files: the digest.
    """
    return stamp.is_file() and stamp.read_text() == files


def remember(stamp: Path, files: str) -> None:
    """Record that a part passed with files of this digest."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(files)


def _content(path: Path) -> bytes:
    """Return mode and content; a file that git knows and the disk lacks counts as absent."""
    return b"%o " % path.stat().st_mode + path.read_bytes() if path.is_file() else b"absent"
