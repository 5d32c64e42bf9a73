"""The remains of a crashed instance, for its owner to read: its folder, or where the disk is short its logs alone."""

from __future__ import annotations

import asyncio
import functools
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.common import log
from components.common.filesystem import trees
from components.common.filesystem.gone import Gone
from components.common.filesystem.plain_files import open_folder
from components.dea.folders.launcher import Launcher
from components.dea.instances.instance import Instance
from components.dea.instances.registry import Registry

_MB = 1024 * 1024
_LOGS = ("stdout.log", "stderr.log", "err.log", "stdout.log.1", "stderr.log.1", "err.log.1", "staging.log")
logger = log.get(__name__)


class Remains:
    """The crashed instances' files.

    Args:
        gone: removes the rest.
        most_files: largest number of files; an instance that left more is cut to its logs.
        log_mb: size of one log file; a longer one is not kept.
    """

    def __init__(self, gone: Gone, most_files: int, log_mb: int) -> None:
        self._gone, self._most, self._log = gone, most_files, log_mb * _MB
        # Apart from the threads of all other work: a hostile folder takes minutes.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="remains")
        # By instance: the folders that are being taken over.
        self._under_way: dict[str, asyncio.Event] = {}
        self._closed = threading.Event()

    async def keep(self, instance: Instance, folder: Path, *, cut: bool) -> None:
        """Take over the folder of an instance that has no processes any more, and record its size; never raise.

        Args:
            instance: its uid may serve another afterwards.
            folder: its own.
            cut: whether only logs are kept.
        """
        done = self._under_way[instance.id] = asyncio.Event()
        try:
            instance.kept_mb = -(-await self._size(instance, folder, cut=cut) // _MB)
        finally:
            del self._under_way[instance.id]
            done.set()

    async def settled(self, instance: Instance) -> None:
        """Wait until no work on an instance's folder is under way."""
        under_way = self._under_way.get(instance.id)
        if under_way is not None:
            await under_way.wait()

    async def _size(self, instance: Instance, folder: Path, *, cut: bool) -> int:
        try:
            work = functools.partial(self._keep, folder, instance.uid, cut=cut)
            size = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (FileNotFoundError, InterruptedError):
            return 0
        except OSError as error:
            logger.warning("remains_dropped", instance=instance.id, reason=error.strerror or str(error))
            await self._gone.take(folder)
            return 0
        self._gone.wake()
        return size

    def close(self) -> None:
        """Begin no more work, and break off the present one: the next agent does it again."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keep(self, folder: Path, uid: int | None, *, cut: bool) -> int:
        weight = trees.weigh(folder, self._most, self._wanted)
        if cut or not weight.whole:
            self._cut(folder)
            weight = trees.weigh(folder, self._most, self._wanted)
        if uid is not None:
            trees.reclaim_ownership(folder, 0, self._most, self._wanted)
        return weight.size

    def _wanted(self) -> bool:
        return not self._closed.is_set()

    def _cut(self, folder: Path) -> None:
        """Replace a folder by a new one with its logs."""
        old = folder.with_name(f".cut-{folder.name}")
        folder.rename(old)
        try:
            try:
                _make(folder)
            except OSError:
                # There is no room for two folders: the other files go first.
                for path in sorted(old.iterdir()):
                    if path.name != "logs":
                        trees.remove(path, self._wanted)
                _make(folder)
            self._keep_logs(old / "logs", folder / "logs")
        except InterruptedError:
            old.rename(folder)
            raise
        finally:
            if not self._gone.move(old):
                trees.remove(old, self._wanted)

    def _keep_logs(self, old: Path, new: Path) -> None:
        """Keep the platform's own logs where they are plain files of allowed size, and no other file of the instance."""
        try:
            source = open_folder(old)
        except OSError:
            return
        target = open_folder(new)
        try:
            for name in _LOGS:
                try:
                    facts = os.lstat(name, dir_fd=source)
                except OSError:
                    continue
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_blocks * 512 <= self._log:
                    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(source)
            os.close(target)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "logs").mkdir(mode=0o755, exist_ok=True)


async def clear_unknown(launcher: Launcher, registry: Registry, gone: Gone) -> None:
    """Remove unknown folders that an earlier agent left."""
    for name in launcher.known():
        if registry.get(name) is None:
            logger.warning("folder_unknown", folder=name)
            await gone.take(launcher.path(name))
