"""The enforcer of limits that the kernel does not enforce: it samples the usage of instances and tasks (protocol 4.7)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from components.common.filesystem import trees
from components.common.filesystem.disk import room
from components.common.units import Runner
from components.dea.config import DeaConfig
from components.dea.instances.instance import Instance
from components.dea.instances.registry import Registry
from components.dea.limits.accounting import UsageAccounting
from components.dea.limits.procfs import (
    Process,
    group,
    held_memory,
    processes,
    proportional_kb,
    refused_tasks,
    unlinked_bytes,
)
from components.dea.limits.usage import Usage, excess, overcrowded, sample

# A folder that takes long to walk is walked less often.
_DISK_REST = 10
# An end so soon after the limit of tasks was met is attributed to it.
_OF_LATE = 60.0
# Consecutive walks that met folders moved away under them: one is chance, so many are intended.
_MOST_MOVES = 5


@dataclass(slots=True)
class _Disk:
    """The measurement of an instance's folder, the time of the next, and the number of failed ones in a row."""

    size: int = 0
    count: int = 0
    due: float = 0
    moved: int = 0


class LimitEnforcer:
    """The enforcer: it samples all live instances and tasks, and has those ended that exceed a limit.

    Args:
        registry: the instances.
        runner: knows their main processes.
        config: says whether they have uids of their own, and what bounds there are.
        folder: returns an instance's folder.
        end: ends one, with a reason for its owner, and whether its files are too large.
        accounting: sums the usage up.
    """

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        config: DeaConfig,
        *,
        folder: Callable[[Instance], Path],
        end: Callable[[Instance, str, bool], Awaitable[None]],
        accounting: UsageAccounting,
    ) -> None:
        self._registry = registry
        self._runner = runner
        self._config = config
        self._folder, self._end, self._accounting = folder, end, accounting
        self._by_uid = config.sandbox == "systemd"
        self._samples: dict[str, Usage] = {}
        self._disks: dict[str, _Disk] = {}
        # How often each was refused a task, and when that was last seen.
        self._refused: dict[str, int] = {}
        self._crowds: dict[str, float] = {}
        self._began = time.time()

    def usage(self, instance_id: str) -> Usage | None:
        """Return an instance's last sample."""
        return self._samples.get(instance_id)

    def crowded(self, instance_id: str) -> int | None:
        """Return the limit of tasks where an instance has met it lately; None where it has not."""
        when = self._crowds.get(instance_id)
        return self._config.tasks if when is not None and time.monotonic() - when < _OF_LATE else None

    async def look(self) -> None:
        """Sample once."""
        self._registry.disk_full = await asyncio.to_thread(
            _lack, Path(self._config.base_dir), self._config.disk_full
        )
        live = self._registry.watched()
        known = {i.id for i in self._registry}
        for table in (self._samples, self._disks, self._refused, self._crowds):
            for gone in table.keys() - known:
                del table[gone]
        if not live:
            return
        owners = await self._owners(live)
        found = await asyncio.to_thread(processes)
        own = group(found, lambda p: owners.get(p.uid if self._by_uid else p.session))
        for instance in live:
            await self._judge(instance, own.get(instance.id, []))

    async def _owners(self, live: list[Instance]) -> dict[int, str]:
        """Return the instance of each process's key, its uid or its session."""
        if self._by_uid:
            return {i.uid: i.id for i in live if i.uid is not None}
        statuses = [(i.id, await self._runner.status(i.unit)) for i in live]
        return {s.pid: instance_id for instance_id, s in statuses if s.pid is not None}

    async def _judge(self, instance: Instance, own: list[Process]) -> None:
        disk = await asyncio.to_thread(self._disk, instance, [p.pid for p in own])
        before = self._samples.get(instance.id)
        usage = sample(own, disk.size, time.time(), time.monotonic(), before)
        self._samples[instance.id] = usage
        self._accounting.note(instance, usage, before)
        memory = usage.mem
        over = memory > instance.limits.mem * 1024
        if over and await asyncio.to_thread(self._held, own, instance.limits.mem):
            # The kernel ends it at the limit, and reports it; the message must not depend on which of both comes
            # first.
            memory = 0.0
        elif over:
            # Workers of one server share most of their pages: these are counted once before a verdict.
            memory = await asyncio.to_thread(proportional_kb, [p.pid for p in own]) or memory
        reason = excess(memory, disk.size, instance.limits)
        much = excess(0, disk.size, instance.limits) or self._many(disk)
        reason = self._crowd(instance, own) or reason or much
        if reason is not None and instance.live:
            await self._end(instance, reason, much is not None)

    def _many(self, disk: _Disk) -> str | None:
        """Return in words that there are too many files, each of which takes an inode that others need."""
        if disk.count > self._config.most_files:
            return f"more than {self._config.most_files} files and folders"
        if disk.moved >= _MOST_MOVES:
            return "its folders are moved about while they are counted"
        return None

    def _held(self, own: list[Process], mem: int) -> bool:
        """Return whether the kernel holds an instance to its MB of memory, or it has ended meanwhile."""
        living = [p.pid for p in own if Path(f"/proc/{p.pid}").exists()]
        held = held_memory(living[0]) if living else 0
        return held is not None and held <= mem * 1024 * 1024

    def _crowd(self, instance: Instance, own: list[Process]) -> str | None:
        """Return in words that there are too many tasks; where it can, the kernel has refused further ones."""
        if not self._by_uid or not own:
            return None
        refused = refused_tasks(own[0].pid)
        # The observations of an earlier agent about an adopted instance are over.
        since = refused - self._refused.get(instance.id, 0 if instance.started > self._began else refused)
        self._refused[instance.id] = refused
        if since > 0:
            self._crowds[instance.id] = time.monotonic()
        return overcrowded(sum(p.threads for p in own), since, self._config.tasks)

    def _disk(self, instance: Instance, pids: list[int]) -> _Disk:
        """Measure an instance's files, including those without a name. Blocks."""
        known = self._disks.setdefault(instance.id, _Disk())
        began = time.monotonic()
        if began >= known.due:
            folder = self._folder(instance)
            found = trees.weigh(folder, self._config.most_files + 1)
            size = found.size
            try:
                size += unlinked_bytes(pids, folder.stat().st_dev)
            except FileNotFoundError:
                size = 0
            if found.whole or found.count > self._config.most_files:
                known.size, known.count, known.moved = size, found.count, 0
            else:
                # Only a part was counted, so the instance holds no less than that.
                known.size, known.count = max(known.size, size), max(known.count, found.count)
                known.moved += 1
            now = time.monotonic()
            known.due = now + _DISK_REST * (now - began)
        return known


def _lack(directory: Path, percent: float) -> str:
    """Return in words why a file system has no room for more instances; empty where it has room. Blocks."""
    return room(directory).lacks(percent) or ""
