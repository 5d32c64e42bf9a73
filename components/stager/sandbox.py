"""The sandbox of a build: a box on disk for each task, and the unit that runs in it.

On disk: `tasks/<task id>/` is root's and holds `output.log`; `box/` in it is the build's own uid's. `cache/<app id>/` is
what package managers keep, one for each application, so that no application can feed another a forged package. `.gone/` is
what waits for its removal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from components.common import aio, log
from components.common.errors import IngotError
from components.common.filesystem import trees
from components.common.filesystem.disk import room
from components.common.filesystem.gone import Gone
from components.common.filesystem.plain_files import open_plain
from components.common.units import ProcessRunner, Runner, SystemdRunner, UnitSpec, UnitStatus
from components.stager.archive import ArchiveLimits
from components.stager.build import DROPLET, RESULT, BuildOrder, BuildResult
from components.stager.config import StagerConfig
from components.stager.environment import build_environment
from components.stager.errors import StagingError
from components.stager.plugin import BuildTools, Service

PREFIX = "ingot-staging-"
SLICE = "ingot-staging.slice"
_MB = 1024 * 1024
_MOST_RESULT = 64 * 1024
# The growth of one file between two looks at the disk, which end the build and give the reason.
_BEYOND_MB = 1024
_OPEN_FILES = 4096
_RETRY_SECONDS = 5.0
# Percent; no number of inodes suits every disk.
_MOST_INODES = 99
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Box:
    """The folders of one task: `path` is the build's, `output` its log, `cache` its application's package cache."""

    task_id: str
    path: Path
    cache: Path
    output: Path
    uid: int | None

    @property
    def package(self) -> Path:
        """Return the path for the application's zip."""
        return self.path / "package.zip"

    @property
    def unit(self) -> str:
        """Return the name of the unit."""
        return f"{PREFIX}{self.task_id}"


