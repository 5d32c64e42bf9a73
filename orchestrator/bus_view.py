"""The DEAs' beats and the endpoints registered with the routers, as heard on the bus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.common.bus.client import Incoming
from components.common.bus.messages import DeaBeat, RouterRegister
from components.common.bus.thread import BusThread

# A DEA counts as alive for so many of its intervals, and at least for so many seconds: a loop may be late once.
_INTERVALS, _AT_LEAST = 3.0, 3.0
# DEAs that were silent for so long are forgotten.
_KEPT_SECONDS = 3600.0
# Routers prune an endpoint that is not registered again for two minutes (protocol 3.2); this module does too.
_ENDPOINT_SECONDS = 120.0
# Age changes without a message, so conditions are also checked again after so long.
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Dea:
    """A DEA as of its last beat. Memory in MB.

    Attributes:
        id: for `ingot.dea.<id>.evacuate`.
        address: of its machine.
        release: of its agent.
        evacuating: takes no instances (or is stopping).
        droplets: live instances by application id (as text).
        memory: for instances.
        reserved: the reserved part of it.
        max_instances: the largest number of instances.
        zone: of its machine.
        age: seconds since the beat.
        fresh: the beat is not older than three of its intervals, or three seconds.
        tasks: ids of the one-off tasks that run there.
    """

    id: str
    address: str
    release: str
    evacuating: bool
    droplets: Mapping[str, int]
    memory: int
    reserved: int
    max_instances: int
    zone: str
    age: float
    fresh: bool
    tasks: Sequence[str] = ()

    @property
    def instances(self) -> int:
        """Return the number of its live instances."""
        return sum(self.droplets.values())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint registered with the routers."""

    address: str
    port: int
    app: int | None
    instance: str
    uris: frozenset[str]


class BusView:
    """The present beats and endpoints. Make it before `bus.start()`: it subscribes at once.

    Args:
        bus: None in tests, which call `on_beat`, `on_register` and `on_unregister` themselves.
        clock: seconds that only grow.
    """

    def __init__(self, bus: BusThread | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._deas: dict[str, tuple[DeaBeat, float]] = {}
        self._endpoints: dict[tuple[str, int], tuple[Endpoint, float]] = {}
        if bus is not None:
            bus.subscribe("ingot.dea.beat", DeaBeat, self._heard_beat)
            bus.subscribe("router.register", RouterRegister, self._heard_register)
            bus.subscribe("router.unregister", RouterRegister, self._heard_unregister)

    def deas(self) -> list[Dea]:
        """Return every DEA heard of in the last hour, by id."""
        now = self._clock()
        with self._changed:
            return [_dea(beat, now - at) for _, (beat, at) in sorted(self._deas.items())]

    def at(self, address: str) -> Dea | None:
        """Return the DEA of a machine, the one heard last: a new agent may have a new id."""
        return min((d for d in self.deas() if d.address == address), key=lambda d: d.age, default=None)

    def endpoints(self, address: str | None = None) -> list[Endpoint]:
        """Return the endpoints registered with the routers that are not outdated, of one machine or of all."""
        now = self._clock()
        with self._changed:
            return [
                endpoint
                for (host, _), (endpoint, at) in sorted(self._endpoints.items())
                if address in (None, host) and now - at <= _ENDPOINT_SECONDS
            ]

    def wait_for(self, condition: Callable[[BusView], bool], timeout: float) -> bool:
        """Wait until a condition holds.

        Args:
            condition: called at every message, and now and then without one, because beats grow old. It may use the view alone:
                no message is handled while it runs.
            timeout: in seconds.

        Returns:
            Whether it holds.
        """
        ends = time.monotonic() + timeout
        with self._changed:
            while not condition(self):
                left = ends - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, _LOOK_SECONDS))
            return True

    def forget(self, address: str) -> None:
        """Forget a removed machine; a new one at its address is heard anew."""
        with self._changed:
            for dea in [i for i, (beat, _) in self._deas.items() if beat.address == address]:
                del self._deas[dea]
            for key in [k for k in self._endpoints if k[0] == address]:
                del self._endpoints[key]
            self._changed.notify_all()

    def on_beat(self, beat: DeaBeat) -> None:
        """Record a beat."""
        now = self._clock()
        with self._changed:
            self._deas[beat.id] = (beat, now)
            for dea in [i for i, (_, at) in self._deas.items() if now - at > _KEPT_SECONDS]:
                del self._deas[dea]
            self._changed.notify_all()

    def on_register(self, route: RouterRegister) -> None:
        """Record a registration; a port that now belongs to another instance has changed hands."""
        now = self._clock()
        key = (route.host, route.port)
        instance = route.private_instance_id or ""
        with self._changed:
            known = self._endpoints.get(key)
            uris = frozenset(route.uris)
            if known is not None and known[0].instance == instance:
                uris |= known[0].uris
            self._endpoints[key] = (Endpoint(route.host, route.port, route.app, instance, uris), now)
            for old in [k for k, (_, at) in self._endpoints.items() if now - at > _ENDPOINT_SECONDS]:
                del self._endpoints[old]
            self._changed.notify_all()

    def on_unregister(self, route: RouterRegister) -> None:
        """Record an unregistration; an endpoint without hosts is gone."""
        key = (route.host, route.port)
        with self._changed:
            known = self._endpoints.get(key)
            if known is None:
                return
            endpoint, at = known
            if route.private_instance_id and endpoint.instance not in ("", route.private_instance_id):
                return
            left = endpoint.uris - frozenset(route.uris)
            if left:
                fresh = Endpoint(endpoint.address, endpoint.port, endpoint.app, endpoint.instance, left)
                self._endpoints[key] = (fresh, at)
            else:
                del self._endpoints[key]
            self._changed.notify_all()

    async def _heard_beat(self, message: Incoming[DeaBeat]) -> None:
        self.on_beat(message.body)

    async def _heard_register(self, message: Incoming[RouterRegister]) -> None:
        self.on_register(message.body)

    async def _heard_unregister(self, message: Incoming[RouterRegister]) -> None:
        self.on_unregister(message.body)


def _dea(beat: DeaBeat, age: float) -> Dea:
    return Dea(
        id=beat.id,
        address=beat.address,
        release=beat.release,
        evacuating=beat.evacuating or beat.stopping,
        droplets={app: n for app, n in beat.droplets.items() if n > 0},
        memory=beat.capacity.memory,
        reserved=beat.capacity.memory_reserved,
        max_instances=beat.capacity.max_instances,
        zone=beat.zone,
        age=age,
        fresh=age <= max(_AT_LEAST, _INTERVALS * beat.interval),
        tasks=tuple(beat.tasks),
    )
