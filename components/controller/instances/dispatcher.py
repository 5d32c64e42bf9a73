"""The dispatch of instances: start messages to single DEAs, stop and update messages to all (protocol 2.4)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from prometheus_client import Counter

from components.common import log
from components.common.bus.messages import DeaDiscover, DeaHello, DeaStart, DeaStop, DropletRef
from components.common.bus.thread import BusThread
from components.common.errors import BusError
from components.controller.pool.placement import Need
from components.controller.pool.registry import EVACUATING, LOST, Pool

PLACEMENTS = Counter(
    "ingot_controller_placements_total", "Instances placed, or not for want of room.", ["result"]
)
# The memory that a stop has freed shows in the next beats.
ROOM_SECONDS = 3.0
DISCOVER_SECONDS = 2.0
_chooser = random.SystemRandom()
logger = log.get(__name__)


class Dispatcher:
    """The sender of start, stop and update messages; it places instances by the pool's data."""

    def __init__(self, bus: BusThread, pool: Pool) -> None:
        self._bus = bus
        self.pool = self._pool = pool

    def has_deas(self, message: DeaStart, patience: float = ROOM_SECONDS) -> bool:
        """Return whether there is any DEA, after a short wait for the first beats."""
        deadline = time.monotonic() + patience
        while not self._pool.any_up(time.monotonic()):
            if time.monotonic() >= deadline:
                return self._discover(message) is not None
            time.sleep(0.1)
        return True

    def start(self, message: DeaStart, indices: Iterable[int], patience: float = ROOM_SECONDS) -> int:
        """Start instances; return the number that found a place. The health manager requests the others again."""
        todo = list(indices)
        wanted = len(todo)
        need = Need(message.droplet, message.limits.mem, message.limits.disk, message.runtime or "")
        deadline = time.monotonic() + patience
        while todo:
            chosen = self._pool.reserve(need, len(todo), _chooser.choice, time.monotonic())
            for index, dea in zip(todo, chosen, strict=False):
                self._send(dea, message, index)
            todo = todo[len(chosen) :]
            if not todo or time.monotonic() >= deadline:
                break
            time.sleep(0.25)
        while todo and (dea_id := self._discover(message)):
            self._send(dea_id, message, todo.pop(0))
        PLACEMENTS.labels("placed").inc(wanted - len(todo))
        if todo:
            PLACEMENTS.labels("no_room").inc(len(todo))
            logger.warning(
                "instances_not_placed", app=message.droplet, indices=todo, memory=message.limits.mem
            )
        return wanted - len(todo)

    def stop(
        self,
        droplet: int,
        *,
        version: str | None = None,
        indices: Sequence[int] | None = None,
        instances: Sequence[str] | None = None,
    ) -> None:
        """Stop the matching instances on every DEA."""
        if indices is None and instances is None:
            self._pool.forget_placements(droplet)
        self._bus.publish(
            "dea.stop",
            DeaStop(
                droplet=droplet,
                version=version,
                indices=list(indices) if indices is not None else None,
                instances=list(instances) if instances is not None else None,
            ),
        )

    def update(self, message: DeaStart) -> bool:
        """Send every DEA the complete list of an application's routes; return False where there is no bus.

        The keys are those of a start message, as peers of 2011 expect, without its secrets, which only the starting DEA gets.
        """
        return self._bus.publish("dea.update", wire(msgspec.structs.replace(message, env=[], services=[])))

    def changed(self, droplet: int) -> None:
        """Tell the health managers to check an application."""
        self._bus.publish("droplet.updated", DropletRef(droplet=droplet))

    def _send(self, dea: str, message: DeaStart, index: int) -> None:
        sent = self._bus.publish(f"dea.{dea}.start", wire(msgspec.structs.replace(message, index=index)))
        logger.info("instance_placed", app=message.droplet, index=index, dea=dea, sent=sent)

    def _discover(self, message: DeaStart) -> str | None:
        """Return a DEA without `ingot.dea.beat`, found by `dea.discover`; one with beats that placement passed over is not taken."""
        if any(beat.capacity.memory for beat, _ in self._pool.beats()):
            return None
        ask = DeaDiscover(
            droplet=message.droplet,
            limits=message.limits,
            name=message.name,
            runtime=message.runtime,
            sha=message.sha1 or None,
        )
        try:
            hello = self._bus.request("dea.discover", ask, DeaHello, timeout=DISCOVER_SECONDS)
        except BusError:
            return None
        if self._pool.state(hello.id, time.monotonic()) in (EVACUATING, LOST):
            return None
        return hello.id


def wire(message: DeaStart) -> dict[str, Any]:
    """Return a start message for the bus; members beyond 2011 are present only with a value."""
    shown: dict[str, Any] = msgspec.to_builtins(message)
    if message.health is None:
        del shown["health"]
    return shown
