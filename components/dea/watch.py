"""The watch over what instances use (section 4.7): where the kernel sets no limit, this does."""

from __future__ import annotations

import asyncio
import time

from components.common.units import Runner
from components.dea.config import DeaConfig
from components.dea.instance import Instance
from components.dea.keeper import Keeper
from components.dea.launcher import Launcher
from components.dea.monitor import (
    Process,
    Usage,
    disk_bytes,
    excess,
    group,
    processes,
    proportional_kb,
    sample,
)
from components.dea.registry import Registry


class Watch:
    """Samples all live instances and ends those that take too much.

    Args:
        registry: the instances.
        keeper: ends them.
        launcher: knows their folders.
        runner: knows their main processes.
        config: says whether they have uids of their own.
    """

    def __init__(
        self, registry: Registry, keeper: Keeper, launcher: Launcher, runner: Runner, config: DeaConfig
    ) -> None:
        self._registry = registry
        self._keeper = keeper
        self._launcher = launcher
        self._runner = runner
        self._by_uid = config.sandbox == "systemd"
        self._samples: dict[str, Usage] = {}

    def usage(self, instance_id: str) -> Usage | None:
        """Give an instance's last sample."""
        return self._samples.get(instance_id)

    async def look(self) -> None:
        """Sample once."""
        live = self._registry.live()
        self._samples = {i.id: s for i in live if (s := self._samples.get(i.id)) is not None}
        if not live:
            return
        owners = await self._owners(live)
        found = await asyncio.to_thread(processes)
        own = group(found, lambda p: owners.get(p.uid if self._by_uid else p.session))
        for instance in live:
            await self._judge(instance, own.get(instance.id, []))

    async def _owners(self, live: list[Instance]) -> dict[int, str]:
        """Map what a process is known by, its uid or its session, to its instance."""
        if self._by_uid:
            return {i.uid: i.id for i in live if i.uid is not None}
        statuses = [(i.id, await self._runner.status(i.unit)) for i in live]
        return {s.pid: instance_id for instance_id, s in statuses if s.pid is not None}

    async def _judge(self, instance: Instance, own: list[Process]) -> None:
        disk = await asyncio.to_thread(disk_bytes, self._launcher.directory(instance))
        usage = sample(own, disk, time.time(), self._samples.get(instance.id))
        self._samples[instance.id] = usage
        memory = usage.mem
        if memory > instance.limits.mem * 1024:
            # Workers of one server share most of their pages: count these once before a verdict.
            memory = await asyncio.to_thread(proportional_kb, [p.pid for p in own]) or memory
        reason = excess(memory, disk, instance.limits)
        if reason is not None:
            await self._keeper.end(instance, reason)
