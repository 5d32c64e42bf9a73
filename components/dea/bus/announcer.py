"""The DEA's announcements about itself and its instances (protocol 2)."""

from __future__ import annotations

import socket
import time

from components.common.bus.client import Bus
from components.common.bus.messages import DeaBeat, DeaHello, DropletExited, Heartbeat
from components.common.bus.operation_messages import DeaUsage, TaskEnded, UsageSample
from components.common.states import InstanceState
from components.common.version import release
from components.dea.agent_state import AgentState
from components.dea.instances.instance import Instance
from components.dea.instances.registry import Registry

# Protocol 2.4: the reasons for an exit on request, and for one that was not requested.
STOPPED, CRASHED, EVACUATED = "STOPPED", "CRASHED", "DEA_EVACUATION"
# The names of the protocol, as DEAs of 2011 sent them.
VERSION = 0.99
_BEATING = (InstanceState.STARTING, InstanceState.RUNNING, InstanceState.CRASHED)


class Announcer:
    """The publisher of a DEA's messages.

    Args:
        bus: the component's own.
        state: the agent's.
        registry: the instances.
        zone: the machine's.
        interval: seconds between beats.
        index: of the DEA.
    """

    def __init__(
        self, bus: Bus, state: AgentState, registry: Registry, *, zone: str, interval: float, index: int
    ) -> None:
        self._bus = bus
        self._state = state
        self._registry = registry
        self._zone, self._interval, self._index = zone, interval, index
        self._host = socket.gethostname()
        self._release = release()

    def beat(self) -> DeaBeat:
        """Return `ingot.dea.beat`."""
        return DeaBeat(
            id=self._state.dea,
            address=self._state.address,
            capacity=self._registry.capacity(),
            interval=self._interval,
            zone=self._zone,
            evacuating=self._state.evacuating,
            stopping=self._state.stopping,
            runtimes=self._state.runtimes.names,
            runtime_versions=self._state.runtimes.versions,
            droplets=self._registry.counts(),
            index=self._index,
            host=self._host,
            release=self._release,
            tasks=[i.id for i in self._registry.tasks() if not i.told],
            leaving=self._state.renewal.turn({i.id for i in self._registry.live()}, time.monotonic()),
        )

    def hello(self) -> DeaHello:
        """Return `dea.start`."""
        return DeaHello(
            id=self._state.dea, ip=self._state.address, port=self._state.files_port, version=VERSION
        )

    async def say_beat(self) -> None:
        """Publish `ingot.dea.beat`: every interval, full or empty."""
        await self._bus.publish("ingot.dea.beat", self.beat())

    async def say_hello(self) -> None:
        """Publish `dea.start`."""
        await self._bus.publish("dea.start", self.hello())

    async def say_heartbeat(self, only: Instance | None = None) -> None:
        """Publish `dea.heartbeat` for all instances or one; nothing where there is none."""
        chosen = self._registry.in_state(*_BEATING) if only is None else [only]
        if chosen:
            await self._bus.publish(
                "dea.heartbeat", Heartbeat([i.entry() for i in chosen], dea=self._state.dea)
            )

    async def say_advertise(self) -> None:
        """Publish `dea.advertise`, only while instances are taken and there is room for one."""
        now = self._registry.capacity()
        free = now.memory - now.memory_reserved
        if (
            free > 0
            and not self._registry.disk_full
            and now.instances < now.max_instances
            and not self._state.leaving
        ):
            await self._bus.publish(
                "dea.advertise",
                {"id": self._state.dea, "available_memory": free, "runtimes": self._state.runtimes.names},
            )

    async def register(self, instance: Instance, uris: list[str] | None = None) -> None:
        """Publish `router.register` for an instance's routes, or some of them."""
        route = instance.route(self._state.dea, self._state.address, uris)
        if route is not None:
            await self._bus.publish("router.register", route)

    async def unregister(self, instance: Instance, uris: list[str] | None = None) -> None:
        """Publish `router.unregister` for an instance's routes, or some of them."""
        route = instance.route(self._state.dea, self._state.address, uris)
        if route is not None:
            await self._bus.publish("router.unregister", route)

    async def register_all(self) -> None:
        """Publish `router.register` for all running instances."""
        for instance in self._registry.in_state(InstanceState.RUNNING):
            await self.register(instance)

    async def exited(self, instance: Instance, reason: str) -> None:
        """Publish `droplet.exited`, once for an instance; one that cannot be sent is sent when the bus is back."""
        if instance.told or instance.evacuated:
            return
        crashed = instance.state_timestamp if reason == CRASHED else None
        sent = await self._bus.publish(
            "droplet.exited",
            DropletExited(
                droplet=instance.droplet,
                version=instance.version,
                instance=instance.id,
                index=instance.index,
                reason=reason,
                crash_timestamp=crashed,
                cc_partition="default",
                detail=instance.detail,
            ),
        )
        if reason == EVACUATED:
            instance.evacuated = sent
        else:
            instance.told = sent

    async def task_ended(self, ended: TaskEnded) -> bool:
        """Publish `ingot.task.ended`; return False where there is no bus."""
        return await self._bus.publish("ingot.task.ended", ended)

    async def say_usage(self, at: float, seconds: float, samples: list[UsageSample]) -> bool:
        """Publish `ingot.dea.usage`; return False where there is no bus."""
        usage = DeaUsage(dea=self._state.dea, at=int(at), seconds=round(seconds, 1), samples=samples)
        return await self._bus.publish("ingot.dea.usage", usage)

    async def exited_untold(self) -> None:
        """Publish the exits that could not be sent while the bus was away."""
        for instance in self._registry.in_state(InstanceState.CRASHED):
            await self.exited(instance, CRASHED)
