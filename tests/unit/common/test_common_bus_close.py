from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client

from components.common.bus.client import Bus
from components.common.config import BusConfig


async def test_close_ends_though_connecting_loses_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = asyncio.Event()

    async def connect(_: Client, **__: Any) -> Any:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            lost.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(Client, "connect", connect)
    bus = Bus(BusConfig(urls=["nats://127.0.0.1:9"]), "t")
    await bus.start()
    await asyncio.sleep(0)
    closing = asyncio.create_task(bus.close())
    ended, _ = await asyncio.wait({closing}, timeout=10)
    assert ended, "close waits for ever"
    assert lost.is_set()
    assert not bus.connected
