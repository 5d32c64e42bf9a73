"""One instance of an application: its record, and the states that it may pass through; pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from components.common.bus.messages import DeaStart, HealthCheck, HeartbeatEntry, Limits, RouterRegister
from components.common.bus.operation_messages import TaskEnded
from components.common.states import LIVE, InstanceState
from components.dea.errors import TransitionError

UNIT_PREFIX, TASK_PREFIX = "ingot-app-", "ingot-task-"
_MB = 1024 * 1024


_NEXT: dict[InstanceState, frozenset[InstanceState]] = {
    InstanceState.STARTING: frozenset({InstanceState.RUNNING, InstanceState.STOPPING, InstanceState.CRASHED}),
    InstanceState.RUNNING: frozenset({InstanceState.STOPPING, InstanceState.CRASHED}),
    InstanceState.STOPPING: frozenset({InstanceState.DELETED}),
    InstanceState.CRASHED: frozenset({InstanceState.DELETED}),
    InstanceState.DELETED: frozenset(),
}
# The states in which an instance holds memory and disk.
HOLDING = frozenset({*LIVE, InstanceState.STOPPING})


class TaskFacts(msgspec.Struct, kw_only=True):
    """The facts of a one-off task: `timeout` in seconds, its `deadline` since 1970, and, after its end, the result.

    `ends` is the deadline by the clock that counts from the machine's start and cannot be set; an agent of an earlier release
    knows the other one only.
    """

    timeout: float
    deadline: float
    ends: float | None = None
    ended: TaskEnded | None = None

    def left(self, wall: float, running: float) -> float:
        """Return the seconds until its deadline, at most its whole time.

        Args:
            wall: now, since 1970.
            running: now, since the machine's start.
        """
        left = self.deadline - wall if self.ends is None else self.ends - running
        return min(left, self.timeout)


class Instance(msgspec.Struct, kw_only=True):
    """The record of an instance, as the snapshot holds it, without the environment.

    Attributes:
        id: 32 hex characters.
        droplet: the application's id.
        started: when the start was requested, seconds since 1970.
        port: None for one that has no routes.
        uid: None where the sandbox gives none.
        state_file: named by `droplet.yaml`, relative to its folder.
        detail: why it ended, for a person.
        told: `droplet.exited` has been sent.
        released: port and uid have been given back.
        kept_mb: of a crashed one, the size of its folder.
        health: the proof that it is up.
        task: set for a one-off task; then `id` is the task's.
    """

    id: str
    droplet: int
    index: int
    name: str
    version: str
    uris: list[str]
    limits: Limits
    started: float
    runtime: str = ""
    framework: str = ""
    flapping: bool = False
    state: InstanceState = InstanceState.STARTING
    state_timestamp: int = 0
    port: int | None = None
    uid: int | None = None
    state_file: str | None = None
    detail: str = ""
    told: bool = False
    evacuated: bool = False
    released: bool = False
    kept_mb: int = 0
    health: HealthCheck | None = None
    task: TaskFacts | None = None

    @classmethod
    def of(cls, message: DeaStart, instance_id: str, now: float) -> Instance:
        """Return the record of a start message."""
        return cls(
            id=instance_id,
            droplet=message.droplet,
            index=message.index,
            name=message.name,
            version=message.version,
            uris=list(message.uris),
            limits=message.limits,
            started=now,
            runtime=message.runtime or "",
            framework=message.framework or "",
            flapping=message.flapping,
            health=message.health,
            state_timestamp=int(now),
        )

    @property
    def is_task(self) -> bool:
        """Return whether this is the record of a one-off task."""
        return self.task is not None

    @property
    def unit(self) -> str:
        """Return the name of its unit."""
        return (TASK_PREFIX if self.is_task else UNIT_PREFIX) + self.id

    @property
    def staged(self) -> str:
        """Return its name in the file server's paths."""
        return f"{self.name}-{self.index}-{self.id}"

    @property
    def live(self) -> bool:
        """Return whether it starts or runs."""
        return self.state in LIVE

    def move(self, state: InstanceState, now: float, detail: str = "") -> None:
        """Go to another state.

        Raises:
            TransitionError: its present state does not allow that.
        """
        if state not in _NEXT[self.state]:
            raise TransitionError(f"instance {self.id} cannot go from {self.state} to {state}")
        self.state = state
        self.state_timestamp = int(now)
        self.detail = detail or self.detail

    def matches(
        self,
        version: str | None = None,
        instances: Collection[str] | None = None,
        indices: Collection[int] | None = None,
        states: Collection[str] | None = None,
    ) -> bool:
        """Return whether it matches a filter (protocol 2.4); None matches all."""
        return (
            (version is None or self.version == version)
            and (instances is None or self.id in instances)
            and (indices is None or self.index in indices)
            and (states is None or self.state in states)
        )

    def entry(self) -> HeartbeatEntry:
        """Return its entry in a heartbeat."""
        return HeartbeatEntry(
            droplet=self.droplet,
            version=self.version,
            instance=self.id,
            index=self.index,
            state=self.state,
            state_timestamp=self.state_timestamp,
        )

    def route(self, dea: str, address: str, uris: list[str] | None = None) -> RouterRegister | None:
        """Return its routes, for `router.register` and `router.unregister`; None when it has none."""
        wanted = self.uris if uris is None else uris
        if self.port is None or not wanted:
            return None
        tags = {k: v for k, v in (("framework", self.framework), ("runtime", self.runtime)) if v}
        return RouterRegister(
            host=address,
            port=self.port,
            uris=list(wanted),
            dea=dea,
            app=self.droplet,
            tags=tags,
            private_instance_id=self.id,
        )

    def facts(self, address: str, now: float) -> dict[str, Any]:
        """Return the constant part of its statistics (protocol 1.10); quotas are bytes."""
        return {
            "name": self.name,
            "host": address,
            "port": self.port,
            "uris": list(self.uris),
            "uptime": round(now - self.started, 1),
            "mem_quota": self.limits.mem * _MB,
            "disk_quota": self.limits.disk * _MB,
            "fds_quota": self.limits.fds,
        }


def facts(instance: Instance) -> dict[str, object]:
    """Return the facts that every line of the log has about an instance."""
    return {
        "instance": instance.id,
        "app": instance.droplet,
        "name": instance.name,
        "instance_index": instance.index,
    }
