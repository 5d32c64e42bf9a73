"""Where a build happens: a box on disk for each task, and the unit that runs in it.

On disk: `tasks/<task id>/` is root's and holds `output.log`; `box/` in it is the build's own uid's. `cache/<app id>/` is
what package managers keep, one for each application, so that no application can feed another a forged package.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from components.common import log
from components.common.units import ProcessRunner, Runner, SystemdRunner, UnitSpec, UnitStatus
from components.stager.archive import Limits
from components.stager.build import DROPLET, RESULT, Job, Result
from components.stager.config import StagerConfig
from components.stager.environment import build_environment
from components.stager.errors import StagingError
from components.stager.plugin import Service, Tools

PREFIX = "ingot-staging-"
SLICE = "ingot-staging.slice"
_MB = 1024 * 1024
_MOST_RESULT = 64 * 1024
_OPEN_FILES = 4096
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Box:
    """One task's place: `path` is the build's, `output` its log, `cache` its application's package cache."""

    task_id: str
    path: Path
    cache: Path
    output: Path
    uid: int | None

    @property
    def package(self) -> Path:
        """Where the application's zip belongs."""
        return self.path / "package.zip"

    @property
    def unit(self) -> str:
        """The name of the unit."""
        return f"{PREFIX}{self.task_id}"


class Sandbox:
    """Makes boxes, runs builds in them, and takes them away.

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

    async def prepare(self) -> None:
        """Make the work folder, and remove what a stager that died left behind.

        Raises:
            OSError: the work folder cannot be made.
            UnitError: the service manager cannot be reached.
        """
        for folder in (self._root, self._tasks, self._caches):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in await self._runner.names(PREFIX):
            logger.warning("leftover_build_ended", unit=name)
            await self._runner.stop(name, 0)
        await asyncio.to_thread(_empty, self._tasks)

    async def open(self, task_id: str, app_id: int) -> Box:
        """Make a task's box."""
        uid = self._take_uid()
        box = Box(
            task_id,
            path=self._tasks / task_id / "box",
            cache=self._caches / str(app_id),
            output=self._tasks / task_id / "output.log",
            uid=uid,
        )
        await asyncio.to_thread(_make, box)
        return box

    async def start(self, box: Box, properties: Mapping[str, Any]) -> None:
        """Start the build of a box whose package is in place.

        Args:
            box: the task's.
            properties: of the application, as the controller sent them (section 7.2).

        Raises:
            UnitError: the unit could not be started.
        """
        config = self._config
        meta = properties.get("meta")
        job = Job(
            package=str(box.package),
            box=str(box.path),
            cache=str(box.cache),
            framework=str(properties.get("framework") or ""),
            runtime=str(properties.get("runtime") or ""),
            meta=meta if isinstance(meta, dict) else {},
            tools=Tools(
                config.python,
                config.npm,
                tuple(config.pip_extra_args),
                config.ruby,
                config.gem_index_url,
                config.java,
                config.tomcat,
            ),
            limits=Limits(config.max_files, config.max_unpacked_mb, config.max_droplet_mb),
            services=bound(properties.get("services")),
        )
        path = box.path / "job.json"
        path.write_bytes(msgspec.json.encode(job))
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
                # One file may be as large as all of them.
                file_mb=config.disk_mb,
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
        """End what still runs in the box, and remove it; the cache stays."""
        try:
            await self._runner.stop(box.unit, 0)
        finally:
            await asyncio.to_thread(_remove, box.path.parent)
            if await asyncio.to_thread(_bytes, box.cache) > self._config.disk_mb // 2 * _MB:
                # One that takes so much would leave the next build no room.
                await asyncio.to_thread(_remove, box.cache)
            if box.uid is not None:
                self._uids.discard(box.uid)
            await asyncio.to_thread(_prune, self._caches, self._config.keep_caches)

    async def shut(self) -> None:
        """Let go of the service manager."""
        await self._runner.close()

    def free_mb(self) -> int:
        """Give the free space of the work folder's disk."""
        return shutil.disk_usage(self._root).free // _MB

    def used_mb(self, box: Box) -> int:
        """Give what a build and its cache take of the disk. Blocks."""
        return (_bytes(box.path) + _bytes(box.cache)) // _MB

    def _take_uid(self) -> int | None:
        if not self._isolated:
            return None
        uid = next(u for u in self._config.uids if u not in self._uids)
        self._uids.add(uid)
        return uid


def bound(services: object) -> tuple[Service, ...]:
    """Give name and kind of the bound services; their credentials have no business in a build."""
    items = services if isinstance(services, list) else []
    return tuple(
        Service(str(s.get("name") or ""), str(s.get("label") or "")) for s in items if isinstance(s, dict)
    )


def read_result(box: Box) -> Result:
    """Read what a build says it came to; a build that wrote nonsense is one that came to nothing."""
    try:
        with os.fdopen(open_plain(box.path / RESULT), "rb") as file:
            return msgspec.json.decode(file.read(_MOST_RESULT), type=Result)
    except (OSError, msgspec.MsgspecError):
        return Result(stage="compile")


def open_droplet(box: Box, most_mb: int) -> int:
    """Open the droplet of a build that ended; gives a file descriptor.

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


def open_plain(path: Path) -> int:
    """Open a file in a folder that foreign code could write to: no link, no pipe, no second name.

    Raises:
        OSError: it is not such a file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(handle)
        raise OSError(f"{path.name} is not a plain file")
    return handle


def _make(box: Box) -> None:
    task = box.path.parent
    task.mkdir(mode=0o755)
    box.cache.mkdir(exist_ok=True)
    for folder in (box.path, box.path / "home", box.path / "home" / "tmp"):
        folder.mkdir(mode=0o700)
        if box.uid is not None:
            os.chown(folder, box.uid, box.uid)
    box.output.touch(mode=0o600)
    os.utime(box.cache)
    if box.uid is not None:
        hand_over(box.cache, box.uid)


def hand_over(folder: Path, uid: int) -> None:
    """Give a cache that another uid's build filled to this one's; what is not a plain file or folder is removed.

    Done through folder descriptors: what a build left cannot lead root elsewhere.
    """
    for _path, folders, files, handle in os.fwalk(folder, follow_symlinks=False):
        os.fchown(handle, uid, uid)
        os.fchmod(handle, 0o700)
        for name in (*files, *folders):
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                continue
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                os.chown(name, uid, uid, dir_fd=handle, follow_symlinks=False)
            else:
                os.unlink(name, dir_fd=handle)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        _remove(path)


def _prune(caches: Path, keep: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        by_age = sorted(caches.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        for path in by_age[keep:]:
            _remove(path)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _bytes(folder: Path) -> int:
    """Count what is on the disk; what goes away meanwhile counts nothing."""
    total, pending = 0, [str(folder)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    return total


def _read_if_there(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
