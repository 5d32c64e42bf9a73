"""Health managers as processes, against a real nats-server: what they ask for, who of them asks, and what they answer."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hm_rig import DeaPeer, Manager, Rig

from components.common.bus.client import Bus, BusNoAnswerError, Incoming
from components.common.bus.messages import (
    BulkCredentials,
    DropletRef,
    HealthQuery,
    HealthReply,
    HmRequest,
    IndicesReply,
    InstancesReply,
    StatusQuery,
)
from components.common.config import BusConfig
from tests.support.waiting import until_async


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    async with AsyncExitStack() as stack:
        stack.callback(rig.nats.stop)
        rig.nats.start()
        stack.push_async_callback(rig.controller.stop)
        await rig.controller.start()
        rig.bus = Bus(BusConfig(urls=[rig.nats.url]), "test")
        rig.bus.subscribe("cloudcontrollers.hm.requests", HmRequest, rig.on_request, queue="cc")
        stack.push_async_callback(rig.bus.close)
        await rig.bus.start()
        assert await rig.bus.wait_connected(20)
        for n in range(3):
            dea = DeaPeer(f"dea{n}", rig.nats.url)
            rig.deas.append(dea)
            stack.push_async_callback(dea.power_off)
            await dea.start()
        stack.callback(lambda: [m.stop() for m in rig.managers])
        yield rig


async def test_a_missing_instance_is_asked_for_once(rig: Rig) -> None:
    rig.obey = False
    for n in (1, 2, 3):
        rig.controller.app(n)
    await rig.deas[0].launch(1, rig.controller.version(1), 0)
    await rig.deas[1].launch(3, rig.controller.version(3), 0)
    await rig.manager()
    await until_async(rig.starts, "a START")
    first = rig.controller.requests[0][0]
    await until_async(lambda: len(rig.starts()) > 1, "the START repeated, as nothing came of it")
    assert set(rig.starts()) == {(2, 0)}
    assert rig.controller.requests[1][0] - first >= 2.9
    _, request = rig.controller.requests[0]
    assert request.version == rig.controller.version(2)
    assert request.last_updated == rig.controller.apps[2]["updated_at"]


async def test_a_crash_is_answered_at_once_and_shown(rig: Rig) -> None:
    rig.controller.app(1, instances=2)
    name = await rig.deas[0].launch(1, rig.controller.version(1), 0)
    await rig.deas[1].launch(1, rig.controller.version(1), 1)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    await until_async(lambda: asyncio.sleep(0.3, result=True), "lead_settle")
    at = time.monotonic()
    await rig.deas[0].exit(name, "CRASHED")
    await until_async(rig.starts, "a START")
    assert rig.controller.requests[0][0] - at < 1.5
    await until_async(lambda: rig.places(1) == [0, 1], "both indices run")
    assert rig.starts() == [(1, 0)]
    crashed = await rig.bus.request(
        "healthmanager.status", StatusQuery(droplet=1, state="CRASHED"), InstancesReply
    )
    assert [c["instance"] for c in crashed.instances] == [name]
    calm = await rig.bus.request(
        "healthmanager.status", StatusQuery(droplet=1, state="FLAPPING"), IndicesReply
    )
    assert calm.indices == []


async def test_a_flapping_index_is_shown_and_delayed(rig: Rig) -> None:
    rig.controller.app(1)
    await rig.deas[0].launch(1, rig.controller.version(1), 0)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    for crashes in range(4):
        await until_async(lambda: rig.places(1) == [0], f"running after {crashes} crashes")
        dea = next(d for d in rig.deas if d.instances)
        await dea.exit(next(iter(dea.instances)), "CRASHED")

    async def flapping() -> list[dict[str, int]]:
        query = StatusQuery(droplet=1, state="FLAPPING", version=rig.controller.version(1))
        reply: IndicesReply = await rig.bus.request("healthmanager.status", query, IndicesReply)
        return reply.indices

    found = await until_async(flapping, "flapping")
    assert found[0]["index"] == 0
    assert rig.starts() == [(1, 0)] * 3
    await until_async(lambda: '"app_flapping"' in manager.log(), "the alert")
    assert 'ingot_hm_alerts_total{alert="app_flapping"} 1.0' in await manager.get("/metrics")


async def test_a_silent_dea_has_its_instances_elsewhere(rig: Rig) -> None:
    rig.controller.app(1, instances=3)
    for n in range(3):
        await rig.deas[n].launch(1, rig.controller.version(1), n)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    at = time.monotonic()
    await rig.deas[0].power_off()
    await until_async(lambda: rig.places(1) == [0, 1, 2], "all three run again")
    assert time.monotonic() - at < 10
    assert rig.starts() == [(1, 0)]
    assert '"dea_lost"' in manager.log()


async def test_instances_of_an_earlier_making_are_replaced_one_at_a_time_successor_first(rig: Rig) -> None:
    for n in (1, 2, 3):
        rig.controller.app(n)
    old = [await rig.deas[0].launch(n, rig.controller.version(n), 0) for n in (1, 2)]
    await rig.deas[1].launch(3, rig.controller.version(3), 0)
    for name in old:
        rig.deas[0].renewal.add(name)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    await until_async(lambda: len(rig.stops()) == 2, "both are replaced")
    asked = [(r.op, r.droplet, r.instances) for _, r in rig.controller.requests]
    assert asked == [("START", 1, None), ("STOP", 1, old[:1]), ("START", 2, None), ("STOP", 2, old[1:])]
    assert [rig.places(n) for n in (1, 2, 3)] == [[0], [0], [0]]
    assert rig.deas[0].renewal.left(rig.deas[0].instances) == 0


async def test_most_of_the_pool_silent_is_held_and_said(rig: Rig) -> None:
    rig.controller.app(1, instances=3)
    for n in range(3):
        await rig.deas[n].launch(1, rig.controller.version(1), n)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    await rig.deas[0].power_off()
    await rig.deas[1].power_off()
    await until_async(lambda: '"pool_silent"' in manager.log(), "the hold")
    assert await manager.get("/readyz") is None
    assert rig.starts() == []


async def test_one_of_two_leads_and_the_other_takes_over(rig: Rig) -> None:
    rig.controller.app(1)
    await rig.deas[0].launch(1, rig.controller.version(1), 0)
    pair = [await rig.manager(), await rig.manager()]

    async def leaders() -> list[Manager]:
        return [m for m in pair if await m.leads()]

    first = (await until_async(leaders, "a leader"))[0]
    assert len(await leaders()) == 1
    other = next(m for m in pair if m is not first)
    # Both have heard of the crash and of the request; one has asked.
    await rig.deas[0].exit("dea0-1", "CRASHED")
    await until_async(lambda: rig.places(1) == [0], "restarted")
    replies = await rig.bus.request_many(
        "healthmanager.health",
        HealthQuery(
            droplets=[{"droplet": 1, "version": rig.controller.version(1)}, {"droplet": 99, "version": "x"}]
        ),
        HealthReply,
        timeout=1.0,
    )
    assert [(r.droplet, r.healthy) for r in replies] == [(1, 1), (1, 1)]
    at = time.monotonic()
    await first.signal(signal.SIGKILL)
    await until_async(other.leads, "the other leads")
    assert time.monotonic() - at < 4
    home = next(d for d in rig.deas if d.instances)
    await home.exit(next(iter(home.instances)), "CRASHED")
    await until_async(lambda: rig.places(1) == [0], "restarted by the other")
    assert rig.starts() == [(1, 0), (1, 0)]


async def test_an_alert_and_its_end_are_posted_by_whoever_leads(rig: Rig) -> None:
    got: list[tuple[str, str, dict[str, Any]]] = []

    async def take(request: web.Request) -> web.Response:
        assert request.headers["X-Key"] == "hook-secret"
        said = await request.json()
        got.append((said["key"], said["state"], said["facts"]))
        return web.Response(status=204)

    def said(key: str) -> list[str]:
        return [state for k, state, _ in got if k == key]

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook = {
        "url": f"http://127.0.0.1:{runner.addresses[0][1]}/hook",
        "header": "X-Key",
        "secret": "hook-secret",
    }
    try:
        # More than any of the DEAs has.
        rig.controller.app(1, memory=8192)
        await rig.deas[0].launch(1, rig.controller.version(1), 0)
        pair = [await rig.manager(webhooks=[hook]), await rig.manager(webhooks=[hook])]

        async def leaders() -> list[Manager]:
            return [m for m in pair if await m.leads()]

        first = (await until_async(leaders, "a leader"))[0]
        other = next(m for m in pair if m is not first)
        await until_async(lambda: said("capacity_low/largest_app"), "the pool is too small for it")
        await rig.deas[2].power_off()
        await until_async(lambda: said("dea_lost/dea2"), "the loss")
        await until_async(lambda: '"dea_lost"' in other.log(), "the other knows as well")
        await first.signal(signal.SIGKILL)
        await until_async(other.leads, "the other leads")
        back = DeaPeer("dea2", rig.nats.url)
        rig.deas.append(back)
        await back.start()
        await until_async(lambda: "over" in said("dea_lost/dea2"), "the end")
        # What was said just before the change may be said again by who follows; its end is said once.
        assert said("dea_lost/dea2").count("over") == 1
        assert "hook-secret" not in first.log() + other.log()
        facts = await other.get("/varz")
        assert [a["subject"] for a in facts["alerts"]] == ["largest_app"]
        await back.power_off()
    finally:
        await runner.cleanup()


async def test_a_rolling_update_is_left_alone(rig: Rig) -> None:
    rig.controller.app(1, instances=2)
    before = rig.controller.version(1)
    for index in range(2):
        await rig.deas[index].launch(1, before, index)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    rig.controller.app(1, run_count=2, updating=before, updated_at=int(time.time()))
    await rig.bus.publish("droplet.updated", DropletRef(droplet=1))
    new = await rig.deas[2].launch(1, rig.controller.version(1), 0)
    pages = rig.controller.pages
    # Long enough for what was changed to be stable, several times over.
    await until_async(lambda: rig.controller.pages > pages + 20, "many readings later")
    assert rig.starts() == []
    assert rig.stops() == []
    # The update is over: what is left of the version before is surplus where its successor runs.
    await rig.deas[2].launch(1, rig.controller.version(1), 1)
    rig.controller.app(1, updating=None)
    await until_async(lambda: len(rig.stops()) >= 2, "the version before is stopped")
    assert rig.places(1) == [0, 1]
    assert new in rig.deas[2].instances


async def test_a_leader_that_ends_gives_the_lease_back(rig: Rig) -> None:
    manager = await rig.manager(intervals={"lease_ttl": 30.0, "settle": 1.0})
    await until_async(manager.leads, "a leader")
    assert await manager.signal(signal.SIGTERM) == 0
    assert rig.controller.until == 0.0


async def test_a_leader_that_cannot_renew_stops_acting(rig: Rig) -> None:
    rig.controller.app(1)
    await rig.deas[0].launch(1, rig.controller.version(1), 0)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    rig.controller.fail = True

    async def powerless() -> bool:
        return not await manager.leads()

    at = time.monotonic()
    await until_async(powerless, "it knows")
    assert time.monotonic() - at < 2.5
    await rig.deas[0].exit("dea0-1", "CRASHED")
    await until_async(lambda: '"desired_stale"' in manager.log(), "stale")
    assert rig.starts() == []
    rig.controller.fail = False
    await until_async(rig.starts, "repaired once the controllers are back")


async def test_a_controller_that_is_down_is_passed_over(rig: Rig) -> None:
    rig.controller.app(1)
    manager = await rig.manager(urls=["http://127.0.0.1:9", rig.controller.url])
    await until_async(lambda: rig.places(1) == [0], "started through the second controller")
    assert await manager.leads()


async def test_bulk_credentials_are_asked_for_on_the_bus(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.nats.start()
    await rig.controller.start()
    rig.bus = Bus(BusConfig(urls=[rig.nats.url]), "test")

    async def tell(message: Incoming[Any]) -> None:
        await message.respond(BulkCredentials(user="bulk_api", password="bulk-secret"))

    rig.bus.subscribe("cloudcontroller.bulk.credentials", None, tell, queue="cc")
    await rig.bus.start()
    try:
        rig.controller.app(1)
        manager = await rig.manager(bulk_password="")
        facts = await manager.get("/varz")
        assert facts["total_apps"] == 1
        assert "bulk-secret" not in manager.log()
    finally:
        for made in rig.managers:
            made.stop()
        await rig.bus.close()
        await rig.controller.stop()
        rig.nats.stop()


async def test_the_bus_gone_for_a_while_starts_nothing_twice(rig: Rig) -> None:
    rig.controller.app(1, instances=3)
    for n in range(3):
        await rig.deas[n].launch(1, rig.controller.version(1), n)
    manager = await rig.manager()
    await until_async(manager.leads, "a leader")
    rig.nats.stop()
    await until_async(lambda: '"bus_lost"' in manager.log(), "it knows")
    # Something dies unheard.
    rig.deas[1].instances.clear()
    rig.nats.start()
    at = time.monotonic()
    await until_async(lambda: rig.places(1) == [0, 1, 2], "reconciled")
    assert time.monotonic() - at < 10
    assert rig.starts() == [(1, 1)]


async def test_an_update_is_read_promptly(rig: Rig) -> None:
    await rig.manager(intervals={"desired_interval": 60.0, "desired_max_age": 200.0, "settle": 1.0})
    rig.controller.app(5)
    await rig.bus.publish("droplet.updated", DropletRef(droplet=5))
    await until_async(lambda: rig.starts() == [(5, 0)], "read long before the interval")


async def test_unknown_droplets_and_doubtful_states_are_met_with_silence(rig: Rig) -> None:
    manager = await rig.manager()
    query = StatusQuery(droplet=404, state="CRASHED")
    with pytest.raises(BusNoAnswerError):
        await rig.bus.request("healthmanager.status", query, InstancesReply, timeout=0.5)
    rig.controller.app(404)
    rig.controller.fail = True
    await until_async(lambda: '"desired_stale"' in manager.log(), "stale")
    with pytest.raises(BusNoAnswerError):
        await rig.bus.request("healthmanager.status", query, InstancesReply, timeout=0.5)


async def test_varz_has_what_the_reference_names(rig: Rig) -> None:
    rig.controller.app(1, instances=2)
    await rig.deas[0].launch(1, rig.controller.version(1), 0)
    await rig.deas[1].launch(1, rig.controller.version(1), 1)
    manager = await rig.manager()

    async def complete() -> Any:
        facts = await manager.get("/varz")
        return facts if facts["running_instances"] == 2 and facts["nats_latency"] > 0 else None

    facts = await until_async(complete, "a complete state")
    assert facts["type"] == "HealthManager"
    totals = ("total_apps", "total_users", "total_instances", "down_instances")
    assert [facts[name] for name in totals] == [1, 7, 2, 0]
    assert facts["total"]["frameworks"]["wsgi"]["started_instances"] == 2
    assert facts["total"]["runtimes"]["python3"]["memory"] == 128
    assert facts["running"]["frameworks"]["wsgi"]["running_instances"] == 2
    assert facts["heartbeat_msgs_received"] > 0
    assert facts["apps"] == [
        {"droplet_id": 1, "state": "STARTED", "name": "app1", "user": "", "instances": 2}
    ]


async def test_what_breaks_the_contract_is_dropped(rig: Rig) -> None:
    rig.controller.app(1)
    manager = await rig.manager()
    for subject in (
        *("dea.heartbeat", "ingot.dea.beat", "droplet.exited", "droplet.updated"),
        *("healthmanager.status", "healthmanager.health", "cloudcontrollers.hm.requests"),
    ):
        for junk in (b"", b"{", b"[]", b'{"droplet":"x"}', b"\xff\xfe", b'{"droplets":7}'):
            await rig.bus.publish(subject, junk)
    await rig.bus.publish("healthmanager.nats.ping", b"never")
    await until_async(lambda: rig.places(1) == [0], "it still repairs")
    assert await manager.get("/readyz")
    assert "Traceback" not in manager.log()
