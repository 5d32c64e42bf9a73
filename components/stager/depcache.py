"""A cache of installed packages for an application's next staging, under the digest of its lock file.

It lies in the application's own cache, which no other application's build can write to; two of a kind are kept, none
larger than `MOST_BYTES` or of more than `_MOST_FILES`.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components.common.filesystem import trees
from components.stager.plugin import Context
from components.stager.reading import content

MOST_BYTES = 300 * 1024 * 1024
KEEP = 2
_MOST_FILES = 100_000
_MOST_LOCK = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """One installation in the cache, which may be missing."""

    context: Context
    kind: str
    archive: Path

    @classmethod
    def of(cls, context: Context, kind: str, files: Iterable[Path], *facts: str) -> Kept:
        """Return the installation that follows from these files.

        Args:
            context: the build's.
            kind: of package manager.
            files: lock files; one that is not there counts as empty.
            facts: further facts that decide it.
        """
        digest = hashlib.sha256("\0".join((kind, *facts)).encode())
        for path in files:
            lock = content(path, most=_MOST_LOCK) if path.is_file() else b""
            digest.update(b"\0%d\0" % len(lock) + lock)
        return cls(context, kind, context.cache / "installed" / f"{kind}-{digest.hexdigest()[:32]}.tar")

    def restore(self, folder: Path) -> bool:
        """Restore the installation as `folder`; return False where it is not in the cache."""
        if not self.archive.is_file():
            return False
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(self.archive) as archive:
                # Every patched Python has this filter; the box is this build's alone, so an old Python may do
                # without.
                archive.extraction_filter = getattr(tarfile, "tar_filter", None)
                archive.extractall(folder)  # noqa: S202 - filtered above
        except (OSError, tarfile.TarError):
            self.archive.unlink(missing_ok=True)
            return False
        os.utime(self.archive)
        self.context.tell("nothing that is locked has changed: installed from this application's cache")
        return True

    def keep(self, folder: Path) -> None:
        """Keep a copy of `folder`, unless it is too large; forget the oldest of its kind."""
        if not folder.is_dir():
            return
        weight = trees.weigh(folder, _MOST_FILES)
        if not weight.whole or weight.size > MOST_BYTES:
            return
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.archive.with_suffix(".new")
        with tarfile.open(scratch, "w") as archive:
            archive.add(folder, arcname=".")
        scratch.replace(self.archive)
        by_age = sorted(self.archive.parent.glob(f"{self.kind}-*.tar"), key=lambda p: p.stat().st_mtime_ns)
        for path in by_age[:-KEEP]:
            path.unlink()