class Sandbox:
    """The sandbox: it makes boxes, runs builds in them, and removes them.

    Args:
        config: the stager's.
        runner: runs the units; by default the one that `config.sandbox` names.
    """

    def __init__(self, config: StagerConfig, runner: Runner | None = None) -> None:
        self._config = config
        self._root = Path(config.work_dir)
        self._tasks, self._caches = self._root / "tasks", self._root / "cache"
        self._isolated = config.sandbox == "systemd"
        units = self._root / "units"
        self._runner = runner or (SystemdRunner(units) if self._isolated else ProcessRunner(units))
        self._uids: set[int] = set()
        self._gone = Gone(self._root / ".gone")
        self._ending: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Make the work folder, and remove the remains of a stager that died.

        Raises:
            OSError: the work folder cannot be made.
            UnitError: the service manager cannot be reached.
        """
        for folder in (self._root, self._tasks, self._caches):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in await self._runner.names(PREFIX):
            logger.warning("leftover_build_ended", unit=name)
            await self._runner.stop(name, 0)
        for path in sorted(self._tasks.iterdir()):
            await self._gone.take(path)
        self._gone.start()

    async def open(self, task_id: str, app_id: int) -> Box:
        """Make a task's box.

        Raises:
            StagingError: no uid is free.
            OSError: the disk refuses.
        """
        uid = self._take_uid()
        box = Box(
            task_id,
            path=self._tasks / task_id / "box",
            cache=self._caches / str(app_id),
            output=self._tasks / task_id / "output.log",
            uid=uid,
        )
        try:
            await asyncio.to_thread(_make, box)
            if uid is not None:
                await self._hand_cache(box, uid)
        except BaseException:
            await self._gone.take(box.path.parent)
            self._give_back(box)
            raise
        return box

    async def start(self, box: Box, properties: Mapping[str, Any]) -> None:
        """Start the build of a box whose package is in place.

        Args:
            box: the task's.
            properties: of the application, as the controller sent them (protocol 7.2).

        Raises:
            UnitError: the unit could not be started.
        """
        config = self._config
        meta = properties.get("meta")
        order = BuildOrder(
            package=str(box.package),
            box=str(box.path),
            cache=str(box.cache),
            framework=str(properties.get("framework") or ""),
            runtime=str(properties.get("runtime") or ""),
            meta=meta if isinstance(meta, dict) else {},
            tools=BuildTools(
                config.python,
                config.npm,
                tuple(config.pip_extra_args),
                config.ruby,
                config.gem_index_url,
                config.java,
                config.tomcat,
            ),
            limits=ArchiveLimits(config.max_files, config.max_unpacked_mb, config.max_droplet_mb),
            services=bound(properties.get("services")),
        )
        path = box.path / "job.json"
        path.write_bytes(msgspec.json.encode(order))
        path.chmod(0o644)
        await self._runner.start(
            UnitSpec(
                name=box.unit,
                argv=[sys.executable, "-I", "-u", "-m", "components.stager.build", str(path)],
                uid=box.uid,
                gid=box.uid,
                directory=box.path,
                environment=build_environment(
                    os.environ,
                    _read_if_there(Path(config.environment_file)),
                    box.path / "home",
                    config.pip_index_url,
                    config.npm_registry,
                ),
                memory_mb=config.memory_mb,
                tasks=config.processes,
                nofile=_OPEN_FILES,
                file_mb=config.disk_mb + _BEYOND_MB,
                writable=(box.path, box.cache),
                hidden=tuple(Path(p) for p in config.hidden_paths),
                empty=(self._root,),
                stdout=box.output,
                stderr=box.output,
                slice=SLICE,
                timeout_seconds=config.max_seconds,
            )
        )

    async def wait(self, box: Box) -> UnitStatus:
        """Wait for the build's end."""
        return await self._runner.wait(box.unit)

    async def kill(self, box: Box) -> None:
        """End the build at once."""
        await self._runner.kill(box.unit)

    async def close(self, box: Box) -> None:
        """End all processes in the box, and remove it; the cache stays. Never raises."""
        try:
            await self._runner.stop(box.unit, 0)
        except IngotError as error:
            logger.warning("build_not_ended", task=box.task_id, reason=str(error))
            aio.spawn(self._ending, self._end(box), f"end-{box.task_id}")
        else:
            self._give_back(box)
        try:
            await self._gone.take(box.path.parent)
            await self._tidy(box)
        except OSError:
            logger.exception("box_not_cleared", task=box.task_id)

    async def shut(self) -> None:
        """Close the connection to the service manager."""
        await aio.cancel_and_wait(self._ending)
        await self._gone.close()
        await self._runner.close()

    def room_problem(self) -> str | None:
        """Return in words why the work folder's disk is full; None where it has room. Blocks briefly."""
        space, least = room(self._root), self._config.min_free_mb
        if space.free_mb < least:
            return f"it has less than {least} MB left"
        if space.used_inodes > _MOST_INODES:
            return f"more than {_MOST_INODES} percent of its inodes are taken"
        return None

    @property
    def waiting(self) -> int:
        """Return how many boxes and caches wait for their removal."""
        return self._gone.waiting

    def used(self, box: Box) -> trees.Weight:
        """Return the size of a build and its cache on the disk. Blocks."""
        most = self._config.most_files + 1
        return trees.weigh(box.path, most) + trees.weigh(box.cache, most)

    async def _end(self, box: Box) -> None:
        """End a build whose service manager could not be reached; its uid is not reused while it may live."""
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            with contextlib.suppress(IngotError):
                await self._runner.stop(box.unit, 0)
                self._give_back(box)
                return

    async def _tidy(self, box: Box) -> None:
        """Remove a cache that would leave no room for the next build, and those that were not used for long."""
        config = self._config
        weight = await asyncio.to_thread(trees.weigh, box.cache, config.most_files // 2)
        if not weight.whole or weight.size > config.disk_mb // 2 * _MB:
            await self._gone.take(box.cache, again=False)
        for path in await asyncio.to_thread(_unused, self._caches, config.keep_caches):
            await self._gone.take(path, again=False)

    async def _hand_cache(self, box: Box, uid: int) -> None:
        """Hand an application's cache over to the uid of its next build; remove one that cannot be handed over."""
        try:
            await asyncio.to_thread(trees.hand_over, box.cache, uid, self._config.most_files)
        except OSError as error:
            logger.warning("cache_dropped", cache=box.cache.name, reason=error.strerror or str(error))
            if not await self._gone.take(box.cache, again=False):
                raise
            await asyncio.to_thread(_make_cache, box)
            await asyncio.to_thread(trees.hand_over, box.cache, uid, self._config.most_files)

    def _take_uid(self) -> int | None:
        if not self._isolated:
            return None
        uid = next((u for u in self._config.uids if u not in self._uids), None)
        if uid is None:
            raise StagingError(
                "queue", "builds that have ended are not cleared away yet", "Try again in a minute."
            )
        self._uids.add(uid)
        return uid

    def _give_back(self, box: Box) -> None:
        if box.uid is not None:
            self._uids.discard(box.uid)


def bound(services: object) -> tuple[Service, ...]:
    """Return name and kind of the bound services; a build does not get their credentials."""
    items = services if isinstance(services, list) else []
    return tuple(
        Service(str(s.get("name") or ""), str(s.get("label") or "")) for s in items if isinstance(s, dict)
    )


def read_result(box: Box) -> BuildResult:
    """Return a build's result; an invalid one counts as no result."""
    try:
        with os.fdopen(open_plain(box.path / RESULT), "rb") as file:
            return msgspec.json.decode(file.read(_MOST_RESULT), type=BuildResult)
    except (OSError, msgspec.MsgspecError):
        return BuildResult(stage="compile")


def open_droplet(box: Box, most_mb: int) -> int:
    """Open the droplet of a build that ended; return a file descriptor.

    Raises:
        StagingError: there is none, or it is not a plain file of allowed size.
    """
    try:
        handle = open_plain(box.path / DROPLET)
    except OSError as error:
        raise StagingError("pack", "the build left no droplet", "Push again.") from error
    if os.fstat(handle).st_size > most_mb * _MB:
        os.close(handle)
        raise StagingError("pack", f"the droplet is larger than {most_mb} MB", "Depend on less.")
    return handle


def _make(box: Box) -> None:
    task = box.path.parent
    task.mkdir(mode=0o755)
    for folder in (box.path, box.path / "home", box.path / "home" / "tmp"):
        folder.mkdir(mode=0o700)
        if box.uid is not None:
            os.chown(folder, box.uid, box.uid)
    box.output.touch(mode=0o600)
    _make_cache(box)


def _make_cache(box: Box) -> None:
    box.cache.mkdir(exist_ok=True)
    os.utime(box.cache)


def _unused(caches: Path, keep: int) -> list[Path]:
    """Return the caches beyond `keep`, least recently used."""
    used = []
    for path in caches.iterdir():
        with contextlib.suppress(FileNotFoundError):
            used.append((path.lstat().st_mtime, path))
    return [path for _when, path in sorted(used, reverse=True)[keep:]]


def _read_if_there(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
