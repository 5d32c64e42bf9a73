"""Detects changes in a folder, and a name that has appeared anywhere above it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from tests.bench.hostile_corpus import EVIL


class Canary:
    """Watches a folder.

    Args:
        folder: all files below it are compared, except those that `ignored` names.
        ignored: returns whether a path below the folder may change.
    """

    def __init__(self, folder: Path, ignored: Callable[[str], bool]) -> None:
        self._folder = folder
        self._ignored = ignored
        nest = folder / "canary" / "nest"
        nest.mkdir(parents=True)
        (nest / "egg").write_text("whole")
        (folder / "canary" / "link").symlink_to("nest/egg")
        self._seen = self._look()

    def changes(self) -> list[str]:
        """Return the paths that differ from the beginning, and those that must not exist."""
        seen = self._look()
        found = [name for name in {*seen, *self._seen} if seen.get(name) != self._seen.get(name)]
        above = [self._folder, *self._folder.parents, Path("/tmp"), Path("/root"), Path("/etc"), Path.cwd()]
        found += [str(place / EVIL) for place in above if (place / EVIL).exists()]
        return sorted(found)

    def _look(self) -> dict[str, str]:
        found = {}
        for path in self._folder.rglob("*"):
            name = str(path.relative_to(self._folder))
            if self._ignored(name):
                continue
            facts = path.lstat()
            content = hashlib.sha1(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[name] = f"{facts.st_mode:o} {facts.st_uid} {facts.st_ino} {content}"
        return found
