"""Removal in the background: a path is renamed out of the way at once, and removed however long that takes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.common import aio, log
from components.common.filesystem import trees
from components.common.identity import new_id

_RETRY_SECONDS = 30.0
logger = log.get(__name__)


class Gone:
    """A removal queue: a folder of root's on the same disk as the paths to be removed.

    Args:
        folder: made when it is needed; entries that an earlier daemon left there are removed too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended = threading.Event()
        self._news = asyncio.Event()
        # A removal may take minutes, and no other work should wait behind it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gone")
        self._task: asyncio.Task[None] | None = None
        # Paths that could not even be renamed.
        self._left: set[Path] = set()
        # Number of entries that wait, and whether a removal is under way; entries that could not be removed wait for
        # their next turn.
        self.waiting = 0
        self.busy = False

    def start(self) -> None:
        """Begin to remove."""
        self._task = asyncio.create_task(self._run(), name="gone")

    async def close(self) -> None:
        """End; the next daemon removes the rest."""
        self._ended.set()
        if self._task is not None:
            await aio.cancel_and_wait([self._task])
        self._thread.shutdown(wait=False)

    async def take(self, path: Path, *, again: bool = True) -> bool:
        """Move a file or folder out of the way; never raise, whatever the disk reports.

        Args:
            path: the file or folder.
            again: no other file will have its name, so it is removed later where it cannot be moved now.

        Returns:
            Whether its name is free.
        """
        moved = await asyncio.to_thread(self.move, path)
        if not moved and again:
            self._left.add(path)
        self.wake()
        return moved

    def wake(self) -> None:
        """Begin to remove the entries that have been moved."""
        self.waiting += 1
        self.busy = True
        self._news.set()

    def move(self, path: Path) -> bool:
        """Rename a path that is to be removed; return whether its name is free. Blocks; `wake` is for the caller."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path.rename(self._folder / new_id())
        except FileNotFoundError:
            return True
        except OSError as error:
            logger.warning("not_moved_away", path=str(path), reason=error.strerror or str(error))
            return False
        return True

    def clear(self) -> None:
        """Remove the entries that wait; those that cannot be removed wait on. Blocks."""
        failed = 0
        for path in self._waiting():
            try:
                trees.remove(path, lambda: not self._ended.is_set())
            except InterruptedError:
                return
            except OSError as error:
                failed += 1
                logger.warning("not_removed", path=str(path), reason=error.strerror or str(error))
            else:
                self._left.discard(path)
        self.waiting = failed

    def _waiting(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return [*self._left, *self._folder.iterdir()]
        return list(self._left)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            self.busy = True
            await loop.run_in_executor(self._thread, self.clear)
            self.busy = self._news.is_set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _RETRY_SECONDS if self.waiting else None)
