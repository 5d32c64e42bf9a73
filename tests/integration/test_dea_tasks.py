"""One-off tasks, health checks and usage samples on a real agent."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import SERVER, DeaRig, droplet

EXPORTING = '#!/bin/bash\ncd "$(dirname "$0")/app"\nexport COLOUR="green${TINT:+-$TINT}"\nexec sleep 100\n'


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(tmp_path, task_keep=0.5)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def begin(rig: DeaRig, task: str, command: str, timeout: float = 60, **more: Any) -> Any:
    sha1 = rig.keep(droplet(startup=EXPORTING))
    asked = {"task": task, "command": command, "timeout": timeout, "start": {**rig.message(sha1), **more}}
    (reply,) = await rig.ask(f"ingot.dea.{rig.id}.task", asked)
    return reply


async def test_task_runs_once_in_the_applications_place(rig: DeaRig) -> None:
    command = 'pwd; echo "$COLOUR it\'s $GREETING ${PORT-none}"; echo oops >&2; exit 3'
    reply = await begin(rig, "t-1", command, env=["GREETING=hello", "TINT=pale"])
    ended = await rig.hears("ingot.task.ended")
    assert (ended["task"], ended["dea"], ended["exit_status"]) == ("t-1", rig.id, 3)
    assert ended["detail"] == "exited with status 3"
    folder = rig.folder / "dea/tasks/t-1"
    assert sorted(ended["tail"].splitlines()) == sorted(
        [f"{folder}/app", "green-pale it's hello none", "oops"]
    )
    page = await rig.lines(reply)
    assert {(line["stream"], line["text"]) for line in page["lines"]} >= {("stderr", "oops")}
    await rig.until(lambda: not folder.exists(), "its folder is gone")
    await rig.until(lambda: not list((rig.folder / "dea/lines").iterdir()), "its log is gone")
    assert len(rig.said("ingot.task.ended")) == 1
    assert not rig.said("router.register")
    assert not rig.said("dea.heartbeat")
    assert not rig.said("droplet.exited")


async def test_beat_names_what_runs_and_room_is_kept_for_it(rig: DeaRig) -> None:
    await begin(rig, "long", "sleep 100")
    beat = await rig.hears("ingot.dea.beat", lambda b: b["tasks"] == ["long"])
    assert beat["droplets"] == {}
    assert beat["capacity"]["memory_reserved"] == 128
    assert await rig.ask("dea.find.droplet", {"droplet": 12}, timeout=0.3) == []
    # Asked for once more, as after an answer that was lost: it is not run again.
    assert "error" not in await begin(rig, "long", "sleep 100")
    # A stop of the application is none of its tasks.
    await rig.bus.publish("dea.stop", {"droplet": 12})
    (reply,) = await rig.ask(f"ingot.dea.{rig.id}.task_stop", {"task": "long"})
    assert "error" not in reply
    ended = await rig.hears("ingot.task.ended")
    assert "exit_status" not in ended
    assert ended["detail"] == "stopped"
    mark = rig.mark()
    beat = await rig.hears("ingot.dea.beat", lambda b: b["tasks"] == [], since=mark)
    assert beat["capacity"]["memory_reserved"] == 0
    (reply,) = await rig.ask(f"ingot.dea.{rig.id}.task_stop", {"task": "other"})
    assert reply["error"] == "no such task runs here"


async def test_limits_end_a_task_with_words(rig: DeaRig) -> None:
    await begin(rig, "slow", "trap '' TERM; sleep 100", timeout=0.5)
    hog = "python3 -c 'import time; x = bytearray(90_000_000); time.sleep(100)'"
    await begin(rig, "hog", hog, limits={"mem": 64, "disk": 256, "fds": 256})
    ended = await rig.hears("ingot.task.ended", lambda b: b["task"] == "slow")
    assert ended["detail"] == "ran longer than 0.5 s"
    assert "exit_status" not in ended
    ended = await rig.hears("ingot.task.ended", lambda b: b["task"] == "hog")
    assert ended["detail"].startswith("memory over 64 MB")
    assert "FATAL: memory over 64 MB" in ended["tail"]


async def test_what_cannot_be_is_refused_with_a_reason(rig: DeaRig) -> None:
    for wrong, word in (
        ({"runtime": "cobol"}, "runtime cobol"),
        ({"limits": {"mem": 9999}}, "9999 MB of memory wanted"),
        ({"sha1": ""}, "droplet"),
    ):
        assert word in (await begin(rig, "t", "true", **wrong))["error"]
    for task, command in (("../x", "true"), ("t", " "), ("", "true")):
        assert (await begin(rig, task, command))["error"]
    await begin(rig, "gone", "true", sha1="a" * 40, executableFile="/nowhere")
    ended = await rig.hears("ingot.task.ended")
    assert "not on the share" in ended["detail"]


async def test_agents_come_and_go_and_the_end_is_told_once(rig: DeaRig) -> None:
    await begin(rig, "lives", "while [ ! -e ../go ]; do sleep 0.05; done; echo done")
    await begin(rig, "ends", "while [ ! -e ../go ]; do sleep 0.05; done")
    running = rig.folder / "dea/units"
    await rig.until(lambda: len(list(running.glob("ingot-task-*.json"))) == 2, "both run")
    rig.stop_agent(signal.SIGKILL)
    (rig.folder / "dea/tasks/ends/go").touch()
    pid = json.loads((running / "ingot-task-ends.json").read_bytes())["pid"]
    await rig.until(lambda: not Path(f"/proc/{pid}/fd/0").exists(), "it has ended")
    mark = rig.mark()
    await rig.start_agent()
    ended = await rig.hears("ingot.task.ended", since=mark)
    assert (ended["task"], ended["detail"]) == ("ends", "ended unseen")
    await rig.hears("ingot.dea.beat", lambda b: b["tasks"] == ["lives"], since=mark)
    (rig.folder / "dea/tasks/lives/go").touch()
    ended = await rig.hears("ingot.task.ended", lambda b: b["task"] == "lives", since=mark)
    assert ended["tail"] == "done\n"
    # Told, and then the agent dies: the next one has nothing to tell.
    rig.stop_agent(signal.SIGKILL)
    mark = rig.mark()
    await rig.start_agent()
    await rig.hears("ingot.dea.beat", lambda b: b["tasks"] == [], since=mark)
    assert [b["task"] for b in rig.said("ingot.task.ended")] == ["ends", "lives"]


async def test_health_check_by_path_waits_for_its_answer(rig: DeaRig) -> None:
    answering = SERVER.replace(
        "self.send_response(200)",
        "self.send_response(204 if self.path == '/up?x' and os.path.exists('warm') else 503)",
    )
    sha1 = rig.keep(droplet({"app/server.py": answering}))
    health = {"path": "/up?x", "timeout": 60}
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1, health=health))
    beat = await rig.hears("dea.heartbeat")
    folder = rig.folder / "dea/instances" / beat["droplets"][0]["instance"]
    stdout = folder / "logs/stdout.log"
    await rig.until(lambda: stdout.exists() and stdout.read_text(), "it listens")
    mark = rig.mark()
    await rig.hears("dea.heartbeat", since=mark)
    assert [d["state"] for d in rig.said("dea.heartbeat")[-1]["droplets"]] == ["STARTING"]
    (folder / "app/warm").touch()
    await rig.hears("dea.heartbeat", lambda b: b["droplets"][0]["state"] == "RUNNING")
    await rig.hears("router.register")

    await rig.bus.publish(
        f"dea.{rig.id}.start",
        rig.message(sha1, droplet=13, health={"path": "/up", "timeout": 1}),
    )
    exited = await rig.hears("droplet.exited")
    why = "health check: /up did not answer 2xx or 3xx (last: 503) within 1 s"
    assert (exited["reason"], exited["detail"]) == ("CRASHED", why)
    folder = rig.folder / "dea/instances" / exited["instance"]
    assert f"FATAL: {why}" in (folder / "logs/err.log").read_text()
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 13})
    assert f"FATAL: {why}" in [line["text"] for line in (await rig.lines(found))["lines"]]


async def test_usage_is_sampled(tmp_path: Path) -> None:
    rig = DeaRig(tmp_path, intervals={"beat": 0.2, "heartbeat": 0.5, "monitor": 0.2, "usage": 1.0})
    await rig.start()
    try:
        busy = rig.keep(droplet(startup="#!/bin/bash\nwhile :; do :; done\n"))
        entry = await rig.run(busy, uris=[])
        mark = rig.mark()

        def busy_one(body: Any) -> bool:
            return any(s["instance"] == entry["instance"] and s["cpu"] > 0 for s in body["samples"])

        usage = await rig.hears("ingot.dea.usage", busy_one, since=mark)
        (sample,) = usage["samples"]
        assert (usage["dea"], sample["droplet"], sample["reserved"]) == (rig.id, 12, 128)
        assert 0 < sample["used"] < 128
        assert sample["restarted"] is False
        assert 0.5 < usage["seconds"] < 60
        mark = rig.mark()
        os.killpg(rig.main_pid(entry["instance"]), signal.SIGKILL)
        await rig.hears("ingot.dea.usage", lambda b: any(s["restarted"] for s in b["samples"]), since=mark)
        await rig.hears("ingot.dea.usage", lambda b: b["samples"] == [], since=rig.mark())
    finally:
        await rig.stop()
