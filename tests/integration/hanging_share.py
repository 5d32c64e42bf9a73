"""A share that hangs like the mount of a silent server: a file system in user space, whose program is stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists() or shutil.which("bindfs") is None,
    reason="root mounts it, with /dev/fuse and bindfs",
)


class HangingShare:
    """A folder, shown at `path` by a program that can be stopped.

    Args:
        folder: holds the files and the mount point.
        place: the mount point, relative to `folder`.
    """

    def __init__(self, folder: Path, place: str = "share") -> None:
        self.path = folder / place
        source = folder / "served"
        for needed in (self.path, source):
            needed.mkdir(parents=True, exist_ok=True)
        # No cache: the kernel asks for everything.
        options = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
        self._server = subprocess.Popen(["bindfs", "-f", "-o", options, str(source), str(self.path)])
        deadline = time.monotonic() + 60
        while not self.path.is_mount():
            assert self._server.poll() is None, "bindfs ended"
            assert time.monotonic() < deadline, "bindfs mounts nothing"
            time.sleep(0.02)

    def hang(self) -> None:
        """Answer no call from now on."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer the calls made meanwhile, and all later ones."""
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Unmount it, whatever files are open there."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=False)
        self._server.kill()
        self._server.wait(60)


@contextmanager
def hanging_share(folder: Path, place: str = "share") -> Iterator[HangingShare]:
    """Yield a hanging share that is removed at the end."""
    share = HangingShare(folder, place)
    try:
        yield share
    finally:
        with suppress(ProcessLookupError):
            share.go_on()
        share.close()
