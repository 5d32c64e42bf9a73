"""A bus that refuses whom it knows, for a while: everybody comes back to it, against a real nats-server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from common_rig import NatsServer, authorization, bus_of, up
from prometheus_client import REGISTRY

from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import DropletRef
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from tests.support.waiting import until_async

CREDENTIALS = authorization(password="another")


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that knows the contract's users."""
    server = NatsServer(tmp_path, users=True)
    server.start()
    yield server
    server.stop()


def refused() -> float:
    return REGISTRY.get_sample_value("ingot_bus_refused_total") or 0.0


class Pair:
    """A DEA that hears and answers, and a controller that asks it."""

    def __init__(self, closing: AsyncExitStack, server: NatsServer) -> None:
        self.dea, self.controller = bus_of(closing, server, "dea"), bus_of(closing, server, "controller")
        self.announced = 0
        self.dea.subscribe("dea.status", None, self._answer)
        self.dea.on_connect(self._announce)

    async def connect(self) -> None:
        for bus in (self.dea, self.controller):
            await up(bus)

    async def hears(self) -> bool:
        """Say whether the question arrives and the answer comes back."""
        if not self.controller.connected:
            return False
        found = await self.controller.request_many("dea.status", None, DropletRef, timeout=0.5, expected=1)
        return bool(found) and (await self.controller.request("dea.status", None, DropletRef)).droplet == 1

    async def _answer(self, message: Incoming[Any]) -> None:
        await message.respond(DropletRef(droplet=1))

    async def _announce(self) -> None:
        self.announced += 1


@pytest.mark.parametrize(
    "refusing",
    [CREDENTIALS, authorization() + "\nmax_connections: 1"],
    ids=["credentials", "connections"],
)
async def test_everybody_is_back_when_the_bus_no_longer_refuses(
    strict: NatsServer, closing: AsyncExitStack, refusing: str
) -> None:
    pair = Pair(closing, strict)
    await pair.connect()
    assert await pair.hears()
    announced, before = pair.announced, refused()
    strict.reload(refusing)
    await until_async(lambda: not (pair.dea.connected and pair.controller.connected), "refused")
    await until_async(lambda: refused() >= before + 2, "refused again and again")
    strict.reload(authorization())
    await until_async(pair.hears, "the bus serves both")
    if refusing == CREDENTIALS:
        await until_async(lambda: pair.announced > announced, "announced again")


async def test_a_daemon_that_starts_while_it_is_refused_comes_by_itself(
    strict: NatsServer, closing: AsyncExitStack
) -> None:
    strict.reload(CREDENTIALS)
    pair = Pair(closing, strict)
    before = refused()
    await pair.dea.start()
    await pair.controller.start()
    await until_async(lambda: refused() >= before + 4, "refused again and again")
    strict.reload(authorization())
    await until_async(pair.hears, "the bus serves both")


@pytest.mark.parametrize("never", [(), ("not.the.contracts",)])
async def test_what_nobody_may_hear_for_a_while_is_heard_again(
    strict: NatsServer, closing: AsyncExitStack, never: tuple[str, ...]
) -> None:
    pair = Pair(closing, strict)
    for subject in never:
        pair.dea.subscribe(subject, None, pair._answer)
    await pair.connect()
    await until_async(lambda: pair.announced == 1, "announced")

    async def deaf() -> bool:
        return pair.controller.connected and not await pair.controller.request_many(
            "dea.status", None, DropletRef, timeout=0.5, expected=1
        )

    strict.reload(authorization(without="dea."))
    await until_async(deaf, "taken away")
    strict.reload(authorization())
    await until_async(pair.hears, "it hears again")
    # It was deaf: others may have asked for what it says of itself.
    await until_async(lambda: pair.announced > 1, "announced again")


async def test_an_inbox_that_was_taken_away_takes_answers_again(
    strict: NatsServer, closing: AsyncExitStack
) -> None:
    pair = Pair(closing, strict)
    await pair.connect()
    assert await pair.hears()
    strict.reload(authorization(without="_INBOX"))
    strict.reload(authorization())
    await until_async(pair.hears, "answers arrive again")


def test_synchronous_programs_are_back_too(strict: NatsServer) -> None:
    thread = BusThread(BusConfig(urls=[strict.url], user="controller", password="controller"), "thread")

    async def settled(connected: bool, bus: Bus = thread.bus) -> None:
        await until_async(lambda: bus.connected is connected, f"connected is {connected}")

    try:
        thread.start()
        thread.run(settled(True))
        strict.reload(CREDENTIALS)
        thread.run(settled(False))
        strict.reload(authorization())
        thread.run(settled(True))
        assert thread.publish("droplet.updated", DropletRef(droplet=1))
    finally:
        thread.close()
