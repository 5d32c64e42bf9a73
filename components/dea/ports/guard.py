"""The guard of instances' ports: a route leads to its instance or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from components.common import log
from components.common.states import InstanceState
from components.dea.instances.instance import Instance
from components.dea.instances.registry import Registry
from components.dea.ports import listeners

logger = log.get(__name__)


class PortGuard:
    """The guard of all running instances' ports.

    Args:
        registry: the instances.
        lose: begins to remove an instance's routes and to end it as crashed, with a reason for its owner.
        read: returns the listeners; blocks.
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
        """Check all listeners once, and end the instances whose port is taken by others."""
        routed = [i for i in self._registry.in_state(InstanceState.RUNNING) if i.port is not None]
        if not routed:
            return
        table = await asyncio.to_thread(self._read)
        for instance in routed:
            others = listeners.strangers(instance, table)
            if others and instance.state is InstanceState.RUNNING:
                logger.error("port_taken", instance=instance.id, port=instance.port, uids=others)
                self._lose(instance, listeners.taken(instance, others))
        # Each of these has run its first step: none of the instances counts as running when the caller goes on.
        await asyncio.sleep(0)
