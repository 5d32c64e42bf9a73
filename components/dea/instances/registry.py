"""The instances of a DEA, and their reservations; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from components.common.bus.messages import Capacity, DeaDiscover, FindDroplet, Limits
from components.common.states import InstanceState
from components.dea.errors import NoRoomError
from components.dea.instances.instance import HOLDING, Instance

# The largest step back of a clock that is kept right.
_CLOCK_SECONDS = 60.0
# Protocol 4.3, milliseconds.
_TAINT_PER_INSTANCE, _TAINT_FOR_MEMORY, _TAINT_CAP = 10, 100, 250

# The part of the disk that crashed instances may hold: they are a convenience, and others wait for the room.
_KEPT_SHARE = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of the machine: MB, MB, and a number."""

    memory: int
    disk: int
    instances: int


class Registry:
    """Instances and one-off tasks by id; only `tasks`, `watched`, `capacity` and iteration know of tasks.

    Args:
        bounds: the limits of reservations.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        # The file system's shortage, whatever was reserved of it; empty where it has room.
        self.disk_full = ""
        self._instances: dict[str, Instance] = {}

    def __iter__(self) -> Iterator[Instance]:
        """Iterate over all records in the order of their addition; a copy, so that they may be removed meanwhile."""
        return iter(list(self._instances.values()))

    def __len__(self) -> int:
        return len(self._instances)

    def get(self, instance_id: str) -> Instance | None:
        """Return the record of an id."""
        return self._instances.get(instance_id)

    def add(self, instance: Instance) -> None:
        """Add a record, without a check of the room: call `check_room` before."""
        self._instances[instance.id] = instance

    def remove(self, instance: Instance) -> None:
        """Forget a record."""
        self._instances.pop(instance.id, None)

    def live(self) -> list[Instance]:
        """Return the instances that start or run."""
        return [i for i in self if i.live and not i.is_task]

    def in_state(self, *states: InstanceState) -> list[Instance]:
        """Return the instances in one of the states."""
        return [i for i in self if i.state in states and not i.is_task]

    def tasks(self) -> list[Instance]:
        """Return the one-off tasks, including ended ones that are still here."""
        return [i for i in self if i.is_task]

    def watched(self) -> list[Instance]:
        """Return the instances and tasks that have processes."""
        return [i for i in self if i.live]

    def find(
        self,
        droplet: int,
        *,
        version: str | None = None,
        instances: Collection[str] | None = None,
        indices: Collection[int] | None = None,
        states: Collection[str] | None = None,
    ) -> list[Instance]:
        """Return an application's instances that match every given filter, but none that is being stopped."""
        return [
            i
            for i in self
            if i.droplet == droplet
            and not i.is_task
            and i.state not in (InstanceState.STOPPING, InstanceState.DELETED)
            and i.matches(version, instances, indices, states)
        ]

    def asked_for(self, query: FindDroplet) -> list[Instance]:
        """Return the instances for `dea.find.droplet`; both names of the list of instances are honoured."""
        wanted = query.instances if query.instances is not None else query.instance_ids
        return self.find(
            query.droplet,
            version=query.version,
            instances=wanted,
            indices=query.indices,
            states=query.states,
        )

    def capacity(self) -> Capacity:
        """Return the capacity and its taken part; crashed instances take disk alone, and a full disk counts as all taken."""
        holding = [i for i in self if i.state in HOLDING]
        disk = sum(i.limits.disk for i in holding) + sum(i.kept_mb for i in self.crashed())
        return Capacity(
            memory=self.bounds.memory,
            memory_reserved=sum(i.limits.mem for i in holding),
            disk=self.bounds.disk,
            disk_reserved=max(disk, self.bounds.disk) if self.disk_full else disk,
            instances=len(holding),
            max_instances=self.bounds.instances,
        )

    def check_room(self, limits: Limits) -> None:
        """Check that one more instance fits.

        Raises:
            NoRoomError: naming what is lacking.
        """
        now = self.capacity()
        if now.instances >= now.max_instances:
            raise NoRoomError(f"{now.instances} instances are here, which is as many as may be")
        if self.disk_full:
            raise NoRoomError(f"the file system of instances is nearly full: {self.disk_full}")
        if now.memory_reserved + limits.mem > now.memory:
            raise NoRoomError(f"{limits.mem} MB of memory wanted, {now.memory - now.memory_reserved} MB free")
        # Remains of crashed instances give way where an instance needs the room.
        free = now.disk - now.disk_reserved + sum(i.kept_mb for i in self.crashed())
        if limits.disk > free:
            raise NoRoomError(f"{limits.disk} MB of disk wanted, {free} MB free")

    def taint(self, droplet: int) -> float:
        """Return the seconds to wait before answering `dea.discover`: emptier DEAs answer first."""
        same = sum(1 for i in self.live() if i.droplet == droplet)
        reserved = self.capacity().memory_reserved / max(self.bounds.memory, 1)
        return min(_TAINT_CAP, _TAINT_PER_INSTANCE * same + _TAINT_FOR_MEMORY * reserved) / 1000

    def counts(self) -> dict[str, int]:
        """Return the live instances by application, for the beat."""
        return dict(Counter(str(i.droplet) for i in self.live()))

    def crashed(self) -> list[Instance]:
        """Return the crashed instances that hold nothing but their folder, oldest first."""
        ended = [i for i in self.in_state(InstanceState.CRASHED) if i.released]
        return sorted(ended, key=lambda i: i.state_timestamp)

    def in_the_way(self, limits: Limits) -> list[Instance]:
        """Return the crashed instances that must go to free the disk for one more instance."""
        now = self.capacity()
        return self._oldest(now.disk_reserved + limits.disk - now.disk)

    def expired(self, now: float, keep: float) -> list[Instance]:
        """Return the crashed instances whose time is over, and the oldest where all hold more than their share of the disk.

        Where the clock was set back since, the time of an instance is unknown and counts as over.
        """
        crashed = self.in_state(InstanceState.CRASHED)
        late = [i for i in crashed if not -_CLOCK_SECONDS < now - i.state_timestamp < keep]
        held = sum(i.kept_mb for i in self.crashed())
        return late + [i for i in self._oldest(held - self.bounds.disk // _KEPT_SHARE) if i not in late]

    def _oldest(self, excess: int) -> list[Instance]:
        """Return the oldest crashed instances that together hold so many MB."""
        chosen = []
        for instance in self.crashed():
            if excess <= 0:
                break
            if instance.kept_mb:
                chosen.append(instance)
                excess -= instance.kept_mb
        return chosen


def answers_discover(query: DeaDiscover, registry: Registry, runtimes: Iterable[str]) -> bool:
    """Return whether to answer `dea.discover` (protocol 4.3); the caller checks for evacuation."""
    if query.runtime and query.runtime not in set(runtimes):
        return False
    try:
        registry.check_room(query.limits)
    except NoRoomError:
        return False
    return True
