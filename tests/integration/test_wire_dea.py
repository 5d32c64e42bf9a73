"""A DEA among peers of 2011: every subject of protocol 2 that it speaks or hears, member by member; and what is no message."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import DeaRig, droplet
from tests.integration.wire_peer import Peer, break_all, check_discovery, get_text, kinds, peer_on

HELLO = {"id": "str", "ip": "str", "port": "int", "version": "float"}
ASKED = {
    "droplet": 12,
    "limits": {"mem": 64, "disk": 64, "fds": 64},
    "name": "a",
    "runtime": "python2",
    "sha": "x",
}
STATS = {
    "name": "str", "host": "str", "port": "int", "uris": "list", "uptime": "float", "mem_quota": "int", "disk_quota": "int", "fds_quota": "int",
}  # fmt: skip
SPEAKS = (
    "dea.start", "dea.heartbeat", "dea.advertise", "droplet.exited", "router.register", "router.unregister", "vcap.component.announce",
)  # fmt: skip
TYPED = ["dea.stop", "dea.update", "dea.discover", "dea.find.droplet", "router.start"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path)
    rig.start_nats()
    try:
        await rig.bus.start()
        assert await rig.bus.wait_connected(20)
        yield rig
    finally:
        await rig.stop()


async def test_a_dea_among_peers_of_2011(rig: DeaRig) -> None:
    async with peer_on(f"nats://127.0.0.1:{rig.bus_port}") as peer:
        await peer.listen(*SPEAKS)
        await rig.start_agent()
        assert kinds(await peer.hears("dea.start")) == HELLO
        announced = await peer.hears("vcap.component.announce")
        assert (announced["type"], "uptime" in announced) == ("DEA", False)
        await check_discovery(peer, "DEA")
        await _life(rig, peer, 0)
        mine = (f"ingot.dea.{rig.id}.task", f"ingot.dea.{rig.id}.task_stop")
        subjects = [f"dea.{rig.id}.start", *TYPED, *mine]
        await break_all(
            peer, subjects, lambda: get_text(f"http://127.0.0.1:{rig.status_port}/metrics", "status", "p")
        )
        for subject in (
            "dea.status",
            "droplet.status",
            "dea.locate",
            "healthmanager.start",
            f"ingot.dea.{rig.id}.evacuate",
        ):
            for data in (b"{", b"[" * 100_000, b"\xff", b'{"evacuating":"x"}'):
                await peer.say(subject, data)
        await _life(rig, peer, 1)
        assert "Traceback" not in (rig.folder / "agent.log").read_text()


async def _life(rig: DeaRig, peer: Peer, index: int) -> None:
    """One instance from its discovery to its end."""
    hello = await peer.ask("dea.discover", ASKED)
    assert kinds(hello) == HELLO
    assert (hello["id"], hello["version"]) == (rig.id, 0.99)
    status = await peer.ask("dea.status", {})
    assert kinds(status) == {
        **HELLO,
        "max_memory": "int",
        "reserved_memory": "int",
        "used_memory": "float",
        "num_clients": "int",
    }
    mark = len(peer.heard)
    await peer.say("dea.locate")
    advert = await peer.hears("dea.advertise", since=mark)
    assert kinds(advert) == {"id": "str", "available_memory": "int", "runtimes": "list"}

    sha1 = rig.keep(droplet())
    # Just what a controller of 2011 sends: no member of ours, one of a later year.
    message = {**rig.message(sha1, index=index), "flapping": False, "egress": []}
    await peer.say(f"dea.{rig.id}.start", message)
    beat = await peer.hears("dea.heartbeat", lambda b: _states(b) == {index: "RUNNING"}, mark)
    entry = next(d for d in beat["droplets"] if d["index"] == index)
    assert kinds(entry).items() >= {
        "droplet": "int", "version": "str", "instance": "str", "index": "int", "state": "str", "state_timestamp": "int",
    }.items()  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{32}", entry["instance"])
    assert beat["dea"] == rig.id
    route = await peer.hears("router.register", since=mark)
    assert (
        kinds(route).items()
        >= {"dea": "str", "app": "int", "host": "str", "port": "int", "uris": "list", "tags": "dict"}.items()
    )
    assert route["tags"] == {"framework": "wsgi", "runtime": "python3"}
    found = await peer.ask("dea.find.droplet", {"droplet": 12, "version": f"{sha1}-1", "include_stats": True})
    assert kinds(found).items() >= {
        "dea": "str", "version": "str", "droplet": "int", "instance": "str", "index": "int", "state": "str", "state_timestamp": "int",
        "file_uri": "str", "credentials": "list", "staged": "str", "debug_ip": "NoneType", "debug_port": "NoneType",
        "console_ip": "NoneType", "console_port": "NoneType", "stats": "dict",
    }.items()  # fmt: skip
    assert found["staged"] == f"env-{index}-{entry['instance']}"
    assert {k: v for k, v in kinds(found["stats"]).items() if k != "usage"} == {**STATS, "cores": "int"}
    line = await peer.ask("droplet.status", {})
    assert {k: v for k, v in kinds(line).items() if k != "usage"}.items() >= STATS.items()
    for key in ("instances", "instance_ids"):
        assert (await peer.ask("dea.find.droplet", {"droplet": 12, key: [entry["instance"]]}))[
            "index"
        ] == index

    mark = len(peer.heard)
    await peer.say("healthmanager.start")
    await peer.hears("dea.heartbeat", since=mark)
    await peer.say("router.start", {"id": "r" * 32, "version": 0.98})
    await peer.hears("router.register", since=mark)
    mark = len(peer.heard)
    await peer.say("dea.update", {**message, "uris": ["other.ingot.localhost"]})
    gone = await peer.hears("router.unregister", since=mark)
    assert gone["uris"] == ["env.ingot.localhost"]
    # What the DEA registers now and again may still name the old host before it has read the update.
    await peer.hears("router.register", lambda route: route["uris"] == ["other.ingot.localhost"], mark)
    await peer.say("dea.stop", {"droplet": 12, "indices": [index], "states": ["STARTING", "RUNNING"]})
    exited: Any = await peer.hears("droplet.exited", since=mark)
    assert (
        kinds(exited).items()
        >= {"droplet": "int", "version": "str", "instance": "str", "index": "int", "reason": "str"}.items()
    )
    assert exited["reason"] == "STOPPED"
    assert "crash_timestamp" not in exited


def _states(beat: dict[str, Any]) -> dict[int, str]:
    return {d["index"]: d["state"] for d in beat["droplets"]}
