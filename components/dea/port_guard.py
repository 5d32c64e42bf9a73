"""The guard of instances' ports: a route leads to the instance it was made for, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from components.common import log
from components.dea import listeners
from components.dea.instance import Instance, State
from components.dea.registry import Registry

logger = log.get(__name__)


class PortGuard:
    """Looks after the ports of all that run.

    Args:
        registry: the instances.
        lose: begins to take an instance out of the routes and to end it as crashed, with the reason its owner reads.
        read: gives who listens; blocks.
    """

    def __init__(
        self,
        registry: Registry,
        lose: Callable[[Instance, str], None],
        read: Callable[[], listeners.Table] = listeners.read,
    ) -> None:
        self._registry = registry
        self._lose, self._read = lose, read

    async def look(self) -> None:
        """Look once at who listens, however many instances there are, and end those whose port others have."""
        routed = [i for i in self._registry.in_state(State.RUNNING) if i.port is not None]
        if not routed:
            return
        table = await asyncio.to_thread(self._read)
        for instance in routed:
            others = listeners.strangers(instance, table)
            if others and instance.state is State.RUNNING:
                logger.error("port_taken", instance=instance.id, port=instance.port, uids=others)
                self._lose(instance, listeners.taken(instance, others))
        # What was begun has its first turn: none of them counts as running when whoever asked goes on.
        await asyncio.sleep(0)
