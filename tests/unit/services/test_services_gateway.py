"""A gateway's word to the controllers: what it says last is carried out last."""

import asyncio

from components.common.bus.client import Bus
from components.common.config import parse
from components.common.identity import Identity
from components.services.base.config import GatewayConfig
from components.services.redis.gateway import RedisGateway

CONFIG = {
    "bus": {"urls": ["nats://h:4222"]},
    "status": {"port": 9081},
    "controllers": ["http://h:9022"],
    "token": "long enough",
    "version": "7.0",
    "base_dir": "/var/lib/x",
}


class SlowControllers:
    """Carries a registration out when `prompt` is set, as a busy controller does: whether or not the asker still waits."""

    def __init__(self):
        self.asked, self.prompt, self.heard = asyncio.Event(), asyncio.Event(), []

    async def register(self, offering):
        if offering["active"]:
            self.asked.set()
            try:
                await self.prompt.wait()
            except asyncio.CancelledError:
                self.heard.append("broken off")
                raise
        self.heard.append(offering["active"])

    async def handles(self):
        return []

    async def close(self):
        self.heard.append("closed")


async def test_a_registration_under_way_is_not_overtaken_by_the_goodbye():
    config = parse(CONFIG, GatewayConfig)
    gateway = RedisGateway(config, Bus(config.bus, "gateway"), Identity.fresh("RaaS-Provisioner", 0))
    gateway._controllers = controllers = SlowControllers()
    await gateway.start()
    await controllers.asked.wait()
    stop = asyncio.create_task(gateway.stop())
    done, _ = await asyncio.wait({stop}, timeout=0.05)
    assert not done
    controllers.prompt.set()
    await asyncio.wait_for(stop, 20)
    assert controllers.heard == [True, False, "closed"]
