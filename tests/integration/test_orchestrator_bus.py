"""The orchestrator listens on a real bus with its own user: beats, routes, and a DEA that is told to evacuate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.common.bus.client import Incoming
from components.common.bus.messages import Capacity, DeaBeat, RouterRegister
from components.common.bus.thread import BusThread
from components.common.config import BusConfig
from orchestrator.bus_view import BusView
from orchestrator.jobs import machines
from tests.integration.common_rig import NatsServer

BEAT = DeaBeat(id="3-abc", address="10.0.0.3", capacity=Capacity(2048), release="1.0.0", droplets={"7": 1})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path, users=True)
    server.start()
    yield server
    server.stop()


class Dea:
    """What a DEA says and answers."""

    def __init__(self, url: str) -> None:
        self.bus = BusThread(BusConfig([url], "dea", "dea"), "dea")
        self.bus.subscribe("ingot.dea.3-abc.evacuate", None, self._evacuate)
        self.told: list[object] = []

    async def _evacuate(self, message: Incoming[object]) -> None:
        self.told.append(message.body)
        await message.respond(BEAT)


class Parts:
    """As much of the services as talking to a DEA needs."""

    def __init__(self, url: str) -> None:
        self.bus = BusThread(BusConfig([url], "orchestrator", "orchestrator"), "orchestrator")
        self.bus_view = BusView(self.bus)


def test_what_deas_say_is_heard_and_what_they_are_told_is_answered(server: NatsServer) -> None:
    dea, parts = Dea(server.url), Parts(server.url)
    try:
        parts.bus.start()
        dea.bus.start()
        # Until both are connected, what is said is lost, as on any bus.
        assert parts.bus_view.wait_for(
            lambda bus_view: dea.bus.publish("ingot.dea.beat", BEAT) and bus_view.at("10.0.0.3") is not None,
            20,
        )
        heard = parts.bus_view.at("10.0.0.3")
        assert heard is not None
        assert (heard.id, heard.instances, heard.fresh) == ("3-abc", 1, True)

        route = RouterRegister(
            host="10.0.0.3", port=61001, uris=["a.test"], app=7, private_instance_id="one", tags={}
        )
        dea.bus.publish("router.register", route)
        assert parts.bus_view.wait_for(lambda bus_view: len(bus_view.endpoints("10.0.0.3")) == 1, 20)
        dea.bus.publish("router.unregister", route)
        assert parts.bus_view.wait_for(lambda bus_view: not bus_view.endpoints(), 20)

        answer = machines.evacuate(parts, "10.0.0.3")  # type: ignore[arg-type]
        assert answer == BEAT
        assert dea.told == [{"evacuating": True}]
        assert machines.evacuate(parts, "10.0.0.4") is None  # type: ignore[arg-type]
    finally:
        dea.bus.close()
        parts.bus.close()
