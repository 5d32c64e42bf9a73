"""The removal of crashed instances: when their time is over, and earlier where others need the room."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from components.common import log
from components.common.filesystem.gone import Gone
from components.dea.instances.instance import Instance, facts
from components.dea.instances.registry import Registry

logger = log.get(__name__)


class Reaper:
    """The removal of crashed instances.

    Args:
        registry: all instances.
        gone: tells whether a removal has shown its effect.
        keep: seconds for which a crashed one stays.
        discard: removes one.
    """

    def __init__(
        self, registry: Registry, gone: Gone, keep: float, discard: Callable[[Instance], Awaitable[None]]
    ) -> None:
        self._registry, self._gone, self._keep, self._discard = registry, gone, keep, discard

    async def reap(self) -> None:
        """Remove crashed instances whose time is over, and the oldest where all together hold too much."""
        for instance in self._registry.expired(time.time(), self._keep):
            await self._try(instance)

    async def relieve(self) -> None:
        """On a full disk, remove the oldest; the next one after that has shown its effect."""
        if self._registry.disk_full and not self._gone.busy:
            for instance in self._registry.crashed()[:1]:
                logger.warning("disk_full", reason=self._registry.disk_full, discarded=instance.id)
                await self._try(instance)

    async def _try(self, instance: Instance) -> None:
        try:
            await self._discard(instance)
        except Exception:
            # The others' time is over as well.
            logger.exception("instance_not_removed", **facts(instance))
