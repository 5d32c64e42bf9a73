"""A health manager among peers of 2011: its subjects of protocol 2.4, member by member; and what is no message."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.hm_rig import ControllerPeer, Manager, NatsServer
from tests.integration.wire_peer import Peer, break_all, check_discovery, get_text, kinds, peer_on, until

TYPED = [
    "dea.heartbeat", "droplet.exited", "droplet.updated", "healthmanager.status", "healthmanager.health", "ingot.dea.beat",
    "cloudcontrollers.hm.requests",
]  # fmt: skip
HEARS = (
    "healthmanager.start",
    "healthmanager.nats.ping",
    "cloudcontrollers.hm.requests",
    "vcap.component.announce",
)


class Setting:
    def __init__(self, nats: NatsServer, controller: ControllerPeer, manager: Manager) -> None:
        self.nats, self.controller, self.manager = nats, controller, manager


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    nats, controller = NatsServer(tmp_path), ControllerPeer()
    async with AsyncExitStack() as stack:
        stack.callback(nats.stop)
        nats.start()
        stack.push_async_callback(controller.stop)
        await controller.start()
        manager = Manager(tmp_path, 0, nats.url, [controller.url], bulk_password="")
        stack.callback(manager.stop)
        yield Setting(nats, controller, manager)


async def test_a_health_manager_among_peers_of_2011(setting: Setting) -> None:
    controller, manager = setting.controller, setting.manager
    for droplet in (1, 2):
        controller.app(droplet, instances=2)
    async with peer_on(setting.nats.url) as peer:
        await peer.listen(*HEARS)
        asked: list[bytes] = []

        async def give(message: Any) -> None:
            asked.append(message.data)
            await message.respond(b'{"user":"bulk_api","password":"bulk-secret"}')

        await peer.client.subscribe("cloudcontroller.bulk.credentials", cb=give)
        manager.start()
        assert (await peer.hears("vcap.component.announce"))["type"] == "HealthManager"
        await peer.hears("healthmanager.start", lambda b: b == b"")
        assert float(await peer.hears("healthmanager.nats.ping")) > 1e9
        await check_discovery(peer, "HealthManager")
        await until(lambda: manager.get("/readyz"), "it trusts its state")
        assert asked, "the bulk password was asked for"
        await _hours(controller, peer, 1)
        metrics = f"http://127.0.0.1:{manager.port}/metrics"
        await break_all(peer, TYPED, lambda: get_text(metrics, "status", "pw"))
        await peer.say("healthmanager.nats.ping", b"never")
        await until(lambda: manager.get("/readyz"), "it trusts its state again")
        await _hours(controller, peer, 2)
        assert "Traceback" not in manager.log()


async def _hours(controller: ControllerPeer, peer: Peer, droplet: int) -> None:
    """A DEA of 2011 beats: what is missing is asked for, what is too much is ended, and questions are answered."""
    version, now, dea = controller.version(droplet), int(time.time()), f"dea{droplet}-"

    def entry(index: int, instance: str, state: str = "RUNNING") -> dict[str, Any]:
        return {
            "droplet": droplet,
            "version": version,
            "instance": instance,
            "index": index,
            "state": state,
            "state_timestamp": now,
        }

    async def beat(*entries: dict[str, Any]) -> None:
        await peer.say("dea.heartbeat", {"droplets": list(entries)})

    crashed = {**entry(1, f"{dea}1"), "reason": "CRASHED", "crash_timestamp": now}
    del crashed["state"], crashed["state_timestamp"]
    await beat(entry(0, f"{dea}0"), entry(1, f"{dea}1"))

    async def healthy() -> Any:
        await beat(entry(0, f"{dea}0"), entry(1, f"{dea}1"))
        answer = await peer.ask(
            "healthmanager.health", {"droplets": [{"droplet": droplet, "version": version}]}
        )
        assert kinds(answer) == {"droplet": "int", "version": "str", "healthy": "int"}
        return answer["healthy"] == 2

    await until(healthy, "both are healthy")
    mark = len(peer.heard)
    await peer.say("droplet.exited", crashed)
    start = await peer.hears(
        "cloudcontrollers.hm.requests", lambda b: (b["droplet"], b["op"]) == (droplet, "START"), mark
    )
    assert (
        kinds(start).items()
        >= {"droplet": "int", "op": "str", "last_updated": "int", "version": "str", "indices": "list"}.items()
    )
    assert start == {
        **start,
        "droplet": droplet,
        "version": version,
        "indices": [1],
        "last_updated": controller.apps[droplet]["updated_at"],
    }
    crashes = await peer.ask("healthmanager.status", {"droplet": droplet, "state": "CRASHED"})
    assert kinds(crashes) == {"instances": "list"}
    assert kinds(crashes["instances"][-1]) == {"instance": "str", "since": "int"}
    flapping = await peer.ask(
        "healthmanager.status", {"droplet": droplet, "state": "FLAPPING", "version": version}
    )
    assert kinds(flapping) == {"indices": "list"}
    mark = len(peer.heard)

    async def stopped() -> Any:
        await beat(entry(0, f"{dea}0"), entry(1, f"{dea}2"), entry(7, f"{dea}7"))
        said = [
            b
            for n, b, _ in peer.heard[mark:]
            if n == "cloudcontrollers.hm.requests" and (b["droplet"], b["op"]) == (droplet, "STOP")
        ]
        return [b for b in said if f"{dea}7" in b["instances"]]

    stop = (await until(stopped, "the surplus is ended"))[0]
    assert (
        kinds(stop).items()
        >= {"droplet": "int", "op": "str", "last_updated": "int", "instances": "list"}.items()
    )
    gone = {**crashed, "instance": f"{dea}7", "index": 7, "reason": "STOPPED"}
    del gone["crash_timestamp"]
    await peer.say("droplet.exited", gone)
    # A change is read at once, not with the next round.
    pages = controller.pages
    await peer.say("droplet.updated", {"droplet": droplet})
    await until(lambda: controller.pages > pages, "it reads again")
