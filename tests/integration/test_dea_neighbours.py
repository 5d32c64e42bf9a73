"""Applications that misbehave, beside one that does not; and what a DEA keeps, for how long."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dea_rig import DeaRig, droplet

PLACE = '#!/bin/bash\ncd "$(dirname "$0")/app"\n'
FILLER = PLACE + "while :; do head -c 1000000 /dev/urandom >>filling; sleep 0.01; done\n"
# The file has no name any more when it grows.
HIDDEN_FILLER = (
    PLACE + "exec 5>filling; rm filling; while :; do head -c 1000000 /dev/urandom >&5; sleep 0.01; done\n"
)
LITTERER = PLACE + 'for ((n = 0; ; n++)); do : >"file$n"; done\n'
STUBBORN = (
    PLACE + "trap '' TERM\n(trap '' TERM; echo $BASHPID >child; while :; do sleep 1000; done) &\nwait\n"
)
LIMITS = {"mem": 128, "disk": 8, "fds": 256}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[DeaRig]:
    rig = DeaRig(
        tmp_path,
        stop_grace=0.3,
        most_files=2000,
        file_mb=4,
        crash_keep=3,
        cache_mb=1,
        intervals={"beat": 0.2, "heartbeat": 0.5, "monitor": 0.3, "lines": 0.1, "reaper": 0.2},
    )
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def test_neighbours_and_the_agent_do_not_notice(rig: DeaRig) -> None:
    good = await rig.run()
    pid = rig.main_pid(good["instance"])
    ends = {
        20: (HIDDEN_FILLER, "disk over 8 MB"),
        21: (LITTERER, "more than 2000 files"),
        22: (PLACE + "exec head -c 100000000 /dev/zero >one\n", "a file over 4 MB"),
        # Of files that are each short enough.
        23: (FILLER.replace(">>filling", ">filling$RANDOM"), "disk over 8 MB"),
    }
    for number, (startup, _why) in ends.items():
        message = rig.message(rig.keep(droplet(startup=startup)), droplet=number, uris=[], limits=LIMITS)
        if number != 20:
            await rig.bus.publish(f"dea.{rig.id}.start", message)
            continue
        # Each piece of it is below the length of one file, which counts for files without a name, too.
        message["limits"] = {**LIMITS, "disk": 2}
        await rig.bus.publish(f"dea.{rig.id}.start", message)
    for number, (_startup, why) in ends.items():
        exited = await rig.hears("droplet.exited", of(number))
        wanted = "disk over 2 MB" if number == 20 else why
        assert exited["detail"].startswith(wanted), exited
    os.kill(pid, 0)
    assert rig.main_pid(good["instance"]) == pid
    (found,) = await rig.ask("dea.find.droplet", {"droplet": 12, "include_stats": True})
    assert found["state"] == "RUNNING"
    assert (await rig.get(f"http://127.0.0.1:{found['stats']['port']}/"))[0] == 200
    assert (await rig.get(f"http://127.0.0.1:{rig.status_port}/readyz"))[0] == 200


async def test_a_child_that_ignores_sigterm_goes_with_its_instance(rig: DeaRig) -> None:
    entry = await rig.run(rig.keep(droplet(startup=STUBBORN)), uris=[])
    folder = rig.folder / "dea/instances" / entry["instance"]
    note = folder / "app/child"
    await rig.until(lambda: note.exists() and note.read_text(), "the child runs")
    child = int(note.read_text())
    await rig.bus.publish("dea.stop", {"droplet": 12})
    assert (await rig.hears("droplet.exited"))["reason"] == "STOPPED"
    await rig.until(lambda: not folder.exists(), "the folder is gone")
    await rig.until(lambda: not Path(f"/proc/{child}/stat").exists() or zombie(child), "the child is gone")


async def test_a_crash_is_kept_for_its_time_and_no_longer(rig: DeaRig) -> None:
    sha1 = rig.keep(droplet(startup="#!/bin/bash\nexit 3\n"))
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1, uris=[]))
    exited = await rig.hears("droplet.exited")
    folder = rig.folder / "dea/instances" / exited["instance"]
    assert folder.exists()
    await rig.hears("dea.heartbeat", lambda b: b["droplets"][0]["state"] == "CRASHED")
    await rig.until(lambda: not folder.exists(), "its files are gone")
    assert await rig.ask("dea.find.droplet", {"droplet": 12}, timeout=0.3) == []
    # One that flaps is not kept at all.
    mark = rig.mark()
    await rig.bus.publish(f"dea.{rig.id}.start", rig.message(sha1, uris=[], flapping=True, index=1))
    exited = await rig.hears("droplet.exited", since=mark)
    folder = rig.folder / "dea/instances" / exited["instance"]
    await rig.until(lambda: not folder.exists(), "its files are gone, too")


async def test_the_cache_stays_within_its_bound(rig: DeaRig) -> None:
    def large(name: str) -> str:
        return rig.keep(droplet({f"app/{name}": os.urandom(400_000).hex()}))

    first, second, third = large("a"), large("b"), large("c")
    cache = rig.folder / "dea/droplets"

    def cached() -> set[str]:
        return {path.stem for path in cache.glob("*.tgz")}

    await rig.run(first, droplet=1)
    await rig.run(second, droplet=2)
    assert cached() == {first, second}
    await rig.run(first, droplet=3)
    await rig.run(third, droplet=4)
    # The longest unused had to go.
    assert cached() == {first, third}


def of(number: int) -> Callable[[Any], bool]:
    return lambda body: bool(body["droplet"] == number)


def zombie(pid: int) -> Any:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
