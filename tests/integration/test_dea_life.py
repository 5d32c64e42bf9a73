"""The life of an instance on a real DEA agent, over a real bus."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import DeaRig, droplet


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def environment(rig: DeaRig, port: int) -> dict[str, str]:
    _status, body = await rig.get(f"http://127.0.0.1:{port}/")
    found: dict[str, str] = json.loads(body)
    return found


async def test_started_instance_runs_is_registered_and_knows_itself(rig: DeaRig) -> None:
    service = {"name": "db", "label": "mysql-5.1", "vendor": "mysql", "credentials": {"password": "it's"}}
    entry = await rig.run(env=["GREETING=it's $HOME"], services=[service])
    assert len(entry["instance"]) == 32
    route = await rig.hears("router.register", lambda b: b["app"] == 12)
    assert route["uris"] == ["env.ingot.localhost"]
    assert route["private_instance_id"] == entry["instance"]
    assert route["tags"] == {"framework": "wsgi", "runtime": "python3"}
    own = await environment(rig, route["port"])
    assert own["VCAP_APP_PORT"] == own["PORT"] == str(route["port"])
    assert json.loads(own["VCAP_SERVICES"])["mysql-5.1"][0]["credentials"] == {"password": "it's"}
    assert own["GREETING"] == "it's $HOME"
    assert json.loads(own["VCAP_APPLICATION"])["instance_id"] == entry["instance"]
    beat = await rig.hears("ingot.dea.beat", lambda b: b["droplets"] == {"12": 1})
    assert beat["capacity"]["memory_reserved"] == 128
    assert "python2" in beat["runtimes"]


async def test_killed_instance_is_reported_crashed_and_its_logs_stay(rig: DeaRig) -> None:
    entry = await rig.run()
    os.killpg(rig.main_pid(entry["instance"]), signal.SIGKILL)
    exited = await rig.hears("droplet.exited")
    assert (exited["reason"], exited["instance"]) == ("CRASHED", entry["instance"])
    assert exited["detail"] == "killed by signal 9"
    assert exited["crash_timestamp"] > 0
    await rig.hears("router.unregister", lambda b: b["private_instance_id"] == entry["instance"])
    await rig.hears("dea.heartbeat", lambda b: b["droplets"][0]["state"] == "CRASHED")
    await rig.hears("ingot.dea.beat", lambda b: b["droplets"] == {}, since=rig.mark())
    assert (rig.folder / "dea/instances" / entry["instance"] / "logs/stdout.log").read_text() == "serving\n"
    assert len(rig.said("droplet.exited")) == 1


async def test_restarted_agent_adopts_what_runs_and_learns_what_died(rig: DeaRig) -> None:
    lives = await rig.run(index=0)
    dies = await rig.run(index=1)
    pid, known = rig.main_pid(lives["instance"]), rig.id
    assert rig.stop_agent() == 0
    os.killpg(rig.main_pid(dies["instance"]), signal.SIGKILL)
    mark = rig.mark()
    await rig.start_agent()
    assert rig.id == known
    hello = await rig.hears("dea.start", since=mark)
    assert hello["id"] == known
    await rig.hears("router.register", lambda b: b["private_instance_id"] == lives["instance"], since=mark)
    exited = await rig.hears("droplet.exited", since=mark)
    assert (exited["reason"], exited["instance"]) == ("CRASHED", dies["instance"])
    os.kill(pid, 0)
    # The adopted one is supervised like any other.
    os.killpg(pid, signal.SIGKILL)
    await rig.hears("droplet.exited", lambda b: b["instance"] == lives["instance"], since=mark)


async def test_killed_agent_leaves_instances_alone(rig: DeaRig) -> None:
    entry = await rig.run()
    pid = rig.main_pid(entry["instance"])
    rig.stop_agent(signal.SIGKILL)
    stranger = rig.folder / "dea/instances" / ("f" * 32)
    stranger.mkdir()
    mark = rig.mark()
    await rig.start_agent()
    await rig.hears("dea.heartbeat", lambda b: b["droplets"][0]["state"] == "RUNNING", since=mark)
    os.kill(pid, 0)
    assert not stranger.exists()


async def test_stop_tells_first_and_leaves_nothing(rig: DeaRig) -> None:
    entry = await rig.run()
    pid = rig.main_pid(entry["instance"])
    mark = rig.mark()
    await rig.bus.publish("dea.stop", {"droplet": 12, "instances": ["0" * 32]})
    await rig.bus.publish("dea.stop", {"droplet": 12, "version": entry["version"], "indices": [0]})
    exited = await rig.hears("droplet.exited", since=mark)
    assert exited["reason"] == "STOPPED"
    assert "crash_timestamp" not in exited
    assert rig.said("router.unregister", since=mark)
    folder = rig.folder / "dea/instances" / entry["instance"]
    await rig.until(lambda: not folder.exists(), "the folder is gone")
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    await rig.hears("ingot.dea.beat", lambda b: b["capacity"]["memory_reserved"] == 0, since=mark)


async def test_stopped_while_starting_leaves_nothing(rig: DeaRig) -> None:
    sha1 = rig.keep(droplet(startup="#!/bin/bash\nsleep 100\n"))
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1))
    await rig.hears("ingot.dea.beat", lambda b: b["droplets"] == {"12": 1})
    await rig.bus.publish("dea.stop", {"droplet": 12})
    await rig.hears("droplet.exited", lambda b: b["reason"] == "STOPPED")
    await rig.until(lambda: not list((rig.folder / "dea/instances").iterdir()), "no folder is left")
    await rig.until(lambda: not list((rig.folder / "dea/units").glob("*.json")), "no unit is left")


async def test_failed_starts_say_why(rig: DeaRig) -> None:
    cases = {
        "exited with status 3": rig.keep(droplet(startup="#!/bin/bash\nexit 3\n")),
        "the droplet is not on the share": "a" * 40,
        "the droplet is damaged": rig.keep(b"this is no archive"),
    }
    for index, (why, sha1) in enumerate(cases.items()):
        await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1, index=index))

        def of_this(body: Any, wanted: int = index) -> bool:
            return bool(body["index"] == wanted)

        exited = await rig.hears("droplet.exited", of_this)
        assert exited["reason"] == "CRASHED"
        assert why in exited["detail"]
    assert not rig.said("router.register")


async def test_one_that_never_listens_is_ended(tmp_path: Path) -> None:
    rig = DeaRig(tmp_path, start_timeout=0.5)
    await rig.start()
    try:
        sha1 = rig.keep(droplet(startup="#!/bin/bash\nsleep 100\n"))
        await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1))
        exited = await rig.hears("droplet.exited")
        assert "did not open its port" in exited["detail"]
        folder = rig.folder / "dea/instances" / exited["instance"]
        assert "FATAL: did not open its port" in (folder / "logs/err.log").read_text()
    finally:
        await rig.stop()


async def test_worker_without_routes_runs_at_once_without_a_port(rig: DeaRig) -> None:
    sha1 = rig.keep(droplet(startup="#!/bin/bash\n[ $# = 0 ] && exec sleep 100\n"))
    entry = await rig.run(sha1, uris=[])
    found = await rig.ask("dea.find.droplet", {"droplet": 12, "include_stats": True})
    assert found[0]["instance"] == entry["instance"]
    assert found[0]["stats"]["port"] is None
    assert not rig.said("router.register")


async def test_too_much_memory_ends_it_with_words(rig: DeaRig) -> None:
    hog = "import time\nx = bytearray(90_000_000)\ntime.sleep(100)\n"
    sha1 = rig.keep(droplet({"app/server.py": hog}))
    message = rig.message(sha1, uris=[], limits={"mem": 64, "disk": 256, "fds": 256})
    await rig.bus.publish(f"dea.{rig.id}.start", message)
    exited = await rig.hears("droplet.exited")
    assert exited["reason"] == "CRASHED"
    assert exited["detail"].startswith("memory over 64 MB")
    folder = rig.folder / "dea/instances" / exited["instance"]
    assert "FATAL: memory over 64 MB" in (folder / "logs/err.log").read_text()


async def test_bus_away_harms_no_instance_and_loses_no_crash(rig: DeaRig) -> None:
    lives = await rig.run(index=0)
    dies = await rig.run(index=1)
    rig.stop_nats()
    await rig.until(lambda: not rig.bus.connected, "the bus is away")
    os.killpg(rig.main_pid(dies["instance"]), signal.SIGKILL)
    snapshot = rig.folder / "dea/applications.json"
    await rig.until(
        lambda: json.loads(snapshot.read_bytes())["12"][dies["instance"]]["state"] == "CRASHED",
        "the crash is written down",
    )
    os.kill(rig.main_pid(lives["instance"]), 0)
    mark = rig.mark()
    rig.start_nats()

    def tells_the_crash(beat: dict[str, Any]) -> bool:
        return any(d["instance"] == dies["instance"] and d["state"] == "CRASHED" for d in beat["droplets"])

    # What is said once on reconnect (`droplet.exited`, `dea.start`) is lost on listeners that return later than the agent, as
    # this one may; what is said again and again reaches everybody.
    await rig.hears("dea.heartbeat", tells_the_crash, since=mark)
    await rig.hears("router.register", lambda b: b["private_instance_id"] == lives["instance"], since=mark)
    await rig.hears("ingot.dea.beat", since=mark)
