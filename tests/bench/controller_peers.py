"""The peers of a controller in the benchmark: DEAs and a health manager for which every instance of every application runs.

python -m tests.bench.controller_peers NATS_URL INSTANCES
"""

from __future__ import annotations

import asyncio
import sys
import time

from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import (
    Capacity,
    DeaBeat,
    FindDroplet,
    FoundDroplet,
    HealthQuery,
    HealthReply,
    IndicesReply,
    InstancesReply,
    StatusQuery,
)
from components.common.config import BusConfig

STATS = {
    "host": "198.18.0.6",
    "port": 61001,
    "uptime": 3600,
    "mem_quota": 67_108_864,
    "disk_quota": 2_147_483_648,
    "fds_quota": 256,
    "cores": 2,
    "usage": {"time": "2011-04-12 00:00:00 +0000", "cpu": 1.5, "mem": 20480.0, "disk": 1_000_000},
}


class Peers:
    """All peers on one connection."""

    def __init__(self, url: str, instances: int) -> None:
        self.instances = instances
        self.bus = Bus(BusConfig(urls=[url]), "peers")
        self.bus.subscribe("healthmanager.health", HealthQuery, self._health)
        self.bus.subscribe("healthmanager.status", StatusQuery, self._status)
        self.bus.subscribe("dea.find.droplet", FindDroplet, self._find)

    async def run(self) -> None:
        """Answer, and beat, until killed."""
        await self.bus.start()
        await self.bus.wait_connected(20)
        while True:
            for number in range(2):
                beat = DeaBeat(
                    id=f"dea{number}",
                    address="198.18.0.6",
                    capacity=Capacity(memory=65_536),
                    zone=f"z{number}",
                )
                await self.bus.publish("ingot.dea.beat", beat)
            await asyncio.sleep(1)

    async def _health(self, message: Incoming[HealthQuery]) -> None:
        for asked in message.body.droplets:
            reply = HealthReply(droplet=asked["droplet"], version=asked["version"], healthy=self.instances)
            await message.respond(reply)

    async def _status(self, message: Incoming[StatusQuery]) -> None:
        flapping = message.body.state == "FLAPPING"
        await message.respond(IndicesReply(indices=[]) if flapping else InstancesReply(instances=[]))

    async def _find(self, message: Incoming[FindDroplet]) -> None:
        query = message.body
        for index in range(self.instances):
            await message.respond(
                FoundDroplet(
                    dea=f"dea{index % 2}",
                    version=query.version or "",
                    droplet=query.droplet,
                    instance=f"{query.droplet:016x}{index:016x}",
                    index=index,
                    state="RUNNING",
                    state_timestamp=int(time.time()) - 3600,
                    stats={"name": "bench", "uris": ["bench.ingot.localhost"], **STATS}
                    if query.include_stats
                    else None,
                )
            )


if __name__ == "__main__":
    asyncio.run(Peers(sys.argv[1], int(sys.argv[2])).run())
