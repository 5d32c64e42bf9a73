"""The DEA's replies about its instances, and its `/varz`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from components.common.bus.client import Incoming
from components.common.bus.messages import DeaHello, FindDroplet, FoundDroplet
from components.common.bus.operation_messages import TaskReply
from components.common.states import InstanceState
from components.dea.agent_state import AgentState
from components.dea.bus.announcer import VERSION
from components.dea.instances.instance import Instance
from components.dea.instances.registry import Registry
from components.dea.limits.enforcer import LimitEnforcer
from components.dea.limits.procfs import controllers
from components.dea.limits.usage import Usage


class Replies:
    """The handlers of a DEA's questions.

    Args:
        registry: the instances.
        state: the agent's.
        enforcer: the usage of instances.
        credentials: user and password of the file server.
    """

    def __init__(
        self, registry: Registry, state: AgentState, enforcer: LimitEnforcer, credentials: list[str]
    ) -> None:
        self._registry = registry
        self._state = state
        self._enforcer = enforcer
        self._credentials = credentials
        # The limits that the kernel enforces; others are watched only.
        self._hard = [name for name in ("cpu", "memory", "pids") if name in controllers()]

    async def on_find(self, message: Incoming[FindDroplet]) -> None:
        """Answer `dea.find.droplet` for each instance that matches."""
        for instance in self._registry.asked_for(message.body):
            with_stats = message.body.include_stats and instance.state is InstanceState.RUNNING
            await message.respond(
                FoundDroplet(
                    dea=self._state.dea,
                    version=instance.version,
                    droplet=instance.droplet,
                    instance=instance.id,
                    index=instance.index,
                    state=instance.state,
                    state_timestamp=instance.state_timestamp,
                    file_uri=f"http://{self._state.address}:{self._state.files_port}/droplets/",
                    credentials=self._credentials,
                    staged=instance.staged,
                    log_uri=self.log_uri(instance.id),
                    stats=self.stats(instance) if with_stats else None,
                )
            )

    async def on_status(self, message: Incoming[object]) -> None:
        """Answer `dea.status`."""
        now = self._registry.capacity()
        await message.respond(
            DeaHello(
                id=self._state.dea,
                ip=self._state.address,
                port=self._state.files_port,
                version=VERSION,
                max_memory=now.memory,
                reserved_memory=now.memory_reserved,
                used_memory=self._used_mb(),
                num_clients=now.instances,
                state="SHUTTING_DOWN" if self._state.leaving else None,
            )
        )

    async def on_droplet_status(self, message: Incoming[object]) -> None:
        """Answer `droplet.status` for each live instance."""
        for instance in self._registry.live():
            facts = instance.facts(self._state.address, time.time())
            await message.respond({**facts, **self._usage(instance)})

    def log_uri(self, name: str) -> str:
        """Return the address of the numbered lines of an instance or a task."""
        return f"http://{self._state.address}:{self._state.files_port}/logs/{name}"

    def with_log(self, reply: TaskReply) -> TaskReply:
        """Return a reply about a task, with the address of its log where the task is here."""
        if reply.error is not None:
            return reply
        return msgspec.structs.replace(reply, log_uri=self.log_uri(reply.task), credentials=self._credentials)

    def stats(self, instance: Instance) -> dict[str, Any]:
        """Return the statistics of protocol 1.10; `usage` is missing until the first sample."""
        facts = instance.facts(self._state.address, time.time())
        return {**facts, "cores": os.cpu_count() or 1, **self._usage(instance)}

    def varz(self) -> dict[str, object]:
        """Return the DEA's part of `/varz` (protocol 3.5)."""
        now = self._registry.capacity()
        shown: dict[str, object] = {
            "apps_max_memory": now.memory,
            "apps_reserved_memory": now.memory_reserved,
            "apps_used_memory": self._used_mb(),
            "num_apps": len(self._registry.in_state(*InstanceState)),
            "num_tasks": len(self._registry.tasks()),
            "hard_limits": self._hard,
            "running_apps": len(self._registry.in_state(InstanceState.RUNNING)),
            "frameworks": self._by(lambda i: i.framework),
            "runtimes": self._by(lambda i: i.runtime),
            "evacuating": self._state.evacuating,
            "old_units": self._state.renewal.left({i.id for i in self._registry.live()}),
        }
        return {**shown, "state": "SHUTTING_DOWN"} if self._state.leaving else shown

    def _usage(self, instance: Instance) -> dict[str, Any]:
        usage = self._enforcer.usage(instance.id)
        return {} if usage is None else {"usage": _shown(usage)}

    def _used_mb(self) -> float:
        samples = (self._enforcer.usage(i.id) for i in self._registry.live())
        return round(sum(s.mem for s in samples if s is not None) / 1024, 1)

    def _by(self, key: Callable[[Instance], str]) -> dict[str, dict[str, float]]:
        table: dict[str, dict[str, float]] = {}
        for instance in self._registry.live():
            row = table.setdefault(
                key(instance) or "none",
                {"used_memory": 0, "reserved_memory": 0, "used_disk": 0, "used_cpu": 0},
            )
            row["reserved_memory"] += instance.limits.mem * 1024
            usage = self._enforcer.usage(instance.id)
            if usage is not None:
                row["used_memory"] += usage.mem
                row["used_disk"] += usage.disk
                row["used_cpu"] += usage.cpu
        return table


def _shown(usage: Usage) -> dict[str, Any]:
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(usage.time))
    return {"time": when, "cpu": usage.cpu, "mem": usage.mem, "disk": usage.disk}
